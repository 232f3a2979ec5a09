"""What is lost of a damaged spool is counted to the record, wherever the damage is."""

import random
import shutil
from pathlib import Path

import pytest

from ingest.contract.record import Record
from ingest.spool.directory import SpoolDirectory
from ingest.spool.store import FILE_NAME, Spooled

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
        directory.file.append([Spooled(record=record, source="pns")], max_bytes=1 << 40)
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
    damaged = sum(one.stored.damaged for one in held)
    return RECORDS - len(held) + damaged, opening.unreadable + damaged


@pytest.mark.parametrize("share", [0.3, 0.5, 0.62, 0.75, 0.81, 0.9, 0.97])
def test_records_behind_the_end_of_a_cut_file_are_counted(tmp_path: Path, share: float) -> None:
    spool = filled(tmp_path / "spool", closed=True)
    text = (spool / FILE_NAME).read_bytes()
    (spool / FILE_NAME).write_bytes(text[: int(share * len(text))])
    lost, told = lost_and_told(spool)
    assert lost == told > 0


def test_file_with_a_spoilt_beginning_loses_nothing(tmp_path: Path) -> None:
    spool = filled(tmp_path / "spool", closed=True)
    with (spool / FILE_NAME).open("r+b") as file:
        file.write(random.Random(1).randbytes(100))
    assert lost_and_told(spool) == (0, 0)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
@pytest.mark.parametrize("place", [1, 5, 9, 17, 1_000, 3_500])
def test_damage_within_the_log_costs_no_later_commit(
    tmp_path: Path, share: float, place: int
) -> None:
    """In a frame's page number, size, salt and checksum, or in its page."""
    spool = filled(tmp_path / "spool", closed=False)
    text = bytearray((spool / WAL_NAME).read_bytes())
    frames = (len(text) - 32) // FRAME_BYTES
    text[32 + int(share * frames) * FRAME_BYTES + place] ^= 1
    (spool / WAL_NAME).write_bytes(text)
    lost, told = lost_and_told(spool)
    assert lost == told <= 2
