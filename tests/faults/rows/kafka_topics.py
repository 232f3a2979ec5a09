"""Row 4: a topic that takes nothing, or not this record, while the others take what comes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ingest.contract.topics import type_topic
from tests.emulator.deliveries import Outgoing
from tests.emulator.school import LiveEvent
from tests.faults.grounds import LOGIN, Grounds
from tests.faults.judging import judge, settle
from tests.faults.kept import admin_client
from tests.faults.rows.expecting import expect_all_accepted
from tests.faults.site import Site, event_request
from tests.faults.verdict import Tally
from tests.kafka.access import allow_again, deny_writing
from tests.support.processes import make_topics

TYPE: Final = "course_created"
OF_THE_TYPE: Final = 60
OTHERS: Final = 240
RATE: Final = 100.0
LIMIT_BYTES: Final = 8_000
"""More than an ordinary record takes, less than a batch of some."""

LARGE_TEXT: Final = "x" * 20_000
LARGE: Final = 5
SPREAD_S: Final = 1.0
"""Until every part of the broker has heard of a change."""


async def writing_denied(grounds: Grounds, seed: int) -> Tally:
    """Events of one topic wait in the spool until we may write to it; nobody else waits."""
    async with grounds.site(seed, through="login") as site:
        topic = _topic(site)
        await asyncio.to_thread(deny_writing, _servers(site), login=LOGIN, topic=topic)
        await asyncio.sleep(SPREAD_S)
        await _only_the_topic_waits(site)
        await asyncio.to_thread(allow_again, _servers(site), topic=topic)
        return await _arrived(site)


async def topic_missing(grounds: Grounds, seed: int) -> Tally:
    """The same for a topic that nobody has made, until somebody makes it."""
    async with grounds.site(seed, with_worker=False) as site:
        await _delete(site)
        await asyncio.sleep(SPREAD_S)
        await site.worker.start()
        await _only_the_topic_waits(site)
        await asyncio.to_thread(make_topics, site.receiver.settings)
        return await _arrived(site)


async def record_too_large(grounds: Grounds, seed: int) -> Tally:
    """What its topic will never take is put aside, be it in the spool already; and only that."""
    async with grounds.site(seed) as site:
        numbers = itertools.count()
        await _limit(site, LIMIT_BYTES)
        await site.send(_small_and_large(site, numbers))
        said = site.witness.said
        site.expect(said[202, "quarantined"] == LARGE, f"of {LARGE} large ones: {dict(said)}")
        await site.link.refuse()
        await site.send(_small_and_large(site, numbers))
        spooled = said[202, "spooled"]
        site.expect(spooled == OF_THE_TYPE + LARGE, f"spooled: {dict(said)}")
        await site.link.heal()
        await settle(site)
        aside = (await site.ledger()).outcome("quarantined", "too_large_for_topic")
        site.expect(aside == 2 * LARGE, f"{aside} of {2 * LARGE} large ones were put aside")
        await _limit(site, 10 * len(LARGE_TEXT))
        await site.send(_large(site, numbers))
        quarantined = len((await site.topics()).quarantined)
        site.expect(quarantined == 2 * LARGE, f"quarantine holds {quarantined}")
        return await _arrived(site)


async def _only_the_topic_waits(site: Site) -> None:
    """Sends events of the topic and others side by side; the spool takes the former alone."""
    send = site.canvas.send_events
    await asyncio.gather(
        send(site.url, count=OF_THE_TYPE, name=TYPE, rate=RATE * OF_THE_TYPE / OTHERS),
        send(site.url, count=OTHERS, rate=RATE),
        site.canvas.send_notices(site.url, count=OTHERS // 10, rate=RATE / 10),
    )
    ways = {(entry.name == TYPE, entry.outcome) for entry in site.witness.entries.values()}
    site.expect(ways == {(True, "spooled"), (False, "published")}, f"went by the ways {ways}")
    held = (await site.ledger()).lane("spool")
    waiting = site.witness.said[202, "spooled"]
    site.expect(held == waiting, f"{held} wait, of {waiting} that were spooled")


async def _arrived(site: Site) -> Tally:
    expect_all_accepted(site)
    await settle(site)
    return await judge(site)


def _small_and_large(site: Site, numbers: Iterator[int]) -> list[Outgoing]:
    small = (_event(site, next(numbers)) for _ in range(OF_THE_TYPE))
    requests = [_request(site, event) for event in small]
    # in between, so that they share batches
    requests[10:20] = [*requests[10:15], *_large(site, numbers), *requests[15:20]]
    return requests


def _large(site: Site, numbers: Iterator[int]) -> list[Outgoing]:
    events = [_event(site, next(numbers)) for _ in range(LARGE)]
    return [_request(site, _with_body(event, name=LARGE_TEXT)) for event in events]


def _event(site: Site, number: int) -> LiveEvent:
    return site.canvas.school.live_event(number, name=TYPE, stream="sizes")


def _with_body(event: LiveEvent, **members: Any) -> LiveEvent:
    body = {**event.claims["body"], **members}
    return LiveEvent(name=event.name, claims={**event.claims, "body": body})


def _request(site: Site, event: LiveEvent) -> Outgoing:
    return event_request(site.signed(event), name=event.name, content_key=event.content_key())


async def _limit(site: Site, max_message_bytes: int) -> None:
    """What the topic takes at most."""
    value = {"max.message.bytes": str(max_message_bytes)}
    resource = ConfigResource(ConfigResourceType.TOPIC, _topic(site), value)
    async with admin_client(_servers(site)) as admin:
        await admin.alter_configs([resource])
    await asyncio.sleep(SPREAD_S)


async def _delete(site: Site) -> None:
    async with admin_client(_servers(site)) as admin:
        await admin.delete_topics([_topic(site)])


def _topic(site: Site) -> str:
    return type_topic(site.prefix, "live-events", TYPE)


def _servers(site: Site) -> str:
    assert site.cluster is not None
    return site.cluster.bootstrap_servers
