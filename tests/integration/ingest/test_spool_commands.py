"""`forebay-ingest spool` on the disk of a receiver that runs, that was killed, and elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from tests.integration.ingest.commands import run
from tests.integration.ingest.site import Site, eventually, notices, running_site
from tests.support.processes import free_port, make_topics

EVENTS = 40
NOTICES = 25
READ_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """A receiver whose Kafka and whose Live Events keys do not answer, and what it holds."""

    site: Site
    settings: Mapping[str, str]
    scratch: Path
    notice_ids: set[str] = field(default_factory=set)

    async def command(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`forebay-ingest spool` with the receiver's own settings but for those given."""
        return await asyncio.to_thread(
            run, self.scratch, "spool", *arguments, **{**self.settings, **settings}
        )

    async def status(self, **settings: str) -> dict[str, Any]:
        """What `spool status` says."""
        result = await self.command("status", "--json", **settings)
        assert result.returncode == 0, result.stderr
        shown: dict[str, Any] = json.loads(result.stdout)
        return shown

    async def fill(self) -> None:
        """Live Events that wait for keys, and notices that wait for Kafka."""
        answers = await asyncio.gather(
            *(self.site.post("/live-events", self.site.live_event(n)) for n in range(EVENTS))
        )
        assert {answer.json()["outcome"] for answer in answers} == {"deferred"}
        tokens = [self.site.notice(n) for n in range(NOTICES)]
        answer = await self.site.post("/pns", notices(tokens))
        outcomes = answer.json()["notices"]
        assert {one["outcome"] for one in outcomes} == {"spooled"}, outcomes
        self.notice_ids.update(one["event_id"] for one in outcomes)
        assert len(self.notice_ids) == NOTICES


@pytest_asyncio.fixture
async def stranded(tmp_path: Path) -> AsyncIterator[Stranded]:
    own = {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "FOREBAY_TOPICS__PREFIX": f"stranded.{uuid.uuid4().hex[:12]}",
        "FOREBAY_TOPICS__PARTITIONS": "1",
        "FOREBAY_LIVE_EVENTS__JWKS_URL": f"http://127.0.0.1:{free_port()}/jwks",
    }
    async with running_site(tmp_path / "site", settings=own) as site:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        settings = {
            **site.canvas.receiver_environment(),
            **own,
            "FOREBAY_DATA_DIR": str(site.directory / "data"),
            "FOREBAY_TENANTS_FILE": str(site.directory / "tenants.toml"),
        }
        yield Stranded(site=site, settings=settings, scratch=scratch)


async def test_a_spool_is_looked_into_beside_its_owner_and_changed_by_nobody_else(
    stranded: Stranded,
) -> None:
    await stranded.fill()
    shown = await stranded.status()
    assert (shown["records"], shown["tokens"]) == (NOTICES, EVENTS)
    assert (shown["owned"], shown["owner_pid"]) == (True, stranded.site.program.pid)
    assert shown["reserve_held"] is True
    exported = await stranded.command("export")
    assert exported.returncode == 0, exported.stderr
    assert len(exported.stdout.splitlines()) == NOTICES + EVENTS
    assert (await stranded.command("fsck")).returncode == 0
    lines = stranded.scratch / "lines"
    lines.write_text(exported.stdout)
    for command in (["import", str(lines)], ["fsck", "--repair"], ["drain", "--timeout", "5"]):
        refused = await stranded.command(*command)
        assert (refused.returncode, refused.stdout) == (2, ""), command
        assert f"in use by process {stranded.site.program.pid}" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert (await stranded.status())["by_topic"] == shown["by_topic"]
    assert (await stranded.site.post("/live-events", stranded.site.live_event(999))).status == 202


