"""What goes out, and in which order: genuine requests, their repeats, and forgeries among them."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, Protocol

import orjson

from tests.emulator import forgeries
from tests.emulator.deliveries import Job, Lane, Later, Outgoing, Parcel, Role
from tests.emulator.forgeries import Forger, Forgery
from tests.emulator.key_store import Keys
from tests.emulator.messages import LiveEvent, Notice
from tests.emulator.school import School
from tests.support.keys import KeyRing, SigningKey

CONTENT_TYPES: Final = ("application/json", None, "text/plain", "application/jwt")
"""Canvas does not say which type it sends, so events take turns and a receiver can rely on none."""

_MAX_REPEAT_LAG = 50
_OFF_KEY_EVERY = 25

_SIGNING_TURNS = 5
_REPEAT_TURN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Shares between 0 and 1, each of the genuine requests.

    `repeats` are sent a second time, half of them signed again: some requests later, or with
    `repeat_delay_s` that long after the first was drawn. `quoted` have the token in JSON quotes;
    after each of `forged` follows a forgery, all kinds in turn.
    """

    repeats: float = 0.0
    repeat_delay_s: float = 0.0
    quoted: float = 0.0
    forged: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEvent:
    """An event signed ahead of time. The token is good for an hour."""

    number: int
    name: str
    content_key: str
    token: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What jobs need when they run: the school, the keys as they are by then, and the time."""

    school: School
    stranger: School
    other_key: SigningKey
    keys: Callable[[], Keys]
    clock: Callable[[], float]

    def key(self, lane: Lane, number: int = 0) -> SigningKey:
        """The key that signs the event of this number in this lane now.

        As around a rotation, a few are signed by a server that is behind the others or ahead.
        """
        ring = self.ring(lane)
        if number % _OFF_KEY_EVERY == 1:
            return ring.previous
        return ring.next if number % _OFF_KEY_EVERY == 2 else ring.current

    def ring(self, lane: Lane) -> KeyRing:
        """The lane's keys now."""
        keys = self.keys()
        return keys.live_events if lane == "live-events" else keys.platform

    def time_s(self, first_s: int = 0, turn: int = 0) -> int:
        """Now. Signings of one event, at different turns from 0 to 4, have different times.

        For equal times make equal bytes, and where a run's waits are scaled down, the third retry
        may be in the second of the first. It may be up to four seconds early.
        """
        now_s = int(self.clock())
        return now_s - (now_s - first_s - turn) % _SIGNING_TURNS if turn else now_s

    def forger(self, lane: Lane) -> Forger:
        """A forger for this lane, now."""
        return Forger(
            key=self.key(lane),
            key_elsewhere=self.key("pns" if lane == "live-events" else "live-events"),
            other_key=self.other_key,
            school=self.school,
            stranger=self.stranger,
            now_s=int(self.clock()),
        )


