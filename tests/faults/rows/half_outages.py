"""Row 27: a part of Kafka is down, and only that part is felt.

Healthy are the partitions that the fault leaves alone. Under the fault they are compared with the
same site in calm, for as long, just before. A machine of two cores that also carries brokers,
worker and load has pauses of its own: below `FLOOR_S` no p99 is held against anybody.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from ingest.contract.topics import ingest_topics, type_topic
from tests.emulator.deliveries import Delivery
from tests.faults.grounds import Brokers, Grounds
from tests.faults.judging import judge, settle
from tests.faults.kept import Place
from tests.faults.placing import Placed, Placing
from tests.faults.rows.expecting import expect_all_accepted, expect_within_budget
from tests.faults.site import Site, loaded
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.kafka.broker import Broker

RATE: Final = 550.0
NOTICE_SHARE: Final = 0.1
SICK_TYPE: Final = "course_created"
SICK_RATE: Final = 50.0
SICK_TOPIC: Final = type_topic("", "live-events", SICK_TYPE).removeprefix(".")
CALM_S: Final = 3.0
CALM_WITHIN_S: Final = 40.0
"""Brokers that have just begun take their time: calm is when for so long all was published."""

WARM_UP_S: Final = 10.0
SPAN_S: Final = 10.0
PREPARED_S: Final = WARM_UP_S + 2 * SPAN_S + 10.0
SURE_AFTER_S: Final = 5.0
"""By then, a fault that began has been noticed, and the broker that was told to end has ended."""

LATENCY_S: Final = 5.0
HEALTHY_PUBLISHED: Final = 0.99
SLOWER_AT_MOST: Final = 2.0
FLOOR_S: Final = 0.05
DRAINED_WITHIN_S: Final = 10.0
FEW: Final = 10
"""Fewer events than this prove nothing."""

Step = Callable[[Site], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is broken and how it is whole again; `sick` are the partitions that it concerns."""

    begin: Step
    end: Step
    sick: Callable[[Site], Awaitable[Collection[Place]]]


async def one_partition_without_a_leader(grounds: Grounds, seed: int) -> Tally:
    """The broker that alone has it ends in order; its topic's other partition is elsewhere."""

    def placing(topic: str, number: int) -> Placed:
        if topic == SICK_TOPIC:
            return Placed(replicas=[[1], [3]], needed_in_sync=1)
        return _by_all(number, led_by=2)

    fault = Fault(begin=_stop(3), end=_start(3), sick=_places((SICK_TOPIC, 1)))
    return await _half_an_outage(grounds, seed, 3, placing, fault)


async def one_topic_below_its_in_sync_minimum(grounds: Grounds, seed: int) -> Tally:
    """It asks for all three brokers, the others for two, and one broker ends in order."""

    def placing(topic: str, number: int) -> Placed:
        if topic == SICK_TOPIC:
            return Placed(replicas=[[1, 2, 3]], needed_in_sync=3)
        return _by_all(number, led_by=2)

    fault = Fault(begin=_stop(3), end=_start(3), sick=_places((SICK_TOPIC, 0)))
    return await _half_an_outage(grounds, seed, 3, placing, fault)


async def one_broker_of_three_slow(grounds: Grounds, seed: int) -> Tally:
    """Its answers come after the budget; a third of all partitions is led by it."""

    def placing(topic: str, number: int) -> Placed:
        return _by_all(number, led_by=3)

    async def begin(site: Site) -> None:
        site.links[2].delay(LATENCY_S)

    async def end(site: Site) -> None:
        await site.links[2].heal()

    async def sick(site: Site) -> Collection[Place]:
        return await _led_by_third(site)

    return await _half_an_outage(grounds, seed, 3, placing, Fault(begin=begin, end=end, sick=sick))


async def one_of_two_brokers_killed(grounds: Grounds, seed: int) -> Tally:
    """SIGKILL to the second of two, which alone has one topic. Nobody can say that it is gone:

    two controllers, of which one is dead, agree on nothing, so the metadata name it to the end.
    """

    def placing(topic: str, number: int) -> Placed:
        return Placed(replicas=[[2 if topic == SICK_TOPIC else 1]], needed_in_sync=1)

    fault = Fault(begin=_kill(2), end=_start(2), sick=_places((SICK_TOPIC, 0)))
    return await _half_an_outage(grounds, seed, 2, placing, fault)


async def _half_an_outage(
    grounds: Grounds, seed: int, brokers: Brokers, placing: Placing, fault: Fault
) -> Tally:
    # the worker begins afterwards: it would take from what is measured
    async with grounds.site(seed, brokers=brokers, placing=placing, with_worker=False) as site:
        sick = await fault.sick(site)
        await site.ahead.prepare(int(PREPARED_S * RATE * site.load))
        async with loaded(site, rate=RATE, notice_share=NOTICE_SHARE), asyncio.TaskGroup() as more:
            # else one topic of so many gets a few events a second
            more.create_task(_more_of_the_sick(site))
            await _until_calm(site)
            calm = await _span(site, asyncio.sleep(0))
            broken = await _span(site, fault.begin(site))
            await fault.end(site)
            await _expect_drained(site)
        expect_all_accepted(site)
        expect_within_budget(site)
        await site.worker.start()
        await settle(site)
        await _expect_half(site, sick, calm, broken)
        return await judge(site)


