"""What the commands share: options, and errors in one line with the right exit code."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import IO, Any, ParamSpec, TypeVar

import click

from ingest.contract.eventlog.logfile import LogFileError
from ingest.shared.background import TaskEnded
from ingest.shared.environment import SettingsError
from ingest.shared.kafka.topic_admin import TopicError

P = ParamSpec("P")
Result = TypeVar("Result")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Misuse(click.ClickException):
    """What the user can put right, in one line; exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Says it on stderr."""
        click.echo(f"forebay-ingest: {self.message}", err=True)


def errors_in_one_line(command: Callable[P, Result]) -> Callable[P, Result]:
    """Turns what the user can put right into Misuse, and the end of a needed task into exit 1."""

    @functools.wraps(command)
    def careful(*args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except (SettingsError, LogFileError, TopicError) as error:
            raise Misuse(str(error)) from error
        except TaskEnded:  # which one, and why, was logged when it ended
            raise click.exceptions.Exit(1) from None

    return careful


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end."""
    try:
        import uvloop
    except ImportError:  # it has no build for this platform
        return asyncio.run(main)
    return uvloop.run(main)


def printable(text: str) -> str:
    """One line that does to a terminal nothing but show itself: others wrote the text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
