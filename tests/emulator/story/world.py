"""What everything that happens needs: the chance, the ids, how things stand, and who tells it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.emulator.school import School
from tests.emulator.story.agenda import Agenda
from tests.emulator.story.bodies import Body
from tests.emulator.story.campus import Campus
from tests.emulator.story.causes import Cause, Job, Request, Session
from tests.emulator.story.ids import Ids, global_id
from tests.emulator.story.narrator import Narrator
from tests.emulator.story.things import Account, Course, Person
from tests.emulator.templates import drawn_request, drawn_uuid

_SESSION = timedelta(hours=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One telling of the story, from its seed to its end. `first_day` is that of the first week."""

    school: School
    rng: random.Random
    ids: Ids
    campus: Campus
    agenda: Agenda
    narrator: Narrator
    first_day: datetime
    sessions: dict[int, Session] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        """The story's time."""
        return self.narrator.now

    def tell(self, name: str, body: Body, cause: Cause) -> None:
        """An event."""
        self.narrator.tell(name, body, cause)

    def in_a_while(self, *, minutes: int) -> datetime:
        """Some time from now, of up to so many minutes."""
        return self.now + timedelta(seconds=self.rng.randrange(20, 60 * minutes))

    def job(self, tag: str, course: Course | None = None) -> Job:
        """A new background job."""
        return Job(job_id=global_id(self.ids.number("job")), tag=tag, place=course)

    def session(self, person: Person) -> Session:
        """The person's session: the one that is open, else a new one, for which they log in."""
        session = self.sessions.get(person.number)
        if session is not None and self.now - session.since < _SESSION:
            return session
        drawn = drawn_request(self.rng)
        session = self.sessions[person.number] = Session(
            person=person,
            session_id=drawn["session_id"],
            client_ip=drawn["client_ip"],
            user_agent=drawn["user_agent"],
            since=self.now,
        )
        address = f"https://{self.school.hostname}/?login_success=1"
        request = self.request(person, "/login/canvas")
        self.tell("logged_in", {"redirect_url": address}, request)
        return session

    def request(
        self,
        person: Person,
        path: str,
        *,
        place: Course | Account | None = None,
        method: str = "POST",
    ) -> Request:
        """A new web request of this person, who logs in first if need be."""
        session = self.session(person)
        role = None
        if isinstance(place, Course):
            enrollment = self.campus.enrollments[person.number].get(place.number)
            role = enrollment.type if enrollment else None
        return Request(
            session=session,
            request_id=drawn_uuid(self.rng),
            method=method,
            path=path,
            place=place,
            role=role,
        )
