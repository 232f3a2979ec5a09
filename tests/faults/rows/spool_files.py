"""Row 8: the spool's file is damaged, while nobody runs or under a running receiver."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from ingest.contract.record import Record
from ingest.spool.files.rows import NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.site import Site
from tests.faults.verdict import Tally

EVENTS: Final = 300
MANY_EVENTS: Final = 1_200
"""More than SQLite keeps of the file in its own memory, which are 2 MB."""

NOTICES: Final = 30
PAGE_BYTES: Final = 4_096
WAL_NAME: Final = f"{FILE_NAME}-wal"
WAL_MAGIC: Final = b"\x37\x7f\x06"
WAL_HEADER_BYTES: Final = 32
FRAME_BYTES: Final = PAGE_BYTES + 24
LATER_VERSION: Final = 99

_EVENT_ID: Final = re.compile(rb'"event_id":"([0-9a-f]{64})"')

Expected = Literal["nothing lost", "counted", "lost together"]
NOTHING_LOST: Final = "nothing lost"
COUNTED: Final = "counted"
"""To the event."""

LOST_TOGETHER: Final = "lost together"
"""With a whole file or the end of a log: told, but nothing says how many they were."""

Damage = Callable[[Path, random.Random], None]
"""Does it to the files in the spool's directory."""


async def torn_tail(grounds: Grounds, seed: int) -> Tally:
    """A commit that nobody was told of is half written."""
    return await _damaged(grounds, seed, _tear, expected=NOTHING_LOST)


async def flipped_bit(grounds: Grounds, seed: int) -> Tally:
    """In a record, in the file itself."""
    return await _damaged(grounds, seed, _flip_in_file, checkpointed=True)


async def flipped_bit_in_the_write_ahead_log(grounds: Grounds, seed: int) -> Tally:
    """In a record, with many commits behind it, which SQLite passes over then."""
    return await _damaged(grounds, seed, _flip_in_wal, expected=LOST_TOGETHER)


async def truncated_file(grounds: Grounds, seed: int) -> Tally:
    """A part of the file's end is gone."""
    return await _damaged(grounds, seed, _truncate, checkpointed=True)


async def wrong_version(grounds: Grounds, seed: int) -> Tally:
    """The file says that a later release wrote it."""
    return await _damaged(grounds, seed, _mark_as_later, checkpointed=True, expected=NOTHING_LOST)


async def garbage_header(grounds: Grounds, seed: int) -> Tally:
    """The file does not begin as a database does."""
    return await _damaged(grounds, seed, _spoil_header, checkpointed=True, expected=LOST_TOGETHER)


async def spoilt_free_pages(grounds: Grounds, seed: int) -> Tally:
    """Pages that hold nothing are overwritten, and that costs nothing."""
    return await _damaged(
        grounds, seed, _spoil_free_pages, checkpointed=True, expected=NOTHING_LOST
    )


async def flipped_bit_while_it_runs(grounds: Grounds, seed: int) -> Tally:
    """In a record that the receiver itself wrote, and reads again later."""
    async with grounds.site(seed) as site:
        await _fill(site, MANY_EVENTS)
        _flip_latest(_spool(site), random.Random(seed))
        await site.link.heal()
        return await _judged(site, COUNTED)


