"""Makes each event different from its example, by two rules and nothing else.

Ids: the last three characters of every id are drawn again, digit for digit and letter for letter.
Ids that end alike in the example end alike in the event too, so that a local id, a global id and a
UUID of the same user still belong together. There are at most 1,000 of each thing: entities recur.
Addresses stay, and so does user 0, which is nobody.

Times: every time is moved by the distance between the event's time and `EXAMPLE_TIME`, keeping its
form: separator, fraction and offset stay as written.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, Final

EXAMPLE_TIME = datetime(2026, 3, 2, 15, tzinfo=UTC)
"""The moment at which all examples are written as if they happened."""

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_ID_NAME = re.compile(r"(^|_)(id|ids|uuid|guid|login)$|^(origin_contexts|parent|context)$")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)((?:\.\d+)? ?(?:Z|[+-]\d\d:?\d\d))")
_DRAWN_CHARACTERS = 3


@cache
def _names_an_id(name: str) -> bool:
    return _ID_NAME.search(name) is not None


class Variation:
    """The draws of one event: the same ending always becomes the same other ending.

    `fixed` are members that get a given value wherever they are not null, at any depth. `things`
    are texts of the examples, ids and names, that become a given other text wherever they stand.
    """

    def __init__(
        self,
        rng: random.Random,
        at: datetime,
        fixed: Mapping[str, str],
        things: Mapping[str, str] = NOTHING,
    ) -> None:
        self._rng = rng
        self._shift = timedelta(seconds=int((at - EXAMPLE_TIME).total_seconds()))
        self._fixed = fixed
        self._things = things
        self._endings: dict[str, str] = {}

    def apply(self, value: Any, name: str = "") -> Any:
        """A copy of `value`, a JSON value found under the member `name`, with the rules applied."""
        if isinstance(value, dict):
            return {key: self.apply(member, key) for key, member in value.items()}
        if isinstance(value, list):
            return [self.apply(element, name) for element in value]
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, int) and _names_an_id(name):
            return int(self._text(str(value), name))
        return value

    def _text(self, text: str, name: str) -> str:
        if name in self._fixed:
            return self._fixed[name]
        if text in self._things:
            return self._things[text]
        if _names_an_id(name):
            return self._identifier(text)
        if text[:1].isdigit() and (time := _TIME.fullmatch(text)):
            return self._moved(time[1]) + time[2]
        return text

    def _moved(self, text: str) -> str:
        return (datetime.fromisoformat(text) + self._shift).isoformat(sep=text[10])

    def _identifier(self, text: str) -> str:
        if len(text) <= _DRAWN_CHARACTERS or "://" in text or text.endswith(":0"):
            return text
        stem, ending = text[:-_DRAWN_CHARACTERS], text[-_DRAWN_CHARACTERS:]
        if ending not in self._endings:
            self._endings[ending] = self._drawn(ending)
        return stem + self._endings[ending]

    def _drawn(self, ending: str) -> str:
        if ending.isdecimal():
            return f"{self._rng.randrange(10**_DRAWN_CHARACTERS):0{_DRAWN_CHARACTERS}d}"
        return "".join(map(self._character, ending))

    def _character(self, character: str) -> str:
        if character.isdigit():
            return self._rng.choice("0123456789")
        # letters stay within a-f, so that hexadecimal ids stay hexadecimal
        if character.islower():
            return self._rng.choice("abcdef")
        return self._rng.choice("ABCDEF") if character.isupper() else character
