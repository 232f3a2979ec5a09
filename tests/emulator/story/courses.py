"""What is taught: some subjects, and courses that were copied from them, and from those copies."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Final

from tests.emulator.story.ids import Ids
from tests.emulator.story.things import Account, Course, Section

MAX_COURSES: Final = 20

_FACULTIES = ("Faculty of Rivers and Canals", "School of Earth Sciences")
_SUBJECTS = (
    ("HYD101", "Hydrology I"),
    ("HYD201", "Ground Water"),
    ("GEO110", "Maps and Measuring"),
    ("ENG150", "Dams and Weirs"),
    ("ECO120", "Life in Rivers"),
    ("LAW240", "Water Law"),
    ("MAT130", "Statistics of Floods"),
    ("HIS105", "A History of Mills"),
)
_VARIANTS = ("evening", "online", "honours", "summer", "practice", "transfer", "review", "lab")
_SECTIONS = ("Tuesday", "Thursday")


def accounts(ids: Ids) -> list[Account]:
    """The faculties."""
    return [
        Account(number=ids.number("account"), uuid=ids.letters(), name=name) for name in _FACULTIES
    ]


def courses(
    rng: random.Random, ids: Ids, faculties: list[Account], count: int, *, since: datetime
) -> list[Course]:
    """So many courses, none before the one that it is copied from.

    Half of them, up to eight, are subjects of their own. These come in a file, but for the last,
    which nobody copies: so an import has told of the LTI id of each course that is copied.
    """
    made: list[Course] = []
    variants: dict[str, int] = {}
    own = min(len(_SUBJECTS), count // 2)
    for place in range(count):
        known = [course for course in made if course.packaged or course.source]
        source = None if place < own else rng.choice(known)
        code, name = _SUBJECTS[place] if source is None else _copied_name(source, variants)
        made.append(
            Course(
                number=ids.number("course"),
                uuid=ids.letters(),
                lti_id=ids.opaque(),
                name=name,
                code=code,
                account=faculties[place % len(faculties)] if source is None else source.account,
                created_at=since,
                source=source,
                packaged=place < own - 1,
            )
        )
    return made


def _copied_name(source: Course, variants: dict[str, int]) -> tuple[str, str]:
    code, subject = source.code.partition("-")[0], source.name.partition(",")[0]
    turn = variants[code] = variants.get(code, 0) + 1
    variant = _VARIANTS[(turn - 1) % len(_VARIANTS)]
    again = "" if turn <= len(_VARIANTS) else f" {turn}"
    return f"{code}-{turn}", f"{subject}, {variant}{again}"


def sections(ids: Ids, course: Course) -> list[Section]:
    """The sections of a course."""
    return [
        Section(
            number=ids.number("section"),
            course=course,
            name=f"{course.name}, {day}",
            sis_id=f"{course.code}/{day[:3].upper()}",
            default=place == 0,
        )
        for place, day in enumerate(_SECTIONS)
    ]
