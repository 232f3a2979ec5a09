"""One test over many cases, such as every type of the catalogue: all that fail are named at once.

    with each_case() as case:
        for entry in catalogue():
            with case(entry.name):
                assert entry.about

A test for each case would say the same, at some milliseconds for each in pytest itself.
"""

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pytest

_SHOWN_IN_FULL = 10


class Case(Protocol):
    """Begins the case of this name; what fails in it is kept, and the next one is tried."""

    def __call__(self, *name: object) -> AbstractContextManager[None]: ...


@contextmanager
def each_case() -> Iterator[Case]:
    """Raises AssertionError at its end if a case failed, or if there was none.

    The message has the first failures in full and the name of every case that failed.
    """
    tried: set[str] = set()
    failed: dict[str, BaseException] = {}

    @contextmanager
    def case(*name: object) -> Iterator[None]:
        words = " ".join(map(str, name))
        assert words not in tried, f"two cases are called {words}"
        tried.add(words)
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            failed[words] = error

    yield case
    assert tried, "there was no case to check"
    if failed:
        first = next(iter(failed.values()))
        raise AssertionError(_told(failed, len(tried))) from first


def _told(failed: dict[str, BaseException], tried: int) -> str:
    full = list(failed.items())[:_SHOWN_IN_FULL]
    lines = [f"{len(failed)} of {tried} cases failed: {', '.join(failed)}"]
    return "\n\n".join(lines + [f"{name}, {_where(error)}: {error}" for name, error in full])


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"line {frames[-1].lineno} of {frames[-1].name}" if frames else ""
    return f"{place}, {type(error).__name__}"
