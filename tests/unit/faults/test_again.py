"""A case is run again only where it was late, and only late, on a machine that was taken away."""

from __future__ import annotations

from typing import cast

import pytest

from tests.faults import __main__ as faults
from tests.faults.grounds import Grounds
from tests.faults.matrix import Case
from tests.faults.verdict import Tally, Violation

LATE = Tally(violations=(Violation(invariant="clock", seen="p99 was 1 s"),))
WRONG = Tally(violations=(*LATE.violations, Violation(invariant="case", seen="no answer")))
LOST = Tally(lost=1, violations=LATE.violations)
GOOD = Tally(acked=7)


async def _judged(
    monkeypatch: pytest.MonkeyPatch, *tallies: Tally, stolen: float
) -> tuple[Tally, int]:
    """What a case comes to that gives these tallies in turn, and how many were asked for."""
    left = list(tallies)

    async def run(grounds: Grounds, seed: int) -> Tally:
        return left.pop(0)

    class Thief:
        def share(self) -> float:
            return stolen

    monkeypatch.setattr(faults, "Stolen", Thief)
    case = Case(name="case", run=run, quick=False)
    tally = await faults._judged(cast(Grounds, None), case, 1)
    return tally, len(tallies) - len(left)


async def test_late_case_is_run_again_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, runs = await _judged(monkeypatch, LATE, LATE, GOOD, stolen=0.4)
    assert (tally.held, tally.acked, runs) == (True, 7, 3)
    assert len(tally.measured) == 2
    assert "p99 was 1 s" in tally.measured[0]
    assert "40%" in tally.measured[0]


async def test_late_case_has_failed_at_once_on_a_machine_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tally, runs = await _judged(monkeypatch, LATE, GOOD, stolen=0.01)
    assert (tally.held, runs) == (False, 1)


@pytest.mark.parametrize("tally", [WRONG, LOST])
async def test_what_is_wrong_is_never_tried_again(
    monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    judged, runs = await _judged(monkeypatch, tally, GOOD, stolen=0.9)
    assert (judged.held, runs) == (False, 1)


async def test_tries_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, runs = await _judged(monkeypatch, *[LATE] * 9, stolen=0.4)
    assert (tally.held, runs) == (False, 1 + faults.MOST_AGAIN)
