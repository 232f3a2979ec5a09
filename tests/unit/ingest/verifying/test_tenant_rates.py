"""One school's flood is turned away, the others' events and all notices are not."""

from __future__ import annotations

from structlog.testing import capture_logs

from ingest.contract.envelope import Source
from ingest.errors import Overloaded
from ingest.values import Claims
from ingest.verifying.tenant_rates import TenantRates
from tests.support.clock import Clock


def _claims(tenant: str = "north", source: Source = "live-events") -> Claims:
    return Claims(
        source=source,
        format="canvas",
        issuer="https://issuer.example",
        received_at=0,
        payload={},
        tenant=tenant,
    )


def _taken(rates: TenantRates, claims: Claims, *, of: int) -> int:
    taken = 0
    for _ in range(of):
        try:
            rates.take(claims)
        except Overloaded:
            continue
        taken += 1
    return taken


def test_tenant_has_ten_seconds_worth_at_once_and_its_rate_from_then_on() -> None:
    clock = Clock()
    rates = TenantRates(3, clock=clock)
    assert _taken(rates, _claims(), of=100) == 30
    clock.advance(2)
    assert _taken(rates, _claims(), of=100) == 6


def test_other_tenants_are_not_touched() -> None:
    rates = TenantRates(1, clock=Clock())
    assert _taken(rates, _claims("north"), of=100) == 10
    assert _taken(rates, _claims("south"), of=5) == 5


def test_notices_are_never_refused_and_take_from_the_share_of_events() -> None:
    rates = TenantRates(1, clock=Clock())
    assert _taken(rates, _claims(source="pns"), of=20) == 20
    assert _taken(rates, _claims(), of=1) == 0


def test_without_a_rate_everything_is_taken() -> None:
    assert _taken(TenantRates(None), _claims(), of=1_000) == 1_000


def test_rate_below_one_still_lets_events_through() -> None:
    assert _taken(TenantRates(0.01, clock=Clock()), _claims(), of=3) == 1


def test_who_is_turned_away_is_told_once_a_minute() -> None:
    clock = Clock()
    rates = TenantRates(1, clock=clock)
    with capture_logs() as lines:
        _taken(rates, _claims(), of=50)
        clock.advance(61)
        _taken(rates, _claims(), of=100)
    assert [line["tenant"] for line in lines] == ["north", "north"]
