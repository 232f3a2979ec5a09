"""Authentic events that no tenant pins: how they are said, remembered and kept, within bounds."""

from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from ingest.observing.tenants_seen import MAX_SENDERS, TenantsSeen
from ingest.values import TokenClaims
from ingest.verifying.unpinned import Keeping, Unpinned
from tests.support.builders import (
    CLIENT,
    DEPLOYMENT,
    NOTICE_CLAIM,
    NOW_S,
    PLATFORM,
    ROOT_ACCOUNT,
    SUBSCRIPTION,
    caliper_claims,
    live_event,
    live_event_claims,
    live_event_metadata,
    notice,
    notice_claims,
    without,
)


def _event(account: str = ROOT_ACCOUNT, **claims: Any) -> TokenClaims:
    metadata = live_event_metadata(root_account_uuid=account, hostname="campus.example.edu")
    return live_event(live_event_claims(**{"metadata": metadata, **claims}))


def _keeping(bytes_per_hour: int = 1 << 30) -> Keeping:
    return Keeping(bytes_per_hour=bytes_per_hour, leeway_s=300)


def test_event_is_said_with_its_ids_and_its_host_and_what_to_do() -> None:
    with capture_logs() as lines:
        Unpinned(TenantsSeen()).saw(_event(), "tenant_not_allowed", "root_account")
    (line,) = lines
    assert line["log_level"] == "warning"
    assert "tenants adopt" in line["event"]
    assert "tenants seen" in line["event"]
    assert line["root_account_uuid"] == ROOT_ACCOUNT
    assert line["subscription_id"] == SUBSCRIPTION
    assert line["hostname"] == "campus.example.edu"
    assert line["reason"] == "tenant_not_allowed"


def test_notice_is_said_with_issuer_client_and_deployment() -> None:
    with capture_logs() as lines:
        Unpinned(TenantsSeen()).saw(notice(), "tenant_not_allowed", "client")
    (line,) = lines
    assert (line["issuer"], line["client_id"], line["deployment_id"]) == (
        PLATFORM,
        CLIENT,
        DEPLOYMENT,
    )
    assert "root_account_uuid" not in line


def test_nothing_of_the_payload_is_said_or_remembered() -> None:
    seen = TenantsSeen()
    with capture_logs() as lines:
        for claims in (_event(body={"name": "a secret"}), live_event(caliper_claims())):
            Unpinned(seen).saw(claims, "tenant_not_allowed", "root_account")
    told = str(lines) + str(seen.seen())
    assert len(lines) == 2
    assert [
        word for word in ("a secret", "mjolsen", "request-11", "203.0.113") if word in told
    ] == []


def test_each_sender_is_said_once_and_counted() -> None:
    seen = TenantsSeen()
    unpinned = Unpinned(seen)
    with capture_logs() as lines:
        for account in ("a", "b", "a", "a"):
            unpinned.saw(_event(account), "tenant_not_allowed", "root_account")
    assert [line["root_account_uuid"] for line in lines] == ["a", "b"]
    counts = {sender.root_account_uuid: s.count for sender, s in seen.seen().items()}
    assert counts == {"b": 1, "a": 3}


def test_senders_without_end_fill_neither_memory_nor_log() -> None:
    seen = TenantsSeen()
    unpinned = Unpinned(seen)
    with capture_logs() as lines:
        for number in range(2 * MAX_SENDERS):
            unpinned.saw(_event(f"account-{number}"), "tenant_not_allowed", "root_account")
    assert len(seen.seen()) == MAX_SENDERS
    assert len(lines) < 40
    assert {s.root_account_uuid for s in seen.seen()} == {
        f"account-{number}" for number in range(MAX_SENDERS, 2 * MAX_SENDERS)
    }


def test_huge_and_broken_texts_are_cut() -> None:
    seen = TenantsSeen()
    metadata = live_event_metadata(root_account_uuid="x" * 99_999, hostname="\ud800" * 99_999)
    with capture_logs() as lines:
        claims = live_event(live_event_claims(metadata=metadata, subscription={"id": "y" * 99_999}))
        Unpinned(seen).saw(claims, "tenant_not_allowed", "root_account")
    ((sender, sighting),) = seen.seen().items()
    assert len(str(sender) + str(sighting)) < 3_000
    assert len(str(lines)) < 3_000
    assert str(sighting).encode()


def test_launch_is_no_notice_and_is_not_remembered() -> None:
    seen = TenantsSeen()
    launch = notice(without(notice_claims(), NOTICE_CLAIM))
    unpinned = Unpinned(seen, _keeping())
    unpinned.saw(launch, "tenant_not_allowed", "client")
    assert seen.seen() == {}
    assert not unpinned.may_be_kept(launch, 100)


def test_nothing_is_kept_unless_it_is_wanted() -> None:
    assert not Unpinned(TenantsSeen()).may_be_kept(_event(), 100)
    assert Unpinned(TenantsSeen(), _keeping()).may_be_kept(_event(), 100)
    assert Unpinned(TenantsSeen(), _keeping()).may_be_kept(notice(), 100)


@pytest.mark.parametrize("spoilt", [{"exp": 1}, {"exp": "soon"}, {"body": 0}])
def test_what_could_not_be_released_is_not_kept(spoilt: dict[str, Any]) -> None:
    assert not _keeping().takes(_event(**spoilt), 100)


def test_one_account_has_a_quarter_of_the_bytes_whatever_its_subscriptions() -> None:
    keeping = _keeping(bytes_per_hour=4_000)
    kept = [keeping.takes(_event(subscription={"id": f"s{n}"}), 100) for n in range(20)]
    assert sum(kept) == 10
    assert sum(keeping.takes(_event("other"), 100) for _ in range(20)) == 10
    assert sum(keeping.takes(notice(), 100) for _ in range(20)) == 10
    assert sum(keeping.takes(_event(f"further-{n}"), 100) for n in range(20)) == 10


def test_the_next_hour_begins_with_all_of_it() -> None:
    keeping = _keeping(bytes_per_hour=400)
    assert keeping.takes(_event(), 100)
    assert not keeping.takes(_event(), 100)
    later = replace(_event(exp=int(NOW_S) + 9_000), received_at=NOW_S + 3_600)
    assert keeping.takes(later, 100)
