"""How long Kafka keeps what is not written, asked for in the only way there is."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from consumers.sources import kafka_retention
from consumers.sources.kafka_retention import ASK_AGAIN_AFTER_S, LOOK_EVERY_S, KafkaRetention
from ingest.shared.kafka.clients import KafkaRefused
from ingest.shared.kafka.topic_admin import FOR_EVER_MS

NOW_S = 1_000_000.0
HOUR_S = 3_600.0


class Place(NamedTuple):
    """A partition, as aiokafka names it."""

    topic: str
    partition: int


class Partitions:
    """Answers as a consumer does, of records by the age that they have at `NOW_S`."""

    def __init__(self, ages_s: Mapping[Place, Sequence[float]]) -> None:
        self._times_ms = {
            place: [int((NOW_S - age) * 1000) for age in ages] for place, ages in ages_s.items()
        }
        self.asked = 0

    async def offsets_for_times(self, times_ms: Mapping[Place, int]) -> Mapping[Place, Any]:
        self.asked += 1
        found = {place: bisect_left(self._times_ms[place], at) for place, at in times_ms.items()}
        return {
            place: SimpleNamespace(offset=at) if at < len(self._times_ms[place]) else None
            for place, at in found.items()
        }


class Topics:
    """The topics' retention, as Kafka's admin tells it."""

    def __init__(self, **retention_ms: int) -> None:
        self.retention_ms = retention_ms
        self.asked = 0
        self.refuses = False

    async def __call__(self, options: Any, topics: Sequence[str]) -> Mapping[str, int]:
        self.asked += 1
        if self.refuses:
            raise KafkaRefused("Kafka denies this login the right to do it")
        return {name: ms for name, ms in self.retention_ms.items() if name in topics}


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    told = Topics(one=int(10 * HOUR_S * 1000), two=FOR_EVER_MS)
    monkeypatch.setattr(kafka_retention, "retention_ms", told)
    return told


def retention(now_s: float = NOW_S) -> KafkaRetention:
    return KafkaRetention({}, unix_s=lambda: now_s)


async def test_it_is_the_age_of_the_first_unwritten_record_that_counts(topics: Topics) -> None:
    here, there = Place("one", 0), Place("one", 1)
    log = Partitions({here: [9 * HOUR_S, 8 * HOUR_S, 7 * HOUR_S, 60], there: [3 * HOUR_S]})
    watch = retention()
    await watch.look(log, {here: 2, there: 0})
    assert 3 * HOUR_S - 30 < watch.loss.seconds <= 3 * HOUR_S


async def test_what_is_older_than_its_retention_may_go_at_any_moment(topics: Topics) -> None:
    watch = retention()
    await watch.look(Partitions({Place("one", 0): [30 * HOUR_S]}), {Place("one", 0): 0})
    assert watch.loss.seconds == 0


async def test_topics_that_are_kept_for_ever_lose_nothing(topics: Topics) -> None:
    watch = retention()
    await watch.look(Partitions({Place("two", 0): [900 * HOUR_S]}), {Place("two", 0): 0})
    assert watch.loss.seconds == math.inf


@pytest.mark.parametrize("refuses", [True, False])
async def test_without_the_right_to_read_settings_nobody_can_tell(
    topics: Topics, refuses: bool
) -> None:
    topics.refuses = refuses
    watch = retention()
    await watch.look(Partitions({Place("three", 0): [HOUR_S]}), {Place("three", 0): 0})
    assert math.isnan(watch.loss.seconds)


async def test_kafka_is_asked_seldom(topics: Topics) -> None:
    now_s = [NOW_S]
    watch = KafkaRetention({}, unix_s=lambda: now_s[0])
    here = Place("one", 0)
    log = Partitions({here: [HOUR_S]})
    for _ in range(3):
        await watch.look(log, {here: 0})
    looks = log.asked
    now_s[0] += LOOK_EVERY_S
    await watch.look(log, {here: 0})
    assert (log.asked, topics.asked) == (2 * looks, 1)
    now_s[0] += ASK_AGAIN_AFTER_S
    await watch.look(log, {here: 0})
    assert topics.asked == 2


async def test_once_all_is_written_nothing_is_lost(topics: Topics) -> None:
    here = Place("one", 0)
    watch = retention()
    await watch.look(Partitions({here: [HOUR_S]}), {here: 0})
    await watch.look(Partitions({}), {})
    assert watch.loss.seconds == math.inf
