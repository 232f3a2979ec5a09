"""`python -m tests.faults`: runs the matrix, or one row of it, and says what held."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from tests.faults import results
from tests.faults.grounds import Grounds
from tests.faults.matrix import ROWS, Case, Row
from tests.faults.stolen import Stolen
from tests.faults.verdict import Tally
from tests.kafka.errors import KafkaUnavailable

UNFAIR_SHARE: Final = 0.05
MOST_AGAIN: Final = 3
"""A case that is late although the machine was its own has failed; else it has some more tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one case came to; an error of the case itself is among the violations."""

    row: Row
    case: Case
    seed: int
    seconds: float
    tally: Tally


@click.command()
@click.option("--row", "number", type=int, help="Run this row alone.")
@click.option("--case", "name", help="Run the cases of this name alone.")
@click.option("--seed", type=int, help="Draw everything from it; a new one by default.")
@click.option(
    "--load", default=1.0, help="Share of the load to send; below 1 what is measured says nothing."
)
@click.option("--quick", is_flag=True, help="Run what `make test` runs.")
def main(number: int | None, name: str | None, seed: int | None, load: float, quick: bool) -> None:
    """Break things, one after the other, and count what was lost. Exit 1 if anything was."""
    chosen = [
        (row, case)
        for row in ROWS
        for case in row.cases
        if number in (None, row.number) and name in (None, case.name) and (case.quick or not quick)
    ]
    if not chosen:
        raise click.UsageError("there is no such case")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    began = time.monotonic()
    click.echo(f"faults: {len(chosen)} cases, seed {seed}")
    try:
        outcomes = asyncio.run(_run(chosen, seed, quick=quick, load=load))
    except KafkaUnavailable as error:
        sys.exit(f"faults: {str(error).splitlines()[0]}")
    _finish(outcomes, seed, whole=len(chosen) == sum(len(row.cases) for row in ROWS) and load == 1)
    click.echo(f"took {time.monotonic() - began:.0f} s", err=True)
    sys.exit(0 if all(outcome.tally.held for outcome in outcomes) else 1)


async def _run(
    chosen: list[tuple[Row, Case]], seed: int, *, quick: bool, load: float
) -> list[Outcome]:
    """First those that have the machine to themselves, then the others, two at a time."""
    directory = Path(tempfile.mkdtemp(prefix="forebay-faults-"))
    click.echo(f"logs are kept in {directory}", err=True)
    outcomes: list[Outcome] = []

    async def lane(name: str, cases: Iterator[tuple[Row, Case]]) -> None:
        async with Grounds(directory / name, quick=quick, load=load) as grounds:
            for row, case in cases:
                outcomes.append(await _outcome(grounds, row, case, seed))
                _tell(outcomes[-1])

    await lane("alone", (each for each in chosen if each[0].alone))
    beside = iter([each for each in chosen if not each[0].alone])
    await asyncio.gather(lane("first", beside), lane("second", beside))
    return sorted(outcomes, key=lambda outcome: outcome.row.number)


def _tell(outcome: Outcome) -> None:
    click.echo(_line(outcome))
    for measured in outcome.tally.measured:
        click.echo(f"    {measured}")
    for violation in outcome.tally.violations:
        click.echo(f"    {violation}")


async def _outcome(grounds: Grounds, row: Row, case: Case, seed: int) -> Outcome:
    began = time.monotonic()
    tally = await _judged(grounds, case, seed)
    return Outcome(row=row, case=case, seed=seed, seconds=time.monotonic() - began, tally=tally)


async def _judged(grounds: Grounds, case: Case, seed: int) -> Tally:
    """What the case comes to; again, where it was only late and the machine was taken away."""
    again: list[str] = []
    while True:
        stolen = Stolen()
        tally = await case.tally(grounds, seed)
        share = stolen.share()
        if not tally.is_only_late or share < UNFAIR_SHARE or len(again) == MOST_AGAIN:
            return replace(tally, measured=(*again, *tally.measured))
        late = "; ".join(violation.seen for violation in tally.violations)
        again.append(
            f"{case.name} was late ({late}) while the hypervisor took {share:.0%} of the"
            " processor time, and was run again"
        )
        click.echo(again[-1])


def _line(outcome: Outcome) -> str:
    tally = outcome.tally
    return (
        f"{'ok  ' if tally.held else 'FAIL'} row {outcome.row.number:2} {outcome.case.name}:"
        f" {tally.events} events, {tally.acked} acked, {tally.lost} lost,"
        f" {tally.untrusted} untrusted, {tally.duplicate_rows} duplicate rows,"
        f" longest {tally.longest_request_s:.1f} s; {outcome.seconds:.0f} s"
    )


def _finish(outcomes: list[Outcome], seed: int, *, whole: bool) -> None:
    tallies: dict[int, Tally] = {}
    runs: dict[int, int] = {}
    for outcome in outcomes:
        number = outcome.row.number
        tallies[number] = tallies.get(number, Tally()) + outcome.tally
        runs[number] = runs.get(number, 0) + 1
    if whole:
        results.PATH.write_text(results.report(ROWS, tallies, runs, seed=seed))
    for outcome in outcomes:
        if not outcome.tally.held:
            click.echo(f"row {outcome.row.number} failed ({_why(outcome.tally)}); again by:")
            click.echo(f"    make faults ROW={outcome.row.number} SEED={outcome.seed}")
    click.echo(results.last_line(tallies))


def _why(tally: Tally) -> str:
    broken = {violation.invariant for violation in tally.violations}
    broken |= {"I3"} if tally.lost or tally.duplicate_rows else set()
    broken |= {"I2"} if tally.untrusted else set()
    return ", ".join(sorted(broken))


if __name__ == "__main__":
    main(prog_name="python -m tests.faults")
