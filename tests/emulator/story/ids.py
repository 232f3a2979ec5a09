"""Ids as Canvas gives them: a number within the shard, which events write local or global.

Source: Canvas documentation, Live Events: metadata; canvas-lms gems/stringify_ids. Which field has
which is in the fields' names of `bodies` and `work`, one rule each.
"""

from __future__ import annotations

import random
from typing import Final, Literal, get_args

from tests.emulator.school import LETTERS, SHARD
from tests.emulator.templates import drawn_uuid

Kind = Literal[
    "account",
    "user",
    "course",
    "section",
    "enrollment",
    "migration",
    "assignment_group",
    "assignment",
    "quiz",
    "module",
    "item",
    "page",
    "file",
    "folder",
    "topic",
    "entry",
    "group_set",
    "group",
    "membership",
    "submission",
    "comment",
    "override",
    "job",
]

_ROOM: Final = 10_000_000


def local_id(number: int) -> str:
    """The id as it is within the shard."""
    return str(number)


def global_id(number: int) -> str:
    """The id as it is everywhere: the shard, and the number in 13 digits."""
    return f"{SHARD}{number:013d}"


class Ids:
    """Gives ids away. No two things of any kind get the same number, so that no join is right by
    mistake."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next = {
            kind: place * _ROOM + rng.randrange(1_000, 100_000)
            for place, kind in enumerate(get_args(Kind), 1)
        }

    def number(self, kind: Kind) -> int:
        """The next number of this kind."""
        number = self._next[kind]
        self._next[kind] = number + 1
        return number

    def letters(self) -> str:
        """A uuid as Canvas gives courses, users, groups and accounts: 40 letters and digits."""
        return "".join(self._rng.choices(LETTERS, k=40))

    def opaque(self) -> str:
        """An LTI id: 40 hexadecimal digits."""
        return f"{self._rng.getrandbits(160):040x}"

    def uuid(self) -> str:
        """A UUID in its usual form."""
        return drawn_uuid(self._rng)
