"""`forebay-ingest quarantine` before the embedded log of a running receiver, and before Kafka."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from ingest.contract.codec import decode
from ingest.contract.eventlog.eventlog import FILE_NAME
from ingest.contract.moments import rfc3339
from ingest.contract.quarantine import quarantine_record
from ingest.contract.record import StoredRecord
from ingest.contract.topics import event_topics, quarantine_topic
from ingest.quarantine.log import EmbeddedQuarantine, KafkaQuarantine, QuarantineLog
from ingest.shared.background import Background
from ingest.shared.kafka.topic_admin import TopicError
from ingest.shared.kafka.topic_reader import read_topic
from tests.integration.ingest.commands import run
from tests.integration.ingest.site import Site, running_site
from tests.support.keys import SigningKey
from tests.support.processes import make_topics

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVE = "/live-events"
NAME = "course_created"
BESIDE = 60
"""So many entries are released while a receiver writes."""


class Desk:
    """An operator's command line before one site."""

    def __init__(self, site: Site, scratch: Path, settings: Mapping[str, str]) -> None:
        self.site = site
        self._scratch = scratch
        self._settings = {
            **site.canvas.receiver_environment(),
            "FOREBAY_DATA_DIR": str(site.directory / "data"),
            "FOREBAY_TENANTS_FILE": str(site.directory / "tenants.toml"),
            **settings,
        }
        self.prefix = settings.get("FOREBAY_TOPICS__PREFIX", "canvas")
        self.servers = settings.get("FOREBAY_KAFKA__BOOTSTRAP_SERVERS")

    async def run(self, *arguments: str, code: int = 0) -> Any:
        """What `quarantine … --json` prints."""
        result = await asyncio.to_thread(
            run, self._scratch, "quarantine", *arguments, "--json", **self._settings
        )
        assert result.returncode == code, result.stderr + result.stdout
        return json.loads(result.stdout)

    async def states(self) -> dict[str, str]:
        """Every entry's state, by key."""
        return {row["key"]: row["state"] for row in await self.run("list", "--all")}

    async def keep(self, number: int) -> str:
        """Sends an event that is quarantined as expired; returns its key."""
        claims = self.site.canvas.school.live_event(number, name=NAME, stream="late").claims
        iat = int(time.time()) - 7_200
        key = self.site.canvas.keys.live_events.current
        token = key.sign({**claims, "iat": iat, "exp": iat + 3600}).encode()
        answer = (await self.site.post(LIVE, token)).json()
        assert answer["outcome"] == "quarantined", answer
        return str(answer["event_id"])

    async def keep_of_days_ago(self, number: int, signer: SigningKey) -> str:
        """Keeps an event as one whose key is gone; returns its key in quarantine."""
        claims = self.site.canvas.school.live_event(number, name=NAME, stream="late").claims
        then_s = int(time.time()) - 3 * 24 * 3600
        token = signer.sign({**claims, "iat": then_s, "exp": then_s + 3600})
        record = quarantine_record(
            self.prefix,
            token,
            reason="key_gone",
            source="live-events",
            received_at=rfc3339(then_s),
        )
        async with Background() as background:
            log = self._quarantine(background)
            await log.append(record)
            await log.close()
        return record.key.decode()

    def _quarantine(self, background: Background) -> QuarantineLog:
        if self.servers is None:
            file = self.site.directory / "data" / FILE_NAME
            return EmbeddedQuarantine(file, self.prefix, max_bytes=2**30)
        options = {"bootstrap_servers": self.servers}
        return KafkaQuarantine(options, self.prefix, publish_timeout_s=10, background=background)

    async def published(self) -> Counter[str]:
        """How often each event of the type that `keep` sends is in its topic."""
        topic = f"{self.prefix}.live-events.course-created.v1"
        assert topic in event_topics(self.prefix)
        return Counter(decode(record).event_id for record in await self._records(topic))

    async def decisions(self) -> int:
        """How many decisions the log holds."""
        records = await self._records(quarantine_topic(self.prefix))
        return sum("decision" in orjson.loads(record.value) for record in records)

    async def _records(self, topic: str) -> list[StoredRecord]:
        if self.servers is None:
            return [record for record in self.site.log() if record.topic == topic]
        options = {"bootstrap_servers": self.servers}
        return [record async for record in read_topic(options, topic, timeout_s=30)]


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Of either log; Kafka's with a prefix of this file's own, and three partitions a topic."""
    if request.param == "embedded":
        return {}
    settings = {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": request.getfixturevalue("kafka_bootstrap_servers"),
        "FOREBAY_TOPICS__PREFIX": f"quarantine.{uuid.uuid4().hex[:12]}",
        "FOREBAY_TOPICS__PARTITIONS": "3",
    }
    make_topics(settings)
    return settings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(
    settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    directory = tmp_path_factory.mktemp("desk")
    async with running_site(directory / "site", settings=settings) as site:
        yield Desk(site, directory, settings)


async def test_a_released_event_is_in_its_topic_once_under_the_id_it_had(desk: Desk) -> None:
    key = await desk.keep(1)
    listed = {row["key"]: row for row in await desk.run("list")}
    assert (listed[key]["reason"], listed[key]["state"]) == ("expired", "open")
    shown = await desk.run("show", key[:20])
    assert shown["unverified_claims"]["metadata"]["event_name"] == NAME
    assert (await desk.published())[key] == 0
    (outcome,) = await desk.run("release", key[:20])
    assert outcome == {"key": key, "outcome": "released", "event_id": key, "why": None}
    assert (await desk.published())[key] == 1
    assert (await desk.states())[key] == "released"
    decisions = await desk.decisions()
    (again,) = await desk.run("release", key)
    assert again["outcome"] == "already released"
    assert (await desk.published())[key] == 1
    assert await desk.decisions() == decisions


async def test_a_dropped_event_is_in_no_topic_and_not_released(desk: Desk) -> None:
    key = await desk.keep(2)
    (outcome,) = await desk.run("drop", key)
    assert outcome["outcome"] == "dropped"
    assert (await desk.states())[key] == "dropped"
    (refused,) = await desk.run("release", key, code=1)
    assert refused["outcome"] == "already dropped"
    assert (await desk.published())[key] == 0


async def test_an_event_of_nobody_is_released_to_the_tenant_that_is_named(desk: Desk) -> None:
    claims = desk.site.canvas.school.live_event(3, name=NAME, stream="late").claims
    metadata = {n: v for n, v in claims["metadata"].items() if not n.startswith("root_account")}
    token = desk.site.live_event(3, name=NAME, metadata=metadata, subscription={"id": "of-nobody"})
    key = (await desk.site.post(LIVE, token)).json()["event_id"]
    (kept,) = await desk.run("release", key, code=1)
    assert (kept["outcome"], kept["why"].partition(":")[0]) == ("kept", "tenant_unknown")
    tenant = desk.site.canvas.school.name
    (released,) = await desk.run("release", key, "--tenant", tenant)
    assert (released["outcome"], released["event_id"]) == ("released", key)
    assert (await desk.published())[key] == 1


async def test_a_token_whose_key_is_gone_is_released_by_that_key_alone(
    desk: Desk, tmp_path: Path
) -> None:
    gone, other = SigningKey.generate("gone-key"), SigningKey.generate("other-key")
    # as after an outage of days, in which its key left the key set
    key = await desk.keep_of_days_ago(4, gone)
    (kept,) = await desk.run("release", key, code=1)
    assert kept["why"].startswith("key_gone")
    file = tmp_path / "key.pem"
    file.write_text(other.public_pem())
    (forged,) = await desk.run("release", key, "--key-file", str(file), code=1)
    assert forged["why"] == "bad_signature"
    file.write_text(gone.public_pem())
    (released,) = await desk.run("release", key, "--key-file", str(file))
    assert released["outcome"] == "released"
    assert (await desk.published())[released["event_id"]] == 1


async def test_nothing_leaves_while_the_keys_cannot_be_had(desk: Desk) -> None:
    key = await desk.keep(5)
    desk.site.canvas.key_server.fail_with(500)
    (kept,) = await desk.run("release", key, code=1)
    assert kept["why"] == "the key source does not answer"
    assert (await desk.published())[key] == 0
    desk.site.canvas.key_server.fail_with(None)
    assert (await desk.run("release", key))[0]["outcome"] == "released"


async def test_releasing_many_disturbs_no_receiver_that_writes_at_full_speed(desk: Desk) -> None:
    keys = [await desk.keep(number) for number in range(100, 100 + BESIDE)]
    stop = asyncio.Event()
    sending = [asyncio.create_task(_send(desk.site, lane, stop)) for lane in range(8)]
    try:
        outcomes = await desk.run("release", "--reason", "expired", "--all")
    finally:
        stop.set()
        sent = [answer for answers in await asyncio.gather(*sending) for answer in answers]
    assert {o["key"] for o in outcomes if o["outcome"] == "released"} >= set(keys)
    assert len(sent) > BESIDE
    assert set(sent) == {202}
    published = await desk.published()
    assert {published[key] for key in keys} == {1}
    states = await desk.states()
    assert {states[key] for key in keys} == {"released"}
    assert (await desk.site.metrics()).imbalance("live-events") == 0


async def test_a_topic_that_is_missing_is_said(
    kafka_bootstrap_servers: str, tmp_path: Path
) -> None:
    result = await asyncio.to_thread(
        run,
        tmp_path,
        *("quarantine", "list"),
        FOREBAY_KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap_servers,
        FOREBAY_TOPICS__PREFIX=f"none.{uuid.uuid4().hex[:12]}",
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "there is no topic" in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_kafka_that_does_not_answer_is_said(
    unused_tcp_port_factory: Callable[[], int], tmp_path: Path
) -> None:
    servers = f"127.0.0.1:{unused_tcp_port_factory()}"
    with pytest.raises(TopicError, match="does not answer"):
        async for _ in read_topic({"bootstrap_servers": servers}, "t", timeout_s=2):
            pass
    result = await asyncio.to_thread(
        run, tmp_path, "quarantine", "list", FOREBAY_KAFKA__BOOTSTRAP_SERVERS=servers
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)


async def _send(site: Site, lane: int, stop: asyncio.Event) -> list[int]:
    """Statuses of as many events as one after the other goes."""
    answers: list[int] = []
    while not stop.is_set():
        token = site.live_event(10_000 * (lane + 1) + len(answers), name="user_created")
        answers.append((await site.post(LIVE, token)).status)
    return answers
