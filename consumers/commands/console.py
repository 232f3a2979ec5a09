"""What the commands share: options, settings, and errors in one line with the right exit code."""

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
import orjson

from consumers.errors import SinkBusy, StartupError, WorkerRunning
from consumers.retry import SINK_RETRY, retried
from consumers.settings import Settings
from ingest.contract.eventlog.eventlog import LogFileError
from ingest.shared.environment import SettingsError, load
from ingest.shared.kafka.clients import TopicError

FAILED, MISUSED = 1, 2
STORE_TIMEOUT_S = 15.0

P = ParamSpec("P")
Result = TypeVar("Result")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Change nothing, say what would be.")


class _Moment(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "moment"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date or time such as 2026-09-07T12:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


MOMENT = _Moment()
"""An option's value that is a time, or a date for its first moment; without an offset it is UTC."""


class Misuse(Exception):
    """What the user can put right, in one line; exit code 2."""


def errors_in_one_line(command: Callable[P, Result]) -> Callable[P, Result]:
    """Ends with the right exit code where the command cannot go on."""

    @functools.wraps(command)
    def careful(*args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except (WorkerRunning, SinkBusy) as error:
            end(str(error), FAILED)
        except (Misuse, SettingsError, StartupError, LogFileError, TopicError) as error:
            end(str(error), MISUSED)

    return careful


def settings(given: Mapping[str, Any] | None = None) -> Settings:
    """The settings from the environment, and what options give instead; or the end."""
    try:
        return load(Settings, given)
    except SettingsError as error:
        end(str(error), MISUSED)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end."""
    return asyncio.run(main)


async def once_free(call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """The call's result as soon as the store is free, within bounds. Raises SinkBusy."""
    last = SinkBusy("it does not answer")

    async def once() -> Result:
        nonlocal last
        try:
            return await call()
        except SinkBusy as error:
            last = error
            raise

    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            return await retried(once, SINK_RETRY)
    except TimeoutError:
        raise SinkBusy(
            f"the store could not be had for {STORE_TIMEOUT_S:g} s: {last}. Try again"
        ) from None


def show_rows(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """One line for each row, or one JSON array; whatever others wrote stays within its line."""
    if as_json:
        click.echo(orjson.dumps(list(rows), option=orjson.OPT_INDENT_2))
        return
    for row in rows:
        texts = ("-" if value is None else str(value) for value in row.values())
        click.echo("  ".join(_printable(text) for text in texts))


@contextmanager
def progress(count: int, label: str) -> Iterator[Callable[[int], object]]:
    """Takes how many more of `count` are done; on a terminal, a bar on stderr shows it."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    with click.progressbar(length=count, label=label, file=sys.stderr) as bar:
        yield bar.update


def end(reason: str, status: int) -> NoReturn:
    """Says why on stderr and ends the process."""
    for line in reason.splitlines():
        click.echo(f"forebay-consumers: {line}", err=True)
    sys.exit(status)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