async def _damaged(
    grounds: Grounds,
    seed: int,
    damage: Damage,
    *,
    checkpointed: bool = False,
    expected: Expected = COUNTED,
) -> Tally:
    """The damage is done between two processes."""
    async with grounds.site(seed) as site:
        await _fill(site, EVENTS)
        await site.receiver.kill()
        if checkpointed:
            _checkpoint(_spool(site))
        damage(_spool(site), random.Random(seed))
        await site.receiver.start()
        # it takes events at once, whatever has become of the old ones
        await site.canvas.send_events(site.url, count=EVENTS // 10)
        fresh = site.witness.not_accepted
        site.expect(not fresh, f"{len(fresh)} events were not taken afterwards")
        await site.link.heal()
        return await _judged(site, expected)


async def _fill(site: Site, events: int) -> None:
    """All of it into the spool, one commit after the other."""
    await site.link.refuse()
    await site.canvas.send_events(site.url, count=events, concurrency=4)
    await site.canvas.send_notices(site.url, count=NOTICES)
    held = (await site.ledger()).lane("spool")
    site.expect(held > 0.9 * events, f"only {held} events were held")


async def _judged(site: Site, expected: Expected) -> Tally:
    """What did not arrive is told, and what it was in is there for a look, named in the log."""
    await settle(site)
    metrics = await site.metrics()
    unreadable = int(metrics.value("forebay_spool_unreadable_records_total"))
    told = unreadable + metrics.ledger().outcome("not_durable", "damaged")
    stored = (await site.tables()).events.keys()
    missing = len(site.witness.promised - stored)
    if expected == LOST_TOGETHER:
        site.expect(missing and told, f"{missing} events did not arrive, and {told} were counted")
        kept = [file.name for file in _spool(site).glob("damaged-*")]
        site.expect(kept, "what was damaged is not there any more")
        log = site.receiver.log_file.read_text()
        site.expect(all(name in log for name in kept), f"the log does not name {kept}")
        return await judge(site, told=missing)
    site.expect(missing == told, f"{missing} events did not arrive, and {told} were counted")
    is_lost = expected == COUNTED
    site.expect(bool(missing) == is_lost, f"{missing} events did not arrive after this damage")
    site.expect(missing < EVENTS / 2, f"{missing} were not kept")
    return await judge(site, told=told)


def _spool(site: Site) -> Path:
    return site.directory / "data" / "spool"


def _checkpoint(spool: Path) -> None:
    """Moves all into the file, as closing does."""
    with contextlib.closing(sqlite3.connect(spool / FILE_NAME)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()


def _tear(spool: Path, rng: random.Random) -> None:
    aside = spool.with_name("aside")
    shutil.copytree(spool, aside)
    file = SpoolFile.open(aside / FILE_NAME)
    record = Record(topic="t", key=b"", value=rng.randbytes(20_000), headers=())
    file.append([NewRecord(record=record, source="pns")], max_bytes=1 << 40)
    old, new = ((place / WAL_NAME).read_bytes() for place in (spool, aside))
    file.close()
    shutil.rmtree(aside)
    # it is written behind the others, maybe over what is left of an earlier round
    pairs = enumerate(zip(old, new, strict=False))
    start = next((place for place, (was, is_) in pairs if was != is_), len(old))
    cut = rng.randrange(start + 1, start + len(record.value))
    (spool / WAL_NAME).write_bytes(new[:cut] + old[cut:])


def _flip_in_file(spool: Path, rng: random.Random) -> None:
    _flip(spool / FILE_NAME, rng)


def _flip_in_wal(spool: Path, rng: random.Random) -> None:
    _flip(spool / WAL_NAME, rng)


def _flip_latest(spool: Path, rng: random.Random) -> None:
    """In the file if it has anything, for of the write-ahead log the newest pages are cached."""
    text = (spool / FILE_NAME).read_bytes()
    _flip(spool / (FILE_NAME if _EVENT_ID.search(text) else WAL_NAME), rng)


def _flip(path: Path, rng: random.Random) -> None:
    """One bit of the id of an event in the first half of them."""
    text = _present_round(path.read_bytes())
    found = [match[1] for match in _EVENT_ID.finditer(text)]
    chosen = rng.choice(found[: len(found) // 2])
    with path.open("r+b") as file:
        # a page may be there more than once, of which the last counts
        place = text.rindex(b'"event_id":"' + chosen) + len(b'"event_id":"') + rng.randrange(64)
        file.seek(place)
        file.write(bytes([text[place] ^ 1]))


def _present_round(text: bytes) -> bytes:
    """A write-ahead log without what is left of its earlier rounds, by their other salts.

    Source: SQLite documentation, "Database File Format", section 4. Any other file is as it is.
    """
    if text[:3] != WAL_MAGIC:
        return text
    others = (
        start
        for start in range(WAL_HEADER_BYTES, len(text), FRAME_BYTES)
        if text[start + 8 : start + 16] != text[16:24]
    )
    return text[: next(others, len(text))]


def _truncate(spool: Path, rng: random.Random) -> None:
    path = spool / FILE_NAME
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(size * rng.uniform(0.7, 0.95)))


def _mark_as_later(spool: Path, rng: random.Random) -> None:
    with contextlib.closing(sqlite3.connect(spool / FILE_NAME)) as connection:
        connection.execute(f"pragma user_version={LATER_VERSION}")


def _spoil_header(spool: Path, rng: random.Random) -> None:
    with (spool / FILE_NAME).open("r+b") as file:
        file.write(rng.randbytes(100))


def _spoil_free_pages(spool: Path, rng: random.Random) -> None:
    """Frees some pages by removing a record that was never acknowledged, and writes over them."""
    file = SpoolFile.open(spool / FILE_NAME)
    record = Record(topic="t", key=b"", value=b"\xc3" * 20 * PAGE_BYTES, headers=())
    file.append([NewRecord(record=record, source="pns")], max_bytes=1 << 40)
    (last,) = file.read_topics(["t"], after=0, limit=1, max_bytes=1 << 40)
    file.forget([last.stored.offset])
    file.close()
    text = (spool / FILE_NAME).read_bytes()
    with (spool / FILE_NAME).open("r+b") as pages:
        for start in range(0, len(text), PAGE_BYTES):
            # such a page held the record alone, but for the number of the next one
            if text[start + 4 : start + PAGE_BYTES].count(b"\xc3") > 0.9 * PAGE_BYTES:
                pages.seek(start)
                pages.write(rng.randbytes(PAGE_BYTES))
