"""Who is there. Names are words of colours, plants and water, so that they are nobody's."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from itertools import repeat
from typing import Final

from tests.emulator.story.ids import Ids
from tests.emulator.story.things import Person, Role

MAX_PEOPLE: Final = 500

_GIVEN = (
    "Amber", "Ash", "Azur", "Bluebell", "Bryony", "Cedar", "Clover", "Coral", "Fern", "Ginger",
    "Hazel", "Indigo", "Iris", "Ivy", "Jade", "Laurel", "Moss", "Öre", "Olive", "Rowan", "Rue",
    "Saffron", "Sage", "Sorrel", "Tansy", "Umber",
)  # fmt: skip
_FAMILY = (
    "Beck", "Brook", "Canal", "Dyke", "Estuary", "Fen", "Ford", "Gauge", "Ghyll", "Harbour",
    "Inlet", "Lagoon", "Lough", "Marsh", "Mill", "Océan", "Penstock", "Quay", "Reach", "Rill",
    "Sluice", "Spring", "Tarn", "Weir", "Wharf",
)  # fmt: skip


def population(
    rng: random.Random, ids: Ids, count: int, *, courses: int, since: datetime
) -> list[Person]:
    """So many people: one administrator, teachers and assistants for so many courses, students."""
    names = rng.sample(range(len(_GIVEN) * len(_FAMILY)), count)
    return [
        _person(ids, role, place, *divmod(name, len(_FAMILY)), since)
        for place, (role, name) in enumerate(zip(_roles(count, courses), names, strict=True), 1)
    ]


def _roles(count: int, courses: int) -> Iterator[Role]:
    teachers, assistants = max(2, courses * 4 // 5), max(2, courses * 3 // 5)
    counts: dict[Role, int] = {"admin": 1, "teacher": teachers, "ta": assistants}
    counts["student"] = count - sum(counts.values())
    for role, many in counts.items():
        yield from repeat(role, many)


def _person(
    ids: Ids, role: Role, place: int, given: int, family: int, created_at: datetime
) -> Person:
    name = f"{_GIVEN[given]} {_FAMILY[family]}"
    login = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return Person(
        number=ids.number("user"),
        uuid=ids.letters(),
        lti_id=ids.opaque(),
        name=name,
        short_name=_GIVEN[given],
        login=login.replace(" ", "."),
        sis_id=f"{'S' if role == 'student' else 'T'}-{place:04d}",
        role=role,
        created_at=created_at,
    )