async def test_looking_disturbs_no_request(stranded: Stranded) -> None:
    looked = asyncio.create_task(_look_often(stranded))
    for first in range(0, 400, 50):
        answers = await asyncio.gather(
            *(
                stranded.site.post("/live-events", stranded.site.live_event(first + n))
                for n in range(50)
            )
        )
        assert {answer.status for answer in answers} == {202}
    assert await looked == {0}
    assert (await stranded.status())["tokens"] == 400


async def test_what_a_killed_receiver_held_comes_in_elsewhere(
    stranded: Stranded, tmp_path: Path
) -> None:
    await stranded.fill()
    await asyncio.to_thread(stranded.site.program.kill)
    shown = await stranded.status()
    assert (shown["owned"], shown["records"], shown["tokens"]) == (False, NOTICES, EVENTS)
    lines = tmp_path / "lines"
    assert (await stranded.command("export", "--out", str(lines))).returncode == 0
    elsewhere = {"FOREBAY_SPOOL__DIR": str(tmp_path / "elsewhere")}
    taken = await stranded.command("import", str(lines), **elsewhere)
    assert (taken.returncode, taken.stdout) == (0, f"{NOTICES + EVENTS} taken\n")
    there = await stranded.status(**elsewhere)
    assert there["by_topic"] == shown["by_topic"]
    again = await stranded.command("export", **elsewhere)
    assert [_timeless(line) for line in again.stdout.splitlines()] == [
        _timeless(line) for line in lines.read_text().splitlines()
    ]


async def test_drain_tells_what_is_left_at_its_timeout_and_at_sigterm(stranded: Stranded) -> None:
    await stranded.fill()
    await asyncio.to_thread(stranded.site.program.kill)
    ended = await stranded.command("drain", "--timeout", "2", "--json")
    left = {"records_left": NOTICES, "tokens_left": EVENTS}
    assert (ended.returncode, json.loads(ended.stdout)) == (1, left), ended.stderr
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("forebay-ingest")),
        *("spool", "drain", "--json"),
        env=dict(stranded.settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def is_owned() -> bool:
        return bool((await stranded.status())["owned"])

    await eventually(is_owned)
    process.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, json.loads(output)) == (1, left)
    after = await stranded.status()
    assert (after["records"], after["tokens"]) == (NOTICES, EVENTS)


async def test_a_dead_receivers_disk_is_drained_into_kafka(
    stranded: Stranded, kafka_bootstrap_servers: str
) -> None:
    await stranded.fill()
    await asyncio.to_thread(stranded.site.program.kill)
    alive = {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        **stranded.site.canvas.receiver_environment(),
    }
    await asyncio.to_thread(make_topics, {**stranded.settings, **alive})
    drained = await stranded.command("drain", "--timeout", "60", "--json", **alive)
    assert drained.returncode == 0, drained.stderr
    assert json.loads(drained.stdout) == {"records_left": 0, "tokens_left": 0}
    shown = await stranded.status()
    assert (shown["records"], shown["tokens"], shown["owned"]) == (0, 0, False)
    prefix = stranded.settings["FOREBAY_TOPICS__PREFIX"]
    found = await _event_ids(kafka_bootstrap_servers, prefix, NOTICES + EVENTS)
    assert {i for i, topic in found.items() if ".pns." in topic} == stranded.notice_ids
    assert sum(".live-events." in topic for topic in found.values()) == EVENTS


async def _look_often(stranded: Stranded) -> set[int]:
    codes = set()
    for command in ("status", "export", "fsck", "status"):
        codes.add((await stranded.command(command)).returncode)
    return codes


async def _event_ids(servers: str, prefix: str, count: int) -> dict[str, str]:
    """Topics by event id, once there are so many of them."""
    found: dict[str, str] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    consumer.subscribe(pattern=f"^{re.escape(prefix)}\\.")
    await consumer.start()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            while len(found) < count:
                record = await consumer.getone()
                found[dict(record.headers)["ce_id"].decode()] = record.topic
    finally:
        await consumer.stop()
    return found


def _timeless(line: str) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(line)
    members.pop("appended_ms", None)  # which tokens do not have
    return members
