"""Pins, conflicts between them, and the hourly allowance."""

import pytest

from ingest.errors import TenantNotAllowed
from ingest.verifying.tenants import (
    HourlyAllowance,
    LiveEventsPin,
    NoticesPin,
    Tenant,
    TenantConflict,
    Tenants,
    TenantUnknown,
)


def _school(name: str, account: str, *subscriptions: str) -> Tenant:
    pin = LiveEventsPin(root_account_uuid=account, subscription_ids=frozenset(subscriptions))
    return Tenant(name=name, live_events=(pin,))


def _tool(name: str, client: str, *deployments: str, issuer: str = "platform") -> Tenant:
    pin = NoticesPin(issuer=issuer, client_id=client, deployment_ids=frozenset(deployments))
    return Tenant(name=name, pns=(pin,))


def test_no_tenants_means_nobody_may_send() -> None:
    nobody = Tenants([])
    with pytest.raises(TenantNotAllowed):
        nobody.of_live_event("r", "s")
    with pytest.raises(TenantUnknown):
        nobody.of_live_event(None, "s")
    with pytest.raises(TenantNotAllowed):
        nobody.of_notice("platform", "c", "d")


@pytest.mark.parametrize("subscription", ["s1", None])
def test_root_account_without_subscriptions_admits_all_of_them(subscription: str | None) -> None:
    assert Tenants([_school("a", "r")]).of_live_event("r", subscription) == "a"


def test_other_root_account_is_not_allowed() -> None:
    with pytest.raises(TenantNotAllowed):
        Tenants([_school("a", "r")]).of_live_event("R", None)


@pytest.mark.parametrize("subscription", ["s3", None, ""])
def test_pinned_subscriptions_keep_all_others_out(subscription: str | None) -> None:
    tenants = Tenants([_school("a", "r", "s1", "s2")])
    assert tenants.of_live_event("r", "s2") == "a"
    with pytest.raises(TenantNotAllowed):
        tenants.of_live_event("r", subscription)


def test_one_root_account_may_be_shared_out_by_subscription() -> None:
    tenants = Tenants([_school("a", "r", "s1"), _school("b", "r", "s2")])
    assert [tenants.of_live_event("r", s) for s in ("s1", "s2")] == ["a", "b"]


def test_event_without_an_account_belongs_to_whoever_pins_its_subscription() -> None:
    tenants = Tenants([_school("a", "r", "s1"), _school("b", "q")])
    assert tenants.of_live_event(None, "s1") == "a"


@pytest.mark.parametrize("subscription", ["s9", None, ""])
def test_event_without_an_account_or_a_pinned_subscription_has_no_tenant(
    subscription: str | None,
) -> None:
    with pytest.raises(TenantUnknown):
        Tenants([_school("a", "r", "s1"), _school("b", "q")]).of_live_event(None, subscription)


def test_client_without_deployments_admits_all_of_them() -> None:
    tenants = Tenants([_tool("a", "c")])
    assert [tenants.of_notice("platform", "c", d) for d in ("d", None)] == ["a", "a"]


@pytest.mark.parametrize(
    ("issuer", "client", "deployment"),
    [("platform", "c", "d2"), ("platform", "c", None), ("platform", "x", "d1"), ("x", "c", "d1")],
)
def test_notice_must_fit_issuer_client_and_deployment(
    issuer: str, client: str, deployment: str | None
) -> None:
    tenants = Tenants([_tool("a", "c", "d1")])
    assert tenants.of_notice("platform", "c", "d1") == "a"
    with pytest.raises(TenantNotAllowed):
        tenants.of_notice(issuer, client, deployment)


