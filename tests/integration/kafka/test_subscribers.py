"""Our topics as other people's clients read them: librdkafka, CloudEvents, JSON Schema."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, Message
from jsonschema import Draft202012Validator

from ingest.contract.codec import decode, encode
from ingest.contract.describe.published import examples
from ingest.contract.describe.schemas import schemas
from ingest.contract.envelope import Envelope
from ingest.contract.record import Record
from ingest.publishing.kafka.log import KafkaLog
from ingest.shared.background import Background
from tests.integration.kafka.test_broker import make_topic
from tests.integration.test_manual import python_of_the_manual

READ_TIMEOUT_S = 20.0
_JSON = JSONFormat()
TYPES = ("grade_change", "quizzes.item_created", "LtiContextCopyNotice", "LtiResourceCopyNotice")


def published(event_type: str) -> Envelope:
    return next(envelope for envelope in examples() if envelope.event_type == event_type)


async def publish(bootstrap_servers: str, records: list[Record]) -> None:
    """Sends records as the receiver does."""
    for topic in sorted({record.topic for record in records}):
        await make_topic(bootstrap_servers, topic)
    log = KafkaLog(client_options={"bootstrap_servers": bootstrap_servers}, budget_s=10)
    async with Background() as background:
        background.start("kafka publisher", log.run, needed=True)
        assert await log.connected(READ_TIMEOUT_S)
        for record in records:
            await log.append(record)
        await log.close()


@contextmanager
def subscribed(bootstrap_servers: str, topics: list[str]) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": topics[0],
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(topics)
    try:
        yield consumer
    finally:
        consumer.close()


def read(bootstrap_servers: str, topics: list[str], *, count: int) -> dict[str, Message]:
    """The next `count` messages, by topic."""
    messages: dict[str, Message] = {}
    deadline = time.monotonic() + READ_TIMEOUT_S
    with subscribed(bootstrap_servers, topics) as consumer:
        while len(messages) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                messages[message.topic() or ""] = message
    assert len(messages) == count
    return messages


async def test_foreign_client_reads_what_the_contract_says(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    envelopes = [published(name) for name in TYPES]
    records = [encode(envelope, prefix=topic_prefix) for envelope in envelopes]
    await publish(kafka_bootstrap_servers, records)
    topics = [record.topic for record in records]
    messages = await asyncio.to_thread(read, kafka_bootstrap_servers, topics, count=len(records))
    for envelope, record in zip(envelopes, records, strict=True):
        check(messages[record.topic], envelope, record)


def check(message: Message, envelope: Envelope, record: Record) -> None:
    key, value, headers = message.key(), message.value(), message.headers()
    assert isinstance(key, bytes)
    assert isinstance(value, bytes)
    assert headers == list(record.headers)
    received = {name: text for name, text in headers or () if isinstance(text, bytes)}
    assert (key, value) == (record.key, record.value)
    # the envelope again, by our reader
    assert decode(Record(topic=record.topic, key=key, value=value)) == envelope
    # by the CloudEvents project's own package, from the headers that came over the wire
    event = from_binary(KafkaMessage(headers=received, key=key, value=value), _JSON)
    assert event.get_id() == envelope.event_id
    assert event.get_data() == {"metadata": envelope.metadata, "body": envelope.body}
    # by the schema that the headers name
    name = (event.get_dataschema() or "").rpartition(":")[2]
    assert record.topic.endswith(f".{name}")
    Draft202012Validator(schemas()[name]).validate(orjson.loads(value))


async def test_subscriber_of_the_manual_prints_each_grade_once(
    kafka_bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> None:
    first = published("grade_change")
    second = Envelope({**first.metadata, "event_id": "5a" * 32}, {**first.body, "score": 12.0})
    sent = [encode(envelope, prefix=topic_prefix) for envelope in (first, first, second)]
    await publish(kafka_bootstrap_servers, sent)
    where = {"KAFKA": kafka_bootstrap_servers, "TOPIC": sent[0].topic}
    lines = await asyncio.to_thread(first_lines, tmp_path, where, count=2)
    scores = [line.split()[-1] for line in lines]
    assert scores == [str(first.body["score"]), "12.0"]


def first_lines(directory: Path, environment: dict[str, str], *, count: int) -> list[str]:
    """What the manual's subscriber prints first; empty lines if it ends or takes too long."""
    program = subprocess.Popen(
        [sys.executable, "-c", python_of_the_manual("confluent_kafka")],
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = threading.Timer(READ_TIMEOUT_S, program.kill)
    watch.start()
    try:
        assert program.stdout is not None
        return [program.stdout.readline() for _ in range(count)]
    finally:
        watch.cancel()
        program.kill()
        program.communicate()
