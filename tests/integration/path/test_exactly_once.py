"""Whoever is killed: what was answered 2xx is in the tables, once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.integration.path.whole_path import (
    WholePath,
    drawn_seed,
    kill_while_sending,
    whole_path,
)
from tests.support.processes import Program, make_topics

EVENTS = 2_500
EVENTS_THROUGH_KAFKA = 1_500
KILLS = 3


async def test_killed_programs_cost_no_event_and_double_none(tmp_path: Path) -> None:
    seed = drawn_seed()
    async with whole_path(tmp_path, seed=seed) as path:
        # in turn, so that each dies while the other runs, and sometimes while it starts
        victims = [path.receiver, path.worker] * KILLS
        await _kill_and_count(path, seed, count=EVENTS, victims=victims)


async def test_kills_cost_no_event_and_double_none_on_kafka_either(
    tmp_path: Path, kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    seed = drawn_seed()
    settings = {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "FOREBAY_TOPICS__PREFIX": topic_prefix,
        "FOREBAY_TOPICS__PARTITIONS": "1",
        "FOREBAY_WORKER__NAME": topic_prefix.replace(".", "-"),
    }
    await asyncio.to_thread(make_topics, settings)
    async with whole_path(tmp_path, seed=seed, settings=settings) as path:
        victims = [path.receiver, path.worker]
        await _kill_and_count(path, seed, count=EVENTS_THROUGH_KAFKA, victims=victims)


async def _kill_and_count(
    path: WholePath, seed: int, *, count: int, victims: list[Program]
) -> None:
    rng = random.Random(f"{seed}/kills")
    report = await kill_while_sending(path, rng, count=count, victims=victims)
    hint = f"TEST_PATH_SEED={seed}"
    assert report.not_accepted == 0, f"{hint}: {report.examples}"
    if path.receiver in victims:
        assert report.statuses.get("none", 0) > 0, f"{hint}: no kill was felt"
    assert not path.canvas.oracle.strange_event_ids, hint
    for program in (path.receiver, path.worker):
        await asyncio.to_thread(program.wait_until_ready)
    await path.rows()
    faults = await asyncio.to_thread(path.faults)
    assert not faults, f"{hint}: {faults}"
