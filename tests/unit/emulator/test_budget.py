from __future__ import annotations

from tests.emulator.budget import LIMITS, WINDOW_S, Budget
from tests.unit.emulator.test_oracle import delivery

DAY_S = 86_400.0


def test_the_published_limits() -> None:
    assert LIMITS == {"timeout": 9_500, "error": 28_000}
    assert WINDOW_S == DAY_S


def test_only_the_last_failed_try_costs_and_by_its_kind() -> None:
    budget = Budget()
    budget.add(delivery("a", 503, final=False))
    budget.add(delivery("a", None, final=False, attempt=2))
    budget.add(delivery("a", 503, attempt=4))
    budget.add(delivery("b", None, error="Connection refused"))
    budget.add(delivery("c", 202))
    budget.add(delivery("d", 401, role="repeat"))
    report = budget.report(10)
    assert report.used == report.exhausted == {"timeout": 1, "error": 2}
    assert report.used_ratio == {"timeout": round(1 / 9_500, 4), "error": round(2 / 28_000, 4)}
    assert not report.deactivated


def test_notices_and_forgeries_cost_nothing() -> None:
    budget = Budget()
    budget.add(delivery("a", 503, lane="pns"))
    budget.add(delivery("b", 401, role="forgery"))
    assert budget.report(10).exhausted == {"timeout": 0, "error": 0}


def test_the_limit_within_a_day_is_deactivation_and_stays_so() -> None:
    budget = Budget(limits={"timeout": 3, "error": 5})
    for at_s in (0.0, 10.0, 20.0):
        assert not budget.report(at_s).deactivated
        budget.add(delivery(str(at_s), None, sent_at_s=at_s, elapsed_s=0))
    assert budget.report(20).deactivated_at_s == 20
    later = budget.report(30 + DAY_S)
    assert later.used == {"timeout": 0, "error": 0}
    assert later.peak_ratio == {"timeout": 1.0, "error": 0.0}
    assert later.deactivated


def test_what_is_a_day_old_no_longer_counts() -> None:
    budget = Budget(limits={"timeout": 3, "error": 3})
    for at_s in (0.0, 10.0, DAY_S + 5, DAY_S + 6):
        budget.add(delivery(str(at_s), 500, sent_at_s=at_s, elapsed_s=0))
    # the one of second 10 still counted when the next two came
    assert budget.report(DAY_S + 6).deactivated
    slower = Budget(limits={"timeout": 3, "error": 3})
    for at_s in (0.0, 10.0, DAY_S + 10, DAY_S + 11):
        slower.add(delivery(str(at_s), 500, sent_at_s=at_s, elapsed_s=0))
    report = slower.report(DAY_S + 11)
    assert not report.deactivated
    assert (report.used["error"], report.exhausted["error"]) == (2, 4)
    assert report.peak_ratio["error"] == round(2 / 3, 4)
