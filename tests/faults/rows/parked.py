"""Row 29: gigabytes are parked for one topic, and everybody else's events go on.

`FAULTS_PARKED_MB` says how much. As in row 27, a machine that carries everything has pauses of its
own: below `FLOOR_S` no p99 is held against anybody.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from pathlib import Path
from typing import Final

from aiokafka.errors import for_code

from ingest.contract.record import Record
from ingest.spool.files.rows import NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from tests.emulator.key_server import Mode
from tests.faults.crowd import Crowd, crowding
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.kept import admin_client
from tests.faults.rows.expecting import expect_all_accepted, expect_within_budget
from tests.faults.rows.half_outages import p99_s
from tests.faults.site import Site
from tests.faults.verdict import Tally
from tests.faults.waiting import until

SIZE_VARIABLE: Final = "FAULTS_PARKED_MB"
PARKED_BYTES: Final = int(os.environ.get(SIZE_VARIABLE, "2048")) * 1024**2
VALUE_BYTES: Final = 256 * 1024
AT_ONCE: Final = 64
TOPIC: Final = "live-events.unrecognised.v1"
"""No event of the emulator goes there."""

RATE: Final = 300.0
SPAN_S: Final = 8.0
AWAY_FOR_SURE_S: Final = 3.0
SLOWER_AT_MOST: Final = 1.5
FLOOR_S: Final = 0.05
TOKENS: Final = 60
SETTLED_WITHIN_S: Final = 30.0
EMPTY_WITHIN_S: Final = 60.0


async def gigabytes_parked_for_one_topic(grounds: Grounds, seed: int) -> Tally:
    """Events of other topics are spooled as fast as into an empty spool, and tokens settle."""
    receiver = {"FOREBAY_SPOOL__MAX_BYTES": str(max(1024**3, 4 * PARKED_BYTES))}
    async with grounds.site(seed, receiver=receiver) as site:
        empty_s = await _spooling_p99_s(site)
        await _until_held(site, 0)
        parked = await _park(site, seed)
        parked_s = await _spooling_p99_s(site)
        site.measured.append(
            f"{parked * VALUE_BYTES / 1024**2:,.0f} MiB parked: p99 of others"
            f" {parked_s * 1000:.0f} ms, {empty_s * 1000:.0f} ms with an empty spool"
        )
        limit_s = max(SLOWER_AT_MOST * empty_s, FLOOR_S)
        site.expect_in_time(parked_s <= limit_s, f"p99 was {parked_s:.3f} s, at most {limit_s:.3f}")
        await _until_held(site, parked)
        await _expect_tokens_settle(site)
        expect_all_accepted(site)
        expect_within_budget(site)
        await _until_held(site, parked)
        # what is parked is nobody's, and its topic will not come back
        await site.receiver.kill()
        shutil.rmtree(_spool(site))
        await site.receiver.start()
        await settle(site)
        return await judge(site)


async def _spooling_p99_s(site: Site) -> float:
    """What answers take while all events go into the spool; they are drained after that."""
    first = len(site.witness.deliveries)
    await site.ahead.prepare(first + int(RATE * site.load * (AWAY_FOR_SURE_S + SPAN_S)))
    await site.link.refuse()
    async with (
        Crowd(site.url, site.witness.record) as crowd,
        crowding(crowd, site.ahead.events(first=first), rate=RATE * site.load),
    ):
        await asyncio.sleep(AWAY_FOR_SURE_S)
        began = len(site.witness.deliveries)
        await asyncio.sleep(SPAN_S)
        answered = site.witness.deliveries[began:]
    await site.link.heal()
    ways = {each.outcome for each in answered}
    site.expect(ways == {"spooled"}, f"with Kafka away events went {ways}")
    return p99_s(answered)


async def _park(site: Site, seed: int) -> int:
    """Takes the topic away and fills the spool with its records; how many there are."""
    async with admin_client(_servers(site)) as admin:
        response = await admin.delete_topics([f"{site.prefix}.{TOPIC}"])
        for _, code, *_ in response.topic_error_codes:
            if code:
                raise for_code(code)
    await site.receiver.term()
    began_s = time.monotonic()
    count = await asyncio.to_thread(_fill, _spool(site) / FILE_NAME, site.prefix, seed)
    filled_s = time.monotonic()
    await site.receiver.start()
    site.measured.append(
        f"parked within {filled_s - began_s:.0f} s,"
        f" the receiver ready with it after {time.monotonic() - filled_s:.1f} s"
    )
    held = (await site.ledger()).lane("spool")
    site.expect(held == count, f"{held} of {count} are in the spool at the start")
    return count


def _fill(path: Path, prefix: str, seed: int) -> int:
    value = random.Random(seed).randbytes(VALUE_BYTES)
    file = SpoolFile.open(path)
    try:
        count = PARKED_BYTES // VALUE_BYTES
        for start in range(0, count, AT_ONCE):
            numbers = range(start, min(count, start + AT_ONCE))
            file.append([_parked(prefix, n, value) for n in numbers], max_bytes=1 << 62)
        return count
    finally:
        file.close()


def _parked(prefix: str, number: int, value: bytes) -> NewRecord:
    record = Record(topic=f"{prefix}.{TOPIC}", key=b"%d" % number, value=value)
    return NewRecord(record=record, source="live-events")


async def _expect_tokens_settle(site: Site) -> None:
    """Tokens that no key is there for are kept beside what is parked, and judged later."""
    await site.canvas.key_server.misbehave(Mode.ERROR)
    # twice, so that no key is left that the receiver knows
    await site.canvas.rotate_keys()
    await site.canvas.rotate_keys()
    await site.canvas.send_events(site.url, count=TOKENS)
    deferred = (await site.ledger()).lane("deferred")
    site.expect(deferred >= TOKENS // 2, f"{deferred} of {TOKENS} tokens were deferred")
    await site.canvas.key_server.behave()
    began_s = time.monotonic()

    async def is_settled() -> bool:
        return (await site.ledger()).lane("deferred") == 0

    try:
        await until(is_settled, timeout_s=SETTLED_WITHIN_S)
    except TimeoutError:
        site.expect_in_time(False, f"tokens are not settled after {SETTLED_WITHIN_S:g} s")
    site.measured.append(f"{deferred} tokens settled in {time.monotonic() - began_s:.1f} s")


async def _until_held(site: Site, count: int) -> None:
    """Waits until nothing else is in the spool."""

    async def is_left() -> bool:
        return (await site.ledger()).lane("spool") == count

    try:
        await until(is_left, timeout_s=EMPTY_WITHIN_S)
    except TimeoutError:
        held = (await site.ledger()).lane("spool")
        site.expect_in_time(
            False, f"{held} are in the spool after {EMPTY_WITHIN_S:g} s, not {count}"
        )


def _spool(site: Site) -> Path:
    return site.directory / "data" / "spool"


def _servers(site: Site) -> str:
    assert site.cluster is not None
    return site.cluster.bootstrap_servers