def test_one_client_may_be_shared_out_by_deployment_and_by_platform() -> None:
    tenants = Tenants(
        [_tool("a", "c", "d1"), _tool("b", "c", "d2"), _tool("e", "c", issuer="other")]
    )
    found = [tenants.of_notice("platform", "c", d) for d in ("d1", "d2")]
    assert [*found, tenants.of_notice("other", "c", "d1")] == ["a", "b", "e"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (_school("a", "r"), _school("b", "r"), "root account r"),
        (_school("a", "r"), _school("b", "r", "s1"), "root account r"),
        (_school("a", "r", "s1"), _school("b", "r", "s1", "s2"), "root account r"),
        (_school("a", "r", "s1"), _school("b", "q", "s1"), "subscription s1"),
        (_tool("a", "c"), _tool("b", "c"), "client c"),
        (_tool("a", "c"), _tool("b", "c", "d1"), "client c"),
        (_tool("a", "c", "d1"), _tool("b", "c", "d1"), "client c"),
    ],
)
def test_two_tenants_that_claim_the_same_are_named(
    first: Tenant, second: Tenant, named: str, order: int
) -> None:
    with pytest.raises(TenantConflict, match=named) as caught:
        Tenants([first, second][::order])
    assert "a" in str(caught.value).split()
    assert "b" in str(caught.value).split()


def test_tenant_may_repeat_its_own_claim() -> None:
    twice = Tenant(
        name="a",
        live_events=(
            LiveEventsPin(root_account_uuid="r", subscription_ids=frozenset({"s1"})),
            LiveEventsPin(root_account_uuid="r"),
        ),
    )
    assert Tenants([twice]).of_live_event("r", "s9") == "a"


def test_allowance_passes_so_many_and_begins_anew_each_hour() -> None:
    allowance = HourlyAllowance(2)
    times = [7_200.0, 7_300.5, 10_799.9, 10_800.0, 10_800.0, 10_800.0]
    passed = [allowance.passes(at, f"subscription-{n}") for n, at in enumerate(times)]
    assert passed == [True, True, False, True, True, False]


def test_one_subscription_has_a_quarter_of_the_allowance_and_leaves_the_rest() -> None:
    allowance = HourlyAllowance(1_000)
    assert sum(allowance.passes(0.0, "stranger") for _ in range(2_000)) == 250
    assert sum(allowance.passes(0.0, "ours") for _ in range(200)) == 200
    assert sum(allowance.passes(0.0, None) for _ in range(2_000)) == 250
    assert sum(allowance.passes(0.0, f"further-{n}") for n in range(2_000)) == 300
    assert allowance.passes(3_600.0, "stranger")


def test_no_allowance_passes_nothing() -> None:
    assert not HourlyAllowance(0).passes(0.0, None)


def test_times_that_come_out_of_order_do_not_renew_the_allowance() -> None:
    # two requests that straddle the hour may be judged in either order
    allowance = HourlyAllowance(1)
    times = [3_599.9, 3_600.0, 3_599.9, 3_600.0]
    assert [allowance.passes(at, None) for at in times] == [True, True, False, False]


def test_allowance_in_bytes_counts_bytes() -> None:
    allowance = HourlyAllowance(1_000)
    assert [allowance.passes(0.0, "one", 200), allowance.passes(0.0, "one", 51)] == [True, False]
    assert allowance.passes(0.0, "one", 50)
    others = [allowance.passes(0.0, name, 250) for name in ("two", "three", "four", "five")]
    assert others == [True, True, True, False]


_SLUG = "a-slug-that-nobody-guesses"


def test_slug_leads_to_its_tenant_and_no_other_text_does() -> None:
    tenants = Tenants([Tenant(name="a", slug=_SLUG), Tenant(name="b", slug=_SLUG[::-1])])
    assert [tenants.of_slug(slug) for slug in (_SLUG, _SLUG[::-1])] == ["a", "b"]
    others = ("", "a", _SLUG[:-1], _SLUG + "x", _SLUG.upper(), "\ud800", "\u00e9" * 26)
    assert [tenants.of_slug(other) for other in others] == [None] * len(others)


def test_only_who_has_a_slug_has_a_path_of_its_own() -> None:
    tenants = Tenants([Tenant(name="a", slug=_SLUG), Tenant(name="b")])
    assert [tenants.has_slug(name) for name in ("a", "b", "c")] == [True, False, False]


def test_two_tenants_with_one_slug_are_named_and_the_slug_is_not() -> None:
    with pytest.raises(TenantConflict, match="a and b both claim the same slug") as caught:
        Tenants([Tenant(name="a", slug=_SLUG), Tenant(name="b", slug=_SLUG)])
    assert _SLUG not in str(caught.value) + repr(Tenant(name="a", slug=_SLUG))
