"""The story: a whole school's weeks, one event after the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from tests.emulator.school import School
from tests.emulator.story.agenda import Agenda
from tests.emulator.story.campus import Campus
from tests.emulator.story.courses import MAX_COURSES, accounts, courses
from tests.emulator.story.enrolling import schedule_changes
from tests.emulator.story.ids import Ids
from tests.emulator.story.narrator import Narrator, Told
from tests.emulator.story.opening import opening
from tests.emulator.story.others import others, tell_other
from tests.emulator.story.people import MAX_PEOPLE, population
from tests.emulator.story.teaching import schedule_weeks
from tests.emulator.story.things import Course
from tests.emulator.story.times import DAY, HOUR, WEEK, midnight, spread
from tests.emulator.story.visiting import visit
from tests.emulator.story.world import World

MIN_EVENTS: Final = 2_000

_EVENTS_EACH, _PEOPLE_EACH = 40, 25
_MIN_PEOPLE, _MIN_COURSES = 40, 6
_OPENING_DAYS, _OPENS, _OPEN_HOURS = 3, timedelta(hours=8), 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`events` events and notices of one school, in order of time, which end at `first_event_at`.

    Whatever an event refers to, an earlier one told of: courses and people come first, then what
    they do in so many weeks. The school has 500 people and 20 courses from 20,000 events on, fewer
    below. `others_share` are of the types that the story has no use for, about the same things.
    Equal fields tell the same story, whoever iterates and how often; `caliper_share` changes
    nothing but the format. ValueError below 2,000 events or one week.
    """

    school: School
    events: int
    weeks: int = 6
    caliper_share: float = 0.0
    others_share: float = 0.05

    def __post_init__(self) -> None:
        if self.events < MIN_EVENTS:
            raise ValueError(f"a story has at least {MIN_EVENTS} events")
        if self.weeks < 1:
            raise ValueError("a story has at least one week")

    @property
    def ends_at(self) -> datetime:
        """About when the last event is."""
        return self.school.first_event_at

    @property
    def first_day(self) -> datetime:
        """When the first week begins, at midnight; before it are three days of preparation."""
        return midnight(self.ends_at - WEEK * self.weeks)

    @property
    def people(self) -> int:
        """How many people there are."""
        return min(MAX_PEOPLE, max(_MIN_PEOPLE, self.events // _EVENTS_EACH))

    @property
    def courses(self) -> int:
        """How many courses there are."""
        return min(MAX_COURSES, max(_MIN_COURSES, self.people // _PEOPLE_EACH))

    def __iter__(self) -> Iterator[Told]:
        return islice(self._told(), self.events)

    def _told(self) -> Iterator[Told]:
        start = self.first_day - DAY * _OPENING_DAYS
        world, taught = self._world(start + _OPENS)
        told = 0
        steps = opening(world, taught)
        for place, step in enumerate(steps):
            day, part = divmod(_OPENING_DAYS * place / len(steps), 1)
            world.narrator.move_to(start + DAY * day + _OPENS + HOUR * _OPEN_HOURS * part)
            step()
            for each in world.narrator.drained():
                told += 1
                yield each
        schedule_weeks(world, self.weeks)
        schedule_changes(world, self.weeks)
        yield from self._weeks(world, self.events - told)

    def _weeks(self, world: World, count: int) -> Iterator[Told]:
        strays = others(self.school.corpus, world.rng)
        done, planned = 0, 0
        for hour, share in spread(self.first_day, self.ends_at, count):
            before, planned = done, planned + share
            while done < planned:
                part = (done - before + world.rng.random()) / (planned - before)
                world.narrator.move_to(hour + HOUR * part)
                if world.rng.random() < self.others_share:
                    tell_other(world, next(strays))
                else:
                    (world.agenda.take(world.now) or partial(visit, world))()
                told = world.narrator.drained()
                done += len(told)
                yield from told

    def _world(self, start: datetime) -> tuple[World, list[Course]]:
        rng = random.Random(f"{self.school.seed}/story")
        ids = Ids(rng)
        faculties = accounts(ids)
        taught = courses(rng, ids, faculties, self.courses, since=start)
        people = population(rng, ids, self.people, courses=self.courses, since=start)
        world = World(
            school=self.school,
            rng=rng,
            ids=ids,
            campus=Campus(rng, faculties, people),
            agenda=Agenda(),
            narrator=Narrator(self.school, start=start, caliper_share=self.caliper_share),
            first_day=self.first_day,
        )
        return world, taught
