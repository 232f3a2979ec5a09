"""Tells one thing after the other: gives each its moment and its claims."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from tests.emulator.corpus import EventExample, NoticeExample
from tests.emulator.messages import LiveEvent, Notice
from tests.emulator.school import School
from tests.emulator.story import caliper
from tests.emulator.story.causes import Cause, Request, metadata
from tests.emulator.templates import drawn_uuid

Told = LiveEvent | Notice

_MAX_GAP_MS = 12


class Narrator:
    """`now` is the story's time; it only goes forward, and no two events share a moment.

    `caliper_share` of what has a form in that format is told in it.
    """

    def __init__(self, school: School, *, start: datetime, caliper_share: float) -> None:
        self.school = school
        self.now = start
        self._caliper_share = caliper_share
        self._told: list[Told] = []
        # with the end in it, so that a later run draws other ids of notices; and each purpose draws
        # by itself, so that the story is the same whatever the format
        seed = f"{school.seed}/{school.first_event_at.isoformat()}/story"
        self._gaps = random.Random(f"{seed}/gaps")
        self._formats = random.Random(f"{seed}/formats")
        self._likes = random.Random(f"{seed}/likes")

    def move_to(self, at: datetime) -> None:
        """Let time pass until `at`, unless it is past that already."""
        self.now = max(self.now, at.replace(microsecond=at.microsecond // 1_000 * 1_000))

    def tell(self, name: str, body: dict[str, Any], cause: Cause) -> None:
        """An event of this name with this body."""
        at = self._moment()
        if isinstance(cause, Request) and self._takes_caliper(name):
            self._told.append(self._in_caliper(name, body, cause, at))
        else:
            payload = {"metadata": metadata(self.school, cause, name, at), "body": body}
            self._told.append(self.school.sent(name, payload))

    def tell_like(self, example: EventExample | NoticeExample, things: dict[str, str]) -> None:
        """An event or a notice like the example's, with our own things in the place of its own."""
        at = self._moment()
        if isinstance(example, EventExample):
            self._told.append(self.school.event_like(example, at, self._likes, things))
        else:
            self._told.append(self.school.notice_like(example, at, self._likes, things))

    def drained(self) -> list[Told]:
        """What has been told since the last time."""
        told, self._told = self._told, []
        return told

    def _takes_caliper(self, name: str) -> bool:
        return name in caliper.FORMS and self._formats.random() < self._caliper_share

    def _in_caliper(
        self, name: str, body: dict[str, Any], cause: Request, at: datetime
    ) -> LiveEvent:
        event_id = drawn_uuid(self._formats)
        event = caliper.event(self.school, cause, name, body, at=at, event_id=event_id)
        sent_at = at + timedelta(milliseconds=self._formats.randrange(900, 6_000))
        return self.school.sent_caliper(name, event, sent_at)

    def _moment(self) -> datetime:
        self.now += timedelta(milliseconds=1 + self._gaps.randrange(_MAX_GAP_MS))
        return self.now