class Repeatable(Job, Protocol):
    """A genuine request that can be sent a second time."""

    lane: ClassVar[Lane]

    def repeated(self, *, resign: bool) -> Job:
        """The same events again, signed again if asked and possible."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EventJob:
    """One Live Event, made and signed when called; key and time are settled before.

    `told` is one that is made already.
    """

    lane: ClassVar[Lane] = "live-events"

    office: Office
    number: int
    name: str | None
    key: SigningKey
    signed_at_s: int
    quoted: bool = False
    caliper: bool = False
    told: LiveEvent | None = None
    role: Role = "genuine"

    def __call__(self, attempt: int, /) -> Outgoing:
        """The request."""
        signed = self.signed(attempt)
        return _event_request(signed, quoted=self.quoted, role=self.role)

    def signed(self, attempt: int = 1) -> SignedEvent:
        """The event, signed."""
        school = self.office.school
        make = school.caliper_event if self.caliper else school.live_event
        event = self.told or make(self.number, name=self.name)
        job = self if attempt == 1 else self._anew(attempt - 1)
        return SignedEvent(
            number=self.number,
            name=event.name,
            content_key=event.content_key(),
            token=event.token(job.key, job.signed_at_s).encode(),
        )

    def repeated(self, *, resign: bool) -> Job:
        """The same event."""
        return replace(self._anew(_REPEAT_TURN) if resign else self, role="repeat")

    def _anew(self, turn: int) -> EventJob:
        return replace(
            self,
            key=self.office.ring("live-events").current,
            signed_at_s=self.office.time_s(self.signed_at_s, turn),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedJob:
    """One Live Event that is signed already; it costs next to nothing to send."""

    lane: ClassVar[Lane] = "live-events"

    signed: SignedEvent
    quoted: bool = False
    role: Role = "genuine"

    def __call__(self, attempt: int, /) -> Outgoing:
        """The request, always with the same token."""
        return _event_request(self.signed, quoted=self.quoted, role=self.role)

    def repeated(self, *, resign: bool) -> Job:
        """The same token again: nothing is signed here."""
        return replace(self, role="repeat")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesJob:
    """One POST of notices of one type, made and signed when called; `told` are made already."""

    lane: ClassVar[Lane] = "pns"

    office: Office
    first: int
    count: int
    notice_type: str
    key: SigningKey
    signed_at_s: int
    told: tuple[Notice, ...] = ()
    role: Role = "genuine"

    def __call__(self, attempt: int, /) -> Outgoing:
        """The request, in the form of canvas-lms app/services/lti/platform_notification_service.

        Always the same bytes: no notice is tried twice.
        """
        notices = self.told or self.office.school.notices(self.first, self.notice_type, self.count)
        tokens = [notice.token(self.key, self.signed_at_s) for notice in notices]
        body = orjson.dumps({"notices": [{"jwt": token} for token in tokens]})
        parcels = tuple(
            Parcel(role=self.role, name=n.name, content_key=n.content_key()) for n in notices
        )
        return Outgoing(lane="pns", body=body, content_type="application/json", parcels=parcels)

    def repeated(self, *, resign: bool) -> Job:
        """The same notices."""
        if not resign:
            return replace(self, role="repeat")
        return replace(
            self,
            role="repeat",
            key=self.office.ring("pns").current,
            signed_at_s=self.office.time_s(self.signed_at_s, _REPEAT_TURN),
        )


def event_jobs(
    office: Office,
    numbers: Iterable[int],
    *,
    name: str | None,
    quoted: float,
    caliper: float = 0,
) -> Iterator[EventJob]:
    """The events of these numbers, signed for the moment in which they are asked for.

    `quoted` of them have their token in quotes, `caliper` of them are in that format.
    """
    rng = random.Random(f"{office.school.seed}/quoted")
    formats = random.Random(f"{office.school.seed}/caliper")
    for number in numbers:
        yield EventJob(
            office=office,
            number=number,
            name=name,
            key=office.key("live-events", number),
            signed_at_s=office.time_s(),
            quoted=rng.random() < quoted,
            caliper=formats.random() < caliper,
        )


def signed_jobs(events: Iterable[SignedEvent], *, quoted: float) -> Iterator[SignedJob]:
    """Events signed ahead, in the given order."""
    rng = random.Random(f"{quoted}/quoted")
    for event in events:
        yield SignedJob(signed=event, quoted=rng.random() < quoted)


def notices_jobs(
    office: Office, first: int, count: int, *, batch: int, types: tuple[str, ...]
) -> Iterator[NoticesJob]:
    """`count` notices numbered from `first`, up to `batch` in a POST; types take turns by POST."""
    for turn, start in enumerate(range(first, first + count, batch)):
        yield NoticesJob(
            office=office,
            first=start,
            count=min(batch, first + count - start),
            notice_type=types[turn % len(types)],
            key=office.key("pns", start),
            signed_at_s=office.time_s(),
        )


def mingled(
    events: Iterator[Repeatable], notices: Iterator[Repeatable], *, notice_share: float, seed: int
) -> Iterator[Repeatable]:
    """Jobs of both, `notice_share` of them from `notices`, until the one whose turn it is ends."""
    rng = random.Random(f"{seed}/mingled")
    while (job := next(notices if rng.random() < notice_share else events, None)) is not None:
        yield job


def stopping(
    jobs: Iterator[Repeatable], until: asyncio.Event | None, duration_s: float | None
) -> Iterator[Repeatable]:
    """The jobs up to the stop, which is looked at as each of them is drawn."""
    end_s = math.inf if duration_s is None else time.monotonic() + duration_s
    while time.monotonic() < end_s and not (until is not None and until.is_set()):
        yield next(jobs)


def forged_jobs(office: Office, lane: Lane) -> Iterator[Job]:
    """Forgeries without end, all kinds of the lane in turn, no two alike."""
    kinds = forgeries.live_events() if lane == "live-events" else forgeries.notices()
    for number in itertools.count():
        yield partial(_forged_request, office, kinds[number % len(kinds)], number)


def blended(
    genuine: Iterable[Repeatable], forged: Mapping[Lane, Iterator[Job]], mix: Mix, seed: int
) -> Iterator[Job | Later]:
    """The genuine jobs in order, with repeats and forgeries strewn among them as `mix` says.

    A forgery goes where the job before it went.
    """
    rng = random.Random(f"{seed}/mix")
    waiting: deque[tuple[int, Callable[[], Job]]] = deque()
    for place, job in enumerate(genuine):
        yield job
        if rng.random() < mix.repeats:
            due = place + rng.randrange(_MAX_REPEAT_LAG)
            repeat = partial(job.repeated, resign=rng.random() < 0.5)
            if mix.repeat_delay_s:
                yield Later(delay_s=mix.repeat_delay_s, make=repeat)
            else:
                waiting.append((due, repeat))
        if rng.random() < mix.forged:
            yield next(forged[job.lane])
        while waiting and waiting[0][0] <= place:
            yield waiting.popleft()[1]()
    yield from (repeat() for _, repeat in waiting)


def _event_request(signed: SignedEvent, *, quoted: bool, role: Role) -> Outgoing:
    return Outgoing(
        lane="live-events",
        body=b'"%b"' % signed.token if quoted else signed.token,
        content_type=CONTENT_TYPES[signed.number % len(CONTENT_TYPES)],
        parcels=(Parcel(role=role, name=signed.name, content_key=signed.content_key),),
    )


def _forged_request(office: Office, kind: Forgery, number: int, attempt: int, /) -> Outgoing:
    forged = kind.make(office.forger(kind.lane), number)
    content_key = forged.message.content_key() if forged.message else None
    parcel = Parcel(role="forgery", name=kind.name, content_key=content_key, expected=kind.expected)
    return Outgoing(
        lane=kind.lane,
        body=kind.body(forged),
        content_type="application/json",
        parcels=(parcel,),
    )
