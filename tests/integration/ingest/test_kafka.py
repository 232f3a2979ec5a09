"""The receiver before a real Kafka: what it makes there, what it writes, and what it says."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ingest.contract.catalogue import catalogue
from ingest.contract.codec import decode, encode
from ingest.contract.record import Record
from ingest.contract.topics import ingest_topics
from tests.emulator.oracle import Entry
from tests.integration.ingest.commands import run
from tests.integration.ingest.site import Site, eventually, running_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVE = "/live-events"
PARTITIONS = 3
RETENTION_HOURS = 36
MISSING_TYPE = "wiki_page_created"


@pytest.fixture(scope="module")
def settings(kafka_bootstrap_servers: str) -> Mapping[str, str]:
    """A prefix of this file's own."""
    return {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "FOREBAY_TOPICS__PREFIX": f"ingest.{uuid.uuid4().hex[:12]}",
        "FOREBAY_TOPICS__PARTITIONS": str(PARTITIONS),
        "FOREBAY_TOPICS__RETENTION_HOURS": str(RETENTION_HOURS),
    }


@pytest.fixture(scope="module")
def prefix(settings: Mapping[str, str]) -> str:
    return settings["FOREBAY_TOPICS__PREFIX"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(kafka_bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap_servers)
    await client.start()
    yield client
    await client.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, settings: Mapping[str, str]) -> list[str]:
    """The topics, made by the command, which tells their names."""
    directory = tmp_path_factory.mktemp("topics")
    before = run(directory, "topics", "list", **settings)
    assert before.returncode == 1, before.stderr
    assert set(re.findall(r"^\w+", before.stdout, re.MULTILINE)) == {"missing"}
    applied = run(directory, "topics", "apply", "--json", **settings)
    assert applied.returncode == 0, applied.stderr
    states = {line["topic"]: line["state"] for line in json.loads(applied.stdout)}
    assert set(states.values()) == {"made"}
    return sorted(states)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, settings: Mapping[str, str], made: list[str]
) -> AsyncIterator[Site]:
    """A receiver before Kafka."""
    async with running_site(tmp_path_factory.mktemp("site"), settings=settings) as running:
        yield running


async def test_every_topic_is_made_as_the_contract_says(
    made: list[str], prefix: str, admin: AIOKafkaAdminClient
) -> None:
    assert made == ingest_topics(prefix)
    for topic in await admin.describe_topics(made):
        assert len(topic["partitions"]) == PARTITIONS
        assert {len(partition["replicas"]) for partition in topic["partitions"]} == {1}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in made]
    for answer in await admin.describe_configs(resources):
        for _, _, _, _, entries in answer.resources:
            configs = {entry[0]: entry[1] for entry in entries}
            assert configs["max.message.bytes"] == "4194304"
            assert configs["min.insync.replicas"] == "1"
            assert configs["retention.ms"] == str(RETENTION_HOURS * 3_600_000)
            assert configs["cleanup.policy"] == "delete"


async def test_topics_are_made_once(
    made: list[str], settings: Mapping[str, str], tmp_path: Path
) -> None:
    again = await asyncio.to_thread(run, tmp_path, "topics", "apply", "--json", **settings)
    assert {line["state"] for line in json.loads(again.stdout)} == {"present"}
    listed = await asyncio.to_thread(run, tmp_path, "topics", "list", **settings)
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == len(made)


async def test_every_type_lands_in_its_topic_with_key_headers_and_value(
    site: Site, prefix: str, kafka_bootstrap_servers: str
) -> None:
    corpus = site.canvas.school.corpus
    events = await site.canvas.send_events(site.url, count=len(corpus.events))
    count = len(corpus.notice_types)
    sent_notices = await site.canvas.send_notices(site.url, count=count)
    assert events.ok, events.examples
    assert sent_notices.ok, sent_notices.examples
    wanted = {key: e for key, e in site.canvas.oracle.entries.items() if e.outcome == "published"}
    found = await _read(kafka_bootstrap_servers, prefix, set(wanted))
    assert {entry.name for entry in wanted.values()} == {*corpus.event_names, *corpus.notice_types}
    for event_id, (record, partition) in found.items():
        entry, envelope = wanted[event_id], decode(record)
        assert envelope.event_type == entry.name
        assert record == encode(envelope, prefix=prefix)
        assert record.topic == f"{prefix}.{entry.lane}.{_topic_name(entry)}.v1"
        assert partition == (_java_murmur2(record.key) & 0x7FFFFFFF) % PARTITIONS