async def _until_calm(site: Site) -> None:
    def is_calm() -> bool:
        since_s = time.time() - CALM_S
        latest = itertools.takewhile(
            lambda each: each.sent_at_s > since_s, reversed(site.witness.deliveries)
        )
        return began_s < since_s and {each.outcome for each in latest} == {"published"}

    began_s = time.time()
    try:
        await until(is_calm, timeout_s=CALM_WITHIN_S)
    except TimeoutError:
        site.expect_in_time(False, f"no calm within {CALM_WITHIN_S:g} s, without any fault")


async def _more_of_the_sick(site: Site) -> None:
    count = int((WARM_UP_S + 3 * SPAN_S) * SICK_RATE * site.load)
    await site.canvas.send_events(site.url, count=count, name=SICK_TYPE, rate=SICK_RATE * site.load)


async def _span(site: Site, beginning: Awaitable[object]) -> tuple[float, float]:
    """When it began and ended, in Unix seconds; as long as each other one."""
    began_s = time.time()
    await asyncio.gather(beginning, asyncio.sleep(SPAN_S))
    return began_s, began_s + SPAN_S


async def _expect_drained(site: Site) -> None:
    async def is_empty() -> bool:
        return (await site.ledger()).lane("spool") == 0

    began_s = time.monotonic()
    try:
        await until(is_empty, timeout_s=DRAINED_WITHIN_S)
    except TimeoutError:
        left = (await site.ledger()).lane("spool")
        site.expect_in_time(
            False, f"{left} are in the spool {DRAINED_WITHIN_S:g} s after the return"
        )
    else:
        site.measured.append(f"drained {time.monotonic() - began_s:.1f} s after the return")


async def _expect_half(
    site: Site, sick: Collection[Place], calm: tuple[float, float], broken: tuple[float, float]
) -> None:
    """By where each event is in the end, and what its answer said."""
    places = {record.event_id: record.place for record in (await site.topics()).trusted}

    def of(span: tuple[float, float], *, is_sick: bool) -> list[Delivery]:
        return [
            each
            for each in site.witness.deliveries
            if span[0] <= each.sent_at_s < span[1]
            and (places.get(each.event_id or "") in sick) == is_sick
        ]

    _expect_unharmed(site, of(calm, is_sick=False), of(broken, is_sick=False))
    ways = [each.outcome for each in of((broken[0] + SURE_AFTER_S, broken[1]), is_sick=True)]
    site.expect(len(ways) >= FEW, f"only {len(ways)} events of the sick came")
    site.expect(set(ways) == {"spooled"}, f"the sick ones' went {set(ways)}")


def _expect_unharmed(site: Site, calm: list[Delivery], broken: list[Delivery]) -> None:
    published = [each for each in broken if each.outcome == "published"]
    share = len(published) / max(1, len(broken))
    before_s, meanwhile_s = p99_s(calm), p99_s(published)
    site.measured.append(
        f"of {len(broken)} healthy ones {share:.1%} published,"
        f" p99 {meanwhile_s * 1000:.0f} ms, {before_s * 1000:.0f} ms before"
    )
    enough = share >= HEALTHY_PUBLISHED
    site.expect_in_time(enough, f"{share:.1%} of the healthy ones' were published")
    limit_s = max(SLOWER_AT_MOST * before_s, FLOOR_S)
    site.expect_in_time(
        meanwhile_s <= limit_s, f"p99 was {meanwhile_s:.3f} s, at most {limit_s:.3f}"
    )


def p99_s(deliveries: Collection[Delivery]) -> float:
    """The 99th percentile of what the answers took."""
    took_s = sorted(each.elapsed_s for each in deliveries)
    return took_s[len(took_s) * 99 // 100] if took_s else 0.0


def _by_all(number: int, *, led_by: int) -> Placed:
    """Everywhere, and led by the first so many brokers in turn."""
    leader = 1 + number % led_by
    others = [broker for broker in (1, 2, 3) if broker != leader]
    return Placed(replicas=[[leader, *others]], needed_in_sync=2)


def _places(*places: tuple[str, int]) -> Callable[[Site], Awaitable[Collection[Place]]]:
    async def named(site: Site) -> Collection[Place]:
        return {(f"{site.prefix}.{topic}", number) for topic, number in places}

    return named


async def _led_by_third(site: Site) -> Collection[Place]:
    """By the placing: every third topic, in the order in which they were made."""
    topics = enumerate(ingest_topics(site.prefix))
    return {(topic, 0) for number, topic in topics if number % 3 == 2}


def _stop(number: int) -> Step:
    async def stop(site: Site) -> None:
        await asyncio.to_thread(_broker(site, number).stop)

    return stop


def _start(number: int) -> Step:
    async def start(site: Site) -> None:
        await asyncio.to_thread(_broker(site, number).start)

    return start


def _kill(number: int) -> Step:
    async def kill(site: Site) -> None:
        await asyncio.to_thread(_broker(site, number).kill)

    return kill


def _broker(site: Site, number: int) -> Broker:
    assert site.cluster is not None
    return site.cluster.brokers[number - 1]
