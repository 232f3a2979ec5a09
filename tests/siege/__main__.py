"""`python -m tests.siege`: every attack on a receiver of its own, and what it came to."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from tests.faults.grounds import Grounds
from tests.faults.matrix import ROWS, Case
from tests.faults.verdict import Tally

ROW_NUMBERS: Final = (17, 32)
"""The rows of the fault matrix whose cases the attacks are."""


@click.command()
@click.option("--attack", "wanted", help="Run this one alone.")
@click.option("--seed", type=int, default=1, help="Draw the school from it.")
def main(wanted: str | None, seed: int) -> None:
    """Attack a real receiver in every way we know, with genuine traffic beside it.

    Exit 1 if genuine senders felt any of it, or something did not hold.
    """
    cases = [case for row in ROWS if row.number in ROW_NUMBERS for case in row.cases]
    chosen = [case for case in cases if wanted in (None, case.name)]
    if not chosen:
        raise click.UsageError("there is no such attack")
    tallies = asyncio.run(_run(chosen, seed))
    whole = sum(tallies, Tally())
    click.echo(
        f"siege: {len(tallies)} attacks, genuine {whole.acked} of {whole.events} answered,"
        f" worst {whole.longest_request_s:.1f} s, peak {whole.peak_bytes / 1e6:.0f} MB"
    )
    sys.exit(0 if whole.held else 1)


async def _run(chosen: Sequence[Case], seed: int) -> list[Tally]:
    directory = Path(tempfile.mkdtemp(prefix="forebay-siege-"))
    click.echo(f"logs are kept in {directory}", err=True)
    tallies = []
    async with Grounds(directory) as grounds:
        for case in chosen:
            tally = await case.tally(grounds, seed)
            for line in (*tally.measured, *(f"{case.name}: {v}" for v in tally.violations)):
                click.echo(line)
            tallies.append(tally)
    return tallies


if __name__ == "__main__":
    main(prog_name="python -m tests.siege")
