"""RESULTS.md: the table of a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.faults.matrix import Row
from tests.faults.verdict import Tally

PATH: Final = Path(__file__).with_name("RESULTS.md")

_HEAD: Final = """\
# What held while things broke

Written by `make faults`. `acked` events were answered 2xx; `lost` ones of them are in no topic, \
table, spool or
quarantine at the end; `untrusted` ones are in a trusted place and should not be; `duplicate rows` \
are rows beyond
the first of an event in any table; the longest request is measured at the sender, where 12 s are \
allowed.

"""
_COLUMNS: Final = (
    "row", "fault", "runs", "events", "acked", "lost", "untrusted admitted", "duplicate rows",
    "longest request",
)  # fmt: skip


def last_line(tallies: Mapping[int, Tally]) -> str:
    """What a run ends with; `tallies` by row."""
    total = sum(tallies.values(), Tally())
    return (
        f"faults: {len(tallies)} rows, {total.acked} acked, {total.lost} lost,"
        f" {total.untrusted} untrusted, {total.duplicate_rows} duplicate rows"
    )


def report(
    rows: Sequence[Row], tallies: Mapping[int, Tally], runs: Mapping[int, int], *, seed: int
) -> str:
    """The file's text."""
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    lines += [_result(row, tallies[row.number], runs[row.number]) for row in rows if row.cases]
    measured = [f"- {row.number}: {each}" for row in rows for each in _measured(tallies, row)]
    waiting = [f"- {row.number}, {row.fault}: {row.pending}" for row in rows if row.pending]
    return (
        _HEAD
        + "\n".join(lines)
        + f"\n\n{last_line(tallies)} (seed {seed})\n"
        + ("\nMeasured:\n\n" + "\n".join(measured) + "\n" if measured else "")
        + ("\nTo come:\n\n" + "\n".join(waiting) + "\n" if waiting else "")
    )


def _measured(tallies: Mapping[int, Tally], row: Row) -> tuple[str, ...]:
    return tallies[row.number].measured if row.number in tallies else ()


def _result(row: Row, tally: Tally, runs: int) -> str:
    counts = (tally.events, tally.acked, tally.lost, tally.untrusted, tally.duplicate_rows)
    return _line(
        [row.number, row.fault, runs, *(f"{count:,}" for count in counts),
         f"{tally.longest_request_s:.1f} s"]
    )  # fmt: skip


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
