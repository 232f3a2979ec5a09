"""What goes out, and in which order: genuine requests, their repeats, and forgeries among them."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import orjson

from tests.emulator import forgeries
from tests.emulator.deliveries import Job, Lane, Outgoing, Parcel, Role
from tests.emulator.forgeries import Forger, Forgery
from tests.emulator.key_store import Keys
from tests.emulator.school import School
from tests.support.keys import SigningKey

CONTENT_TYPES: Final = ("application/json", None, "text/plain", "application/jwt")
"""Canvas does not say which type it sends, so events take turns and a receiver can rely on none."""

_MAX_REPEAT_LAG = 50
_OFF_KEY_EVERY = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Shares between 0 and 1, each of the genuine requests.

    `repeats` are sent a second time some requests later, half of them signed anew; `quoted` have
    the token in JSON quotes; after each of `forged` follows a forgery, all kinds in turn.
    """

    repeats: float = 0.0
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
        keys = self.keys()
        ring = keys.live_events if lane == "live-events" else keys.platform
        if number % _OFF_KEY_EVERY == 1:
            return ring.previous
        return ring.next if number % _OFF_KEY_EVERY == 2 else ring.current

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

    def repeated(self, *, resign: bool) -> Job:
        """The same events again, signed anew if asked and possible."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EventJob:
    """One Live Event, made and signed when called."""

    office: Office
    number: int
    name: str | None
    signed_at_s: int
    quoted: bool = False
    caliper: bool = False
    role: Role = "genuine"

    def __call__(self, attempt: int, /) -> Outgoing:
        """The request. A first attempt of equal fields and key gives equal bytes."""
        signed = self.signed(attempt)
        return _event_request(signed, quoted=self.quoted, role=self.role)

    def signed(self, attempt: int = 1) -> SignedEvent:
        """The event, signed."""
        school = self.office.school
        make = school.caliper_event if self.caliper else school.live_event
        event = make(self.number, name=self.name)
        at_s = self.signed_at_s if attempt == 1 else int(self.office.clock())
        token = event.token(self.office.key("live-events", self.number), at_s)
        return SignedEvent(
            number=self.number,
            name=event.name,
            content_key=event.content_key(),
            token=token.encode(),
        )

    def repeated(self, *, resign: bool) -> Job:
        """The same event; a second earlier when signed anew, so that the bytes differ for sure."""
        return replace(self, role="repeat", signed_at_s=self.signed_at_s - resign)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedJob:
    """One Live Event that is signed already; it costs next to nothing to send."""

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
    """One POST of notices of one type, made and signed when called."""

    office: Office
    first: int
    count: int
    notice_type: str
    signed_at_s: int
    role: Role = "genuine"

    def __call__(self, attempt: int, /) -> Outgoing:
        """The request, in the form of canvas-lms app/services/lti/platform_notification_service."""
        notices = self.office.school.notices(self.first, self.notice_type, self.count)
        key = self.office.key("pns", self.first)
        at_s = self.signed_at_s if attempt == 1 else int(self.office.clock())
        body = orjson.dumps({"notices": [{"jwt": n.token(key, at_s)} for n in notices]})
        parcels = tuple(
            Parcel(role=self.role, name=n.name, content_key=n.content_key()) for n in notices
        )
        return Outgoing(lane="pns", body=body, content_type="application/json", parcels=parcels)

    def repeated(self, *, resign: bool) -> Job:
        """The same notices; signed a second earlier when anew."""
        return replace(self, role="repeat", signed_at_s=self.signed_at_s - resign)


def event_jobs(
    office: Office,
    first: int,
    count: int,
    *,
    name: str | None,
    quoted: float,
    caliper: float = 0,
) -> Iterator[EventJob]:
    """`count` events numbered from `first`, signed for the moment in which they are asked for.

    `quoted` of them have their token in quotes, `caliper` of them are in that format.
    """
    formats = random.Random(f"{office.school.seed}/caliper/{first}")
    rng = random.Random(f"{office.school.seed}/quoted/{first}")
    for number in range(first, first + count):
        yield EventJob(
            office=office,
            number=number,
            name=name,
            signed_at_s=int(office.clock()),
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
            signed_at_s=int(office.clock()),
        )


def forged_jobs(office: Office, lane: Lane) -> Iterator[Job]:
    """Forgeries without end, all kinds of the lane in turn, no two alike."""
    kinds = forgeries.live_events() if lane == "live-events" else forgeries.notices()
    for number in itertools.count():
        yield partial(_forged_request, office, kinds[number % len(kinds)], number)


def blended(
    genuine: Iterable[Repeatable], forged: Iterator[Job], mix: Mix, seed: int
) -> Iterator[Job]:
    """The genuine jobs in order, with repeats and forgeries strewn among them as `mix` says."""
    rng = random.Random(f"{seed}/mix")
    waiting: deque[tuple[int, Job]] = deque()
    for place, job in enumerate(genuine):
        yield job
        if rng.random() < mix.repeats:
            due = place + rng.randrange(_MAX_REPEAT_LAG)
            waiting.append((due, job.repeated(resign=rng.random() < 0.5)))
        if rng.random() < mix.forged:
            yield next(forged)
        while waiting and waiting[0][0] <= place:
            yield waiting.popleft()[1]
    yield from (job for _, job in waiting)


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
