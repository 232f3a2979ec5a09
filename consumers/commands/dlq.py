"""`forebay-consumers dlq`: the records that no rows could be made of."""

import base64
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import click

from consumers.batch import Batch
from consumers.commands.console import (
    FAILED,
    MOMENT,
    Misuse,
    dry_run_option,
    errors_in_one_line,
    json_option,
    once_free,
    progress,
    run,
    settings,
    show_rows,
)
from consumers.dead_letters.choosing import Filter, NoSuchLetter, named
from consumers.dead_letters.dead_letter import DeadLetters, Letter, letters
from consumers.dead_letters.replay import Outcome, Replay, Write
from consumers.settings import Settings
from consumers.values import PoisonReason
from consumers.wiring import open_dead_letters, open_sink, projection

_FILTERS = (
    click.option("--topic", metavar="NAME", help="Only of this topic; * stands for any text."),
    click.option("--reason", type=click.Choice(get_args(PoisonReason)), help="Only of this."),
    click.option("--since", type=MOMENT, help="Only if kept then or later."),
    click.option("--until", type=MOMENT, help="Only if kept before."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """What a command that decides was told."""

    places: Sequence[str]
    everything: bool
    filter_: Filter
    dry_run: bool

    def among(self, found: Sequence[Letter]) -> tuple[list[Letter], list[Outcome]]:
        """The open letters that are meant, and what to say of others. Raises Misuse."""
        chosen = [each for each in self._meant(found) if self.filter_.takes(each)]
        already = [
            Outcome(place=letter.place, outcome=f"already {letter.state}")
            for letter in chosen
            if letter.state != "open" and not self.everything
        ]
        return [letter for letter in chosen if letter.state == "open"], already

    def _meant(self, found: Sequence[Letter]) -> Sequence[Letter]:
        return found if self.everything else _named(found, self.places)


def _deciding(command: Callable[[_Decision], list[Outcome]]) -> Callable[..., None]:
    """A command that decides about letters: its arguments, its report, exit 1 if a letter stays."""

    @_all_of(
        click.argument("places", nargs=-1, metavar="[TOPIC/PARTITION@OFFSET]..."),
        *_FILTERS,
        click.option("--all", "everything", is_flag=True, help="All that are open."),
        dry_run_option,
        json_option,
        errors_in_one_line,
    )
    @functools.wraps(command)
    def decide(
        places: tuple[str, ...], everything: bool, dry_run: bool, as_json: bool, **filters: Any
    ) -> None:
        if bool(places) == everything:
            raise Misuse("name letters, or give --all")
        told = _Decision(
            places=places, everything=everything, filter_=Filter(**filters), dry_run=dry_run
        )
        outcomes = command(told)
        rows = [{"place": o.place, "outcome": o.outcome, "why": o.why} for o in outcomes]
        show_rows(rows, as_json=as_json)
        sys.exit(FAILED if any(outcome.why for outcome in outcomes) else 0)

    return decide


def _all_of(
    *decorators: Callable[[Any], Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """These decorators as one, the first outermost."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        return functools.reduce(lambda done, each: each(done), reversed(decorators), command)

    return decorated


@click.group()
def dlq() -> None:
    """Dead letters of this worker: list them, look at them, replay or drop them."""


@dlq.command("list")
@_all_of(*_FILTERS)
@click.option("--all", "everything", is_flag=True, help="Also what was replayed or dropped.")
@json_option
@errors_in_one_line
def list_(everything: bool, as_json: bool, **filters: Any) -> None:
    """List what is open, oldest first."""
    filter_ = Filter(**filters)
    shown = [
        _summary(letter)
        for letter in run(_letters(settings()))
        if (everything or letter.state == "open") and filter_.takes(letter)
    ]
    show_rows(shown, as_json=as_json)


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
@_deciding
def replay(told: _Decision) -> list[Outcome]:
    """Write the rows of letters that can be read by now, each event once. Exit 1 if one stays."""
    return run(_replay(settings(), told))


@dlq.command()
@_deciding
def drop(told: _Decision) -> list[Outcome]:
    """Decide that letters are not wanted. They are kept, but no longer open."""
    return run(_drop(settings(), told))


async def _letters(ours: Settings) -> Sequence[Letter]:
    async with open_dead_letters(ours) as kept:
        found, unreadable = await letters(kept)
    if unreadable:
        what = "records among the dead letters are not of a form that this release reads"
        click.echo(f"forebay-consumers: {unreadable} {what}", err=True)
    return found


async def _replay(ours: Settings, told: _Decision) -> list[Outcome]:
    wanted, already = told.among(await _letters(ours))
    async with open_sink(ours) as sink, open_dead_letters(ours) as kept:
        if not told.dry_run:
            await once_free(sink.open)
            await kept.open()

        async def write(batch: Batch) -> object:
            return await once_free(lambda: sink.write(batch))

        with _replaying(ours, told, kept, len(wanted), write) as replaying:
            return already + await replaying.replay(wanted)


async def _drop(ours: Settings, told: _Decision) -> list[Outcome]:
    wanted, already = told.among(await _letters(ours))

    async def write(batch: Batch) -> object:
        raise AssertionError("what is dropped is written nowhere")

    async with open_dead_letters(ours) as kept:
        if not told.dry_run:
            await kept.open()
        with _replaying(ours, told, kept, len(wanted), write) as replaying:
            return already + await replaying.drop(wanted)


@contextmanager
def _replaying(
    ours: Settings, told: _Decision, kept: DeadLetters, count: int, write: Write
) -> Iterator[Replay]:
    """A replay of so many letters, whose progress is shown."""
    with progress(count, "dead letters") as on_progress:
        yield Replay(
            kept=kept,
            write=write,
            project=projection(ours),
            prefix=ours.topics.prefix,
            worker=ours.worker.name,
            dry_run=told.dry_run,
            on_progress=on_progress,
        )


def _named(found: Sequence[Letter], places: Sequence[str]) -> list[Letter]:
    """The letters of these places. Raises Misuse."""
    try:
        return named(found, places)
    except NoSuchLetter as missing:
        raise Misuse(
            f"there is no dead letter {missing}: see `forebay-consumers dlq list`"
        ) from None


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
