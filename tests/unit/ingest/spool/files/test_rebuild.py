"""What is lost of a damaged spool is counted to the record, wherever the damage is."""

import random
import shutil
from pathlib import Path

import pytest

from ingest.contract.record import Record
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.rows import NewRecord
from ingest.spool.files.store import FILE_NAME

RECORDS = 60
PAGE_BYTES = 4_096
FRAME_BYTES = PAGE_BYTES + 24
WAL_NAME = f"{FILE_NAME}-wal"


def filled(spool: Path, *, closed: bool) -> Path:
    """A copy of a spool with RECORDS records, each a commit; they are in its log unless closed."""
    rng = random.Random(4)
    directory, _ = SpoolDirectory.open(spool, reserve_bytes=0)
    for number in range(RECORDS):
        value = rng.randbytes(rng.choice((100, 3_000, 9_000)))
        record = Record(topic="t", key=str(number).encode(), value=value, headers=())
        directory.file.append([NewRecord(record=record, source="pns")], max_bytes=1 << 40)
    copy = spool.with_name("copy")
    if closed:
        directory.close()
    shutil.copytree(spool, copy)
    if not closed:
        directory.close()
    return copy


def lost_and_told(spool: Path) -> tuple[int, int]:
    """Records that are gone, and those that were counted so."""
    directory, opening = SpoolDirectory.open(spool, reserve_bytes=0)
    held = directory.file.read(after=0, limit=1_000, max_bytes=1 << 40)
    directory.close()
    damaged = sum(one.damaged for one in held)
    return RECORDS - len(held) + damaged, opening.unreadable + damaged


@pytest.mark.parametrize("share", [0.3, 0.5, 0.62, 0.75, 0.7824, 0.9176, 0.97])
def test_records_behind_the_end_of_a_cut_file_are_counted(tmp_path: Path, share: float) -> None:
    spool = filled(tmp_path / "spool", closed=True)
    text = (spool / FILE_NAME).read_bytes()
    (spool / FILE_NAME).write_bytes(text[: int(share * len(text))])
    lost, told = lost_and_told(spool)
    assert lost == told > 0


def test_file_with_a_spoilt_beginning_is_lost_and_that_is_said(tmp_path: Path) -> None:
    spool = filled(tmp_path / "spool", closed=True)
    with (spool / FILE_NAME).open("r+b") as file:
        file.write(random.Random(1).randbytes(100))
    assert lost_and_told(spool) == (RECORDS, 1)  # how many there were nothing tells
    (damaged,) = spool.glob("damaged-*.sqlite3")
    assert damaged.stat().st_size > RECORDS * 100


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("place", [1, 9, 17, 3_500])
def test_damage_within_the_write_ahead_log_is_told_and_the_log_is_kept(
    tmp_path: Path, share: float, place: int
) -> None:
    """In a frame's page number, salt and checksum, or in its page: SQLite drops what follows."""
    spool = filled(tmp_path / "spool", closed=False)
    text = bytearray((spool / WAL_NAME).read_bytes())
    frames = (len(text) - 32) // FRAME_BYTES
    text[32 + int(share * frames) * FRAME_BYTES + place] ^= 1
    (spool / WAL_NAME).write_bytes(text)
    lost, told = lost_and_told(spool)
    # each commit has one record here; where its salt is damaged, it does not look like a commit
    assert told > 1
    assert told in (lost, lost - 1)
    (kept,) = spool.glob("damaged-*-wal")
    assert kept.read_bytes() == text


def test_last_commit_that_a_crash_cut_short_is_no_damage(tmp_path: Path) -> None:
    """Nobody was told of it. Its end may be on the disk before its beginning."""
    spool = filled(tmp_path / "spool", closed=False)
    text = bytearray((spool / WAL_NAME).read_bytes())
    text[-FRAME_BYTES + 100] ^= 1
    (spool / WAL_NAME).write_bytes(text)
    lost, told = lost_and_told(spool)
    assert (lost, told) == (1, 0)
    assert not list(spool.glob("damaged-*"))
