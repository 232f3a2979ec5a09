"""Damage within SQLite's write-ahead log, told apart from a commit that was cut short.

SQLite reads a log up to the first frame whose checksum is wrong. At the end of the log that is a
commit which nobody was told of; in the middle it takes every later commit with it, without a word.
A frame's checksum goes on from that of the frame before, so it can be checked alone. Source: SQLite
documentation, "Database File Format", section 4.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_LITTLE_ENDIAN, _BIG_ENDIAN = 0x377F0682, 0x377F0683
# an open reader may have kept a log from being begun anew; ours have a few megabytes
_MOST_BYTES = 64 * 1024 * 1024
_MASK = 0xFFFFFFFF

_Sum = tuple[int, int]


class _Frame(NamedTuple):
    start: int
    is_commit: bool
    is_whole: bool
    """Whether its checksum goes on from the one before it."""


def mend(path: Path) -> bool:
    """Makes SQLite read a log on beyond damage; whether it had to.

    Only where a whole commit follows on the damaged one: as each is on the disk before the next
    begins, no crash leaves that. What is damaged stays so, for the records' own checksums to tell.
    """
    if not path.exists() or path.stat().st_size > _MOST_BYTES:
        return False
    text = bytearray(path.read_bytes())
    end = _last_whole_commit(list(_frames(text)))
    if end is None:
        return False
    _sum_anew(text, end)
    mended = path.with_name(f"{path.name}.mended")
    mended.write_bytes(text)
    mended.rename(path)
    return True


def _frames(text: bytearray) -> Iterator[_Frame]:
    """Those of the log's present round; what is behind them is of an earlier one."""
    if len(text) < _HEADER_BYTES or _u32(text, 0) not in (_LITTLE_ENDIAN, _BIG_ENDIAN):
        return
    step, before = _step(text), _stored(text, 24)
    for start in range(_HEADER_BYTES, len(text) - step + 1, step):
        is_ours = text[start + 8 : start + 16] == text[16:24]
        is_whole = is_ours and _frame_sum(text, start, before) == _stored(text, start + 16)
        yield _Frame(start, is_ours and _u32(text, start + 4) != 0, is_whole)
        before = _stored(text, start + 16)


def _last_whole_commit(frames: list[_Frame]) -> int | None:
    """Where the last frame of a whole commit begins, if a damaged commit is before it."""
    is_damaged = ends_damaged = is_whole = False
    last = None
    for frame in frames:
        if not is_damaged:
            is_damaged = not frame.is_whole
        if is_damaged and not ends_damaged:
            ends_damaged, is_whole = frame.is_commit, True
            continue
        is_whole = is_whole and frame.is_whole
        if ends_damaged and frame.is_commit:
            last = frame.start if is_whole else last
            is_whole = True
    return last


def _sum_anew(text: bytearray, last: int) -> None:
    """Checksums and salts as SQLite wants them, up to the frame that begins at `last`."""
    before = _checksum(text, text[:24], (0, 0))
    text[24:32] = struct.pack(">2I", *before)
    for start in range(_HEADER_BYTES, last + 1, _step(text)):
        text[start + 8 : start + 16] = text[16:24]
        before = _frame_sum(text, start, before)
        text[start + 16 : start + 24] = struct.pack(">2I", *before)


def _frame_sum(text: bytearray, start: int, before: _Sum) -> _Sum:
    page = start + _FRAME_HEADER_BYTES
    head = _checksum(text, text[start : start + 8], before)
    return _checksum(text, text[page : start + _step(text)], head)


def _checksum(text: bytearray, part: bytearray, before: _Sum) -> _Sum:
    order = "<" if _u32(text, 0) == _LITTLE_ENDIAN else ">"
    words = struct.unpack(f"{order}{len(part) // 4}I", part)
    first, second = before
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second


def _step(text: bytearray) -> int:
    return _FRAME_HEADER_BYTES + _u32(text, 8)


def _stored(text: bytearray, place: int) -> _Sum:
    return _u32(text, place), _u32(text, place + 4)


def _u32(text: bytearray, place: int) -> int:
    return int.from_bytes(text[place : place + 4], "big")