async def test_a_missing_topic_costs_its_own_events_only(
    site: Site,
    prefix: str,
    settings: Mapping[str, str],
    admin: AIOKafkaAdminClient,
    tmp_path: Path,
) -> None:
    topic = f"{prefix}.live-events.wiki-page-created.v1"
    await admin.delete_topics([topic])
    listed = await asyncio.to_thread(run, tmp_path, "topics", "list", **settings)
    assert listed.returncode == 1
    assert re.search(rf"^missing +{re.escape(topic)}$", listed.stdout, re.MULTILINE)
    answer = await site.post(LIVE, site.live_event(1, name=MISSING_TYPE))
    assert (answer.status, answer.json()["outcome"]) == (202, "spooled")
    others = [await site.post(LIVE, site.live_event(n, name="course_created")) for n in range(5)]
    assert {other.json()["outcome"] for other in others} == {"published"}
    assert (await site.admin("/readyz")).status == 200
    await asyncio.to_thread(run, tmp_path, "topics", "apply", **settings)

    numbers = itertools.count(2)  # what was spooled is answered so again

    async def is_accepted() -> bool:
        again = await site.post(LIVE, site.live_event(next(numbers), name=MISSING_TYPE))
        return bool(again.json()["outcome"] == "published")

    await eventually(is_accepted)
    await eventually(partial(_spool_is_empty, site))


async def _spool_is_empty(site: Site) -> bool:
    return (await site.metrics()).value("forebay_events_held", lane="spool") == 0


async def test_a_receiver_names_the_topics_that_are_missing(
    settings: Mapping[str, str], tmp_path: Path
) -> None:
    other = {**settings, "FOREBAY_TOPICS__PREFIX": f"none.{uuid.uuid4().hex[:12]}"}
    async with running_site(tmp_path, settings=other) as site:

        async def is_said() -> bool:
            log = site.program.log_file.read_text()
            return all(name in log for name in ingest_topics(other["FOREBAY_TOPICS__PREFIX"]))

        await eventually(is_said)
        answer = await site.post(LIVE, site.live_event(1))
        assert (answer.status, answer.json()["outcome"]) == (202, "spooled")


async def test_large_events_reach_their_topic_whole(
    site: Site, prefix: str, kafka_bootstrap_servers: str
) -> None:
    event = site.canvas.school.live_event(3, name="course_created", stream="by hand").claims
    sizes = {}
    for size in (300_000, 1_400_000):  # above what one batch holds, and close to the body's limit
        token = site.live_event(3, body={**event["body"], "syllabus": "x" * size})
        answer = await site.post(LIVE, token)
        assert answer.status == 202, answer
        sizes[answer.json()["event_id"]] = size
    found = await _read(kafka_bootstrap_servers, prefix, set(sizes))
    kept = {event_id: decode(record).body["syllabus"] for event_id, (record, _) in found.items()}
    assert {event_id: len(text) for event_id, text in kept.items()} == sizes


async def _read(servers: str, prefix: str, wanted: set[str]) -> dict[str, tuple[Record, int]]:
    """The wanted events' records and partitions, by event id; raises TimeoutError."""
    found: dict[str, tuple[Record, int]] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    consumer.subscribe(pattern=f"^{re.escape(prefix)}\\.")
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while wanted - found.keys():
                got = await consumer.getone()
                event_id = dict(got.headers).get("ce_id", b"").decode()
                record = Record(
                    topic=got.topic, key=got.key, value=got.value, headers=tuple(got.headers)
                )
                found[event_id] = (record, got.partition)
    finally:
        await consumer.stop()
    return {event_id: found[event_id] for event_id in wanted}


def _topic_name(entry: Entry) -> str:
    """The type in kebab case, where the catalogue knows it."""
    if catalogue().find(entry.lane, entry.name) is None:
        return "unrecognised"
    kebab = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", entry.name)
    return kebab.lower().replace("_", "-")


def _java_murmur2(key: bytes) -> int:
    """Kafka's hash, written again from org.apache.kafka.common.utils.Utils.murmur2."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    value = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * factor & mask
        word = (word ^ (word >> 24)) * factor & mask
        value = (value * factor & mask) ^ word
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * factor & mask
    value = (value ^ (value >> 13)) * factor & mask
    return value ^ (value >> 15)
