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
from tests.faults.matrix import Run, name_of
from tests.faults.verdict import Tally, Violation
from tests.siege import cases

CASES: Final[Sequence[Run]] = (
    cases.plain_bodies,
    cases.packed_bodies,
    cases.bombs,
    cases.bombs_at_once,
    cases.forged_notices,
    cases.forged_notices_without_keys,
    cases.unknown_keys,
    cases.slow_bodies,
    cases.slow_heads,
    cases.idle_connections,
    cases.few_descriptors,
    cases.unfinished_handshakes,
    cases.unreadable_claims,
    cases.replays,
    cases.endless_heads,
    cases.wide_events,
    cases.smuggling,
    cases.garbage,
)


@click.command()
@click.option("--attack", "wanted", help="Run this one alone.")
@click.option("--seed", type=int, default=1, help="Draw the school from it.")
def main(wanted: str | None, seed: int) -> None:
    """Attack a real receiver in every way we know, with genuine traffic beside it.

    Exit 1 if genuine senders felt any of it, or something did not hold.
    """
    chosen = [case for case in CASES if wanted in (None, name_of(case))]
    if not chosen:
        raise click.UsageError("there is no such attack")
    tallies = asyncio.run(_run(chosen, seed))
    whole = sum(tallies, Tally())
    click.echo(
        f"siege: {len(tallies)} attacks, genuine {whole.acked} of {whole.events} answered,"
        f" worst {whole.longest_request_s:.1f} s, peak {whole.peak_bytes / 1e6:.0f} MB"
    )
    sys.exit(0 if whole.held else 1)


async def _run(chosen: Sequence[Run], seed: int) -> list[Tally]:
    directory = Path(tempfile.mkdtemp(prefix="forebay-siege-"))
    click.echo(f"logs are kept in {directory}", err=True)
    tallies = []
    async with Grounds(directory) as grounds:
        for case in chosen:
            try:
                tally = await case(grounds, seed)
            except Exception as error:  # whatever ends an attack early, the others are to run
                seen = f"{name_of(case)}: {type(error).__name__}: {error}"
                tally = Tally(violations=(Violation(invariant="case", seen=seen),))
            for line in (*tally.measured, *map(str, tally.violations)):
                click.echo(line)
            tallies.append(tally)
    return tallies


if __name__ == "__main__":
    main(prog_name="python -m tests.siege")
