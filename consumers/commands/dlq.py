"""`forebay-consumers dlq`: the records that no rows could be made of."""

import base64
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import click

from consumers.batch import Batch
from consumers.commands.console import (
    FAILED,
    Misuse,
    dry_run_option,
    errors_in_one_line,
    json_option,
    once_free,
    run,
    settings,
    show_rows,
)
from consumers.dead_letters.dead_letter import DeadLetters, Letter, letters
from consumers.dead_letters.replay import Outcome, Replay
from consumers.projections import all_tables
from consumers.settings import Settings
from consumers.values import PoisonReason
from consumers.wiring import open_dead_letters, open_sink
from ingest.contract.catalogue import catalogue

_places = click.argument("places", nargs=-1, metavar="[TOPIC/PARTITION@OFFSET]...")
_all_option = click.option("--all", "everything", is_flag=True, help="All that are open.")
_reason_option = click.option(
    "--reason", type=click.Choice(get_args(PoisonReason)), help="Only of this reason."
)


@click.group()
def dlq() -> None:
    """Dead letters of this worker: list them, look at them, replay or drop them."""


@dlq.command("list")
@_reason_option
@click.option("--all", "everything", is_flag=True, help="Also what was replayed or dropped.")
@json_option
@errors_in_one_line
def list_(reason: str | None, everything: bool, as_json: bool) -> None:
    """List what is open, oldest first."""
    found = run(_letters(settings()))
    shown = [
        letter
        for letter in found
        if (everything or letter.state == "open") and reason in (None, letter.reason)
    ]
    show_rows([_summary(letter) for letter in shown], as_json=as_json)


@dlq.command()
@click.argument("place", metavar="TOPIC/PARTITION@OFFSET")
@json_option
@errors_in_one_line
def show(place: str, as_json: bool) -> None:
    """Show one letter whole. Its value is shown as it is, personal data and all."""
    letter = _named(run(_letters(settings())), [place])[0]
    record = letter.record
    whole = {
        **_summary(letter),
        "decided_at": letter.decided_at,
        "key": record.key.decode(errors="backslashreplace"),
        "headers": {n: v.decode(errors="backslashreplace") for n, v in record.headers},
        **_value(record.value),
    }
    if as_json:
        show_rows([whole], as_json=True)
        return
    for name, value in whole.items():
        show_rows([{"name": f"{name}:", "value": value}], as_json=False)


@dlq.command()
@_places
@_reason_option
@_all_option
@dry_run_option
@json_option
@errors_in_one_line
def replay(
    places: tuple[str, ...], reason: str | None, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Write the rows of letters that can be read by now, each event once. Exit 1 if one stays."""
    outcomes = run(_decided(settings(), "replay", places, reason, everything, dry_run=dry_run))
    _finish(outcomes, as_json=as_json)


@dlq.command()
@_places
@_reason_option
@_all_option
@dry_run_option
@json_option
@errors_in_one_line
def drop(
    places: tuple[str, ...], reason: str | None, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Decide that letters are not wanted. They are kept, but no longer open."""
    outcomes = run(_decided(settings(), "drop", places, reason, everything, dry_run=dry_run))
    _finish(outcomes, as_json=as_json)


async def _letters(ours: Settings) -> Sequence[Letter]:
    async with open_dead_letters(ours) as kept:
        found, unreadable = await letters(kept)
    if unreadable:
        what = "records among the dead letters are not of a form that this release reads"
        click.echo(f"forebay-consumers: {unreadable} {what}", err=True)
    return found


async def _decided(
    ours: Settings,
    what: str,
    places: Sequence[str],
    reason: str | None,
    everything: bool,
    *,
    dry_run: bool,
) -> list[Outcome]:
    if bool(places) == everything:
        raise Misuse("name letters, or give --all")
    found = await _letters(ours)
    chosen = [letter for letter in (found if everything else _named(found, places))
              if reason in (None, letter.reason)]  # fmt: skip
    wanted = [letter for letter in chosen if letter.state == "open"]
    already = [
        Outcome(place=letter.place, outcome=f"already {letter.state}")
        for letter in chosen
        if letter.state != "open" and not everything
    ]
    decide = _drop if what == "drop" else _replay
    return already + await decide(ours, wanted, dry_run=dry_run)


async def _replay(ours: Settings, wanted: Sequence[Letter], *, dry_run: bool) -> list[Outcome]:
    async with open_sink(ours) as sink, open_dead_letters(ours) as kept:
        if not dry_run:
            await once_free(sink.open)
            await kept.open()

        async def write(batch: Batch) -> object:
            return await once_free(lambda: sink.write(batch))

        return await _replay_into(ours, kept, write, dry_run=dry_run).replay(wanted)


async def _drop(ours: Settings, wanted: Sequence[Letter], *, dry_run: bool) -> list[Outcome]:
    async def write(batch: Batch) -> object:
        raise AssertionError("what is dropped is written nowhere")

    async with open_dead_letters(ours) as kept:
        if not dry_run:
            await kept.open()
        return await _replay_into(ours, kept, write, dry_run=dry_run).drop(wanted)


def _replay_into(
    ours: Settings,
    kept: DeadLetters,
    write: Callable[[Batch], Awaitable[object]],
    *,
    dry_run: bool,
) -> Replay:
    return Replay(
        kept=kept,
        write=write,
        project=all_tables(catalogue()),
        prefix=ours.topics.prefix,
        worker=ours.worker.name,
        dry_run=dry_run,
    )


def _named(found: Sequence[Letter], places: Sequence[str]) -> list[Letter]:
    """The letters of these places. Raises Misuse."""
    by_place = {letter.place: letter for letter in found}
    missing = [place for place in places if place not in by_place]
    if missing:
        raise Misuse(f"there is no dead letter {missing[0]}: see `forebay-consumers dlq list`")
    return [by_place[place] for place in dict.fromkeys(places)]


def _finish(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Says what became of each, and ends with 1 if one stays."""
    rows = [{"place": o.place, "outcome": o.outcome, "why": o.why} for o in outcomes]
    show_rows(rows, as_json=as_json)
    sys.exit(FAILED if any(outcome.why for outcome in outcomes) else 0)


def _summary(letter: Letter) -> dict[str, Any]:
    kept_at = datetime.fromtimestamp(letter.kept_at_ms / 1000, UTC)
    return {
        "place": letter.place,
        "reason": letter.reason,
        "state": letter.state,
        "kept_at": kept_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "bytes": len(letter.record.value),
    }


def _value(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}
