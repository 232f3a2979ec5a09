"""What a story tells, as requests."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from tests.emulator.messages import LiveEvent, Notice
from tests.emulator.traffic import EventJob, NoticesJob, Office


def story_jobs(
    office: Office, told: Iterable[LiveEvent | Notice], *, quoted: float
) -> Iterator[EventJob | NoticesJob]:
    """Events and notices in the given order, each notice in a POST of its own."""
    rng = random.Random(f"{office.school.seed}/quoted")
    for number, message in enumerate(told):
        if isinstance(message, LiveEvent):
            yield EventJob(
                office=office,
                number=number,
                name=message.name,
                key=office.key("live-events", number),
                signed_at_s=office.time_s(),
                quoted=rng.random() < quoted,
                told=message,
            )
        else:
            yield NoticesJob(
                office=office,
                first=number,
                count=1,
                notice_type=message.name,
                key=office.key("pns", number),
                signed_at_s=office.time_s(),
                told=(message,),
            )
