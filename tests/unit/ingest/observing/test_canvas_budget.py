"""How near Canvas is to giving up on us, over a rolling day."""

from typing import Any

import pytest

from ingest.observing.canvas_budget import KINDS, CanvasBudget

_DAY_S = 24 * 3600
_NOW_S = 1_790_000_400.0  # a bucket of ten minutes begins here


def _spent(count: int, at_s: float = _NOW_S) -> CanvasBudget:
    budget = CanvasBudget()
    for _ in range(count):
        budget.spend("error", at_s)
    return budget


def test_nothing_is_used_at_first() -> None:
    assert [CanvasBudget().used_ratio(kind, _NOW_S) for kind in KINDS] == [0.0, 0.0]


def test_four_failed_tries_are_one_lost_event() -> None:
    budget = CanvasBudget()
    for _ in range(4 * 95):
        budget.spend("timeout", _NOW_S)
        budget.spend("error", _NOW_S)
    assert budget.used_ratio("timeout", _NOW_S) == pytest.approx(95 / 9_500)
    assert budget.used_ratio("error", _NOW_S) == pytest.approx(95 / 28_000)


def test_kinds_are_counted_apart() -> None:
    assert _spent(100).used_ratio("timeout", _NOW_S) == 0


def test_a_day_later_it_is_forgotten_and_not_earlier() -> None:
    budget = _spent(28_000)
    assert budget.used_ratio("error", _NOW_S + _DAY_S - 601) == 0.25
    assert budget.used_ratio("error", _NOW_S + _DAY_S) == 0


def test_the_day_rolls() -> None:
    budget = CanvasBudget()
    for hour in range(48):
        for _ in range(28):
            budget.spend("error", _NOW_S + hour * 3600)
    assert budget.used_ratio("error", _NOW_S + 47 * 3600) == pytest.approx(24 * 28 / 4 / 28_000)


def test_counts_of_long_ago_are_not_kept() -> None:
    budget = CanvasBudget()
    for bucket in range(2_000):
        budget.spend("error", _NOW_S + bucket * 600)
    assert len(budget.dump()["error"]) <= 2 * 144
    assert budget.used_ratio("error", _NOW_S + 1_999 * 600) == pytest.approx(144 / 4 / 28_000)


def test_next_process_goes_on_where_the_last_one_was() -> None:
    first = _spent(40)
    second = _spent(4)
    second.load(first.dump())
    assert second.used_ratio("error", _NOW_S) == pytest.approx(44 / 4 / 28_000)
    assert second.dump()["error"] == {int(_NOW_S // 600): 44}


@pytest.mark.parametrize(
    "dumped",
    [{}, {"error": {}}, {"other": {5: 1}}],
)
def test_what_is_no_dump_counts_nothing(dumped: Any) -> None:
    budget = _spent(4)
    before = budget.dump()
    budget.load(dumped)
    assert budget.dump() == before
