"""Which dead letters an operator means."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from consumers.dead_letters.dead_letter import Letter


class NoSuchLetter(Exception):
    """No letter has this place; the text is the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What letters must be like; what is None does not matter.

    In `topic` a `*` stands for any text. A letter was kept at `since` or later, before `until`.
    """

    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is like this."""
        return (
            self.reason in (None, letter.reason)
            and (self.topic is None or fnmatchcase(letter.record.topic, self.topic))
            and (self.since is None or self.since.timestamp() * 1000 <= letter.kept_at_ms)
            and (self.until is None or letter.kept_at_ms < self.until.timestamp() * 1000)
        )


def named(found: Sequence[Letter], places: Sequence[str]) -> list[Letter]:
    """The letters of these places, each once. Raises NoSuchLetter."""
    by_place = {letter.place: letter for letter in found}
    for place in places:
        if place not in by_place:
            raise NoSuchLetter(place)
    return [by_place[place] for place in dict.fromkeys(places)]
