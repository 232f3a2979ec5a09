"""The spool's file, with bytes or rows spoilt, and the lines that it is carried elsewhere as."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from ingest.contract.eventlog.logfile import LogFileError
from ingest.contract.record import Record
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.reader import SpoolReader
from ingest.spool.files.rows import Held, HeldToken, Item, NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from ingest.spool.maintenance.exchange import LineRefused, from_line, to_line
from ingest.values import SignedRequest
from tests.fuzz.mutation import spoilt

_ODD: list[Any] = [None, "", "x", 0, -1, 2**63 - 1, 1.5, b"", b"\xff", b"x" * 9_000, "live-events"]
_COLUMNS = {
    "record": ("id", "topic", "key", "value", "headers", "source", "crc32", "size_bytes"),
    "token": ("id", "token", "source", "received_at", "traceparent", "crc32"),
}


def _items() -> list[Item]:
    records = [
        NewRecord(
            record=Record(
                topic="canvas.live-events.course-created.v1",
                key=b"key-%d" % n,
                value=b'{"n":%d}' % n + b"v" * (n * n * 40),
                headers=(("ce_id", b"id-%d" % n), ("x", "é".encode())),
            ),
            source="pns" if n % 2 else "live-events",
        )
        for n in range(12)
    ]
    tokens = [
        SignedRequest(
            token=b"h.%d.s" % n, source="pns", received_at=1.79e9 + n, traceparent="00-1-2-01"
        )
        for n in range(6)
    ]
    return [*records, *tokens]


def _content(item: Item) -> object:
    return item.record if isinstance(item, NewRecord) else item


class SpoolFiles:
    """A spool's file: what can be read of it was put in, or is marked as damaged."""

    name = "spool"

    def __init__(self, seed: int) -> None:
        self._folder = TemporaryDirectory(prefix="fuzz-")
        self._place = Path(self._folder.name) / "spool"
        self._path = self._place / FILE_NAME
        self._place.mkdir()
        with closing(SpoolFile.open(self._path)) as file:
            file.append(_items(), max_bytes=1 << 30)
        self._sound = self._path.read_bytes()
        self._known = list(map(_content, _items()))

    def draw(self, rng: Random) -> tuple[str, Any]:
        if rng.random() < 0.5:
            return "bytes", _spoilt_page(self._sound, rng)
        table = rng.choice(tuple(_COLUMNS))
        return "row", (table, rng.choice(_COLUMNS[table]), rng.randrange(1, 13), rng.choice(_ODD))

    def admits(self, drawn: tuple[str, Any]) -> bool:
        what, how = drawn
        for left in self._place.iterdir():
            left.unlink()
        self._path.write_bytes(how if what == "bytes" else self._sound)
        if what == "row":
            _change_row(self._path, *how)
        return self._invents(self._read()) or self._invents(self._rebuilt())

    def close(self) -> None:
        self._folder.cleanup()

    def _read(self) -> list[Held | HeldToken]:
        found: list[Held | HeldToken] = []
        for whatever_it_is in (False, True):
            with suppress(LogFileError):
                reader = SpoolReader.open(self._path, whatever_it_is=whatever_it_is)
                with closing(reader):
                    reader.moved(), reader.integrity()
                    found += [held for held in reader.items() if not held.damaged]
                    reader.contents(), reader.oldest_ms()
        return found

    def _rebuilt(self) -> list[Held | HeldToken]:
        # what it says of damage is not what is looked for here
        with structlog.testing.capture_logs():
            directory, _ = SpoolDirectory.open(self._place, reserve_bytes=0)
            try:
                found = _held(directory.file)
            except sqlite3.Error:  # damaged where opening it did not look: as the receiver does
                directory.rebuild_file()
                found = _held(directory.file)
            directory.close()
        return [held for held in found if not held.damaged]

    def _invents(self, found: list[Held | HeldToken]) -> bool:
        contents = [h.request if isinstance(h, HeldToken) else h.record for h in found]
        lines = [to_line(held) for held in found]
        return any(content not in self._known for content in contents) or any(
            _content(from_line(line)) not in self._known for line in lines
        )


def _held(file: SpoolFile) -> list[Held | HeldToken]:
    return [
        *file.read(after=0, limit=100, max_bytes=1 << 30),
        *file.read_tokens(after=0, limit=100, max_bytes=1 << 30),
    ]


def _spoilt_page(sound: bytes, rng: Random) -> bytes:
    how = rng.random()
    if how < 0.2:
        return sound[: rng.randrange(len(sound))]
    if how < 0.5:
        return spoilt(sound[: 4_096 * rng.choice((1, 2))], rng) + sound[8_192:]
    changed = bytearray(sound)
    for _ in range(rng.choice((1, 1, 8, 100))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _change_row(path: Path, table: str, column: str, id_: int, value: Any) -> None:
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute(f"update {table} set {column} = ? where id = ?", (value, id_))
            connection.commit()
        except sqlite3.Error:  # the table itself does not take it
            pass


class SpoolLines:
    """Lines of `spool export`: what passes was put in."""

    name = "lines"

    def __init__(self, seed: int) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / FILE_NAME
            with closing(SpoolFile.open(path)) as file:
                file.append(_items(), max_bytes=1 << 30)
            with closing(SpoolReader.open(path)) as reader:
                self._lines = [to_line(held) for held in reader.items()]
        self._known = list(map(_content, _items()))

    def draw(self, rng: Random) -> bytes:
        return spoilt(rng.choice(self._lines), rng)

    def admits(self, drawn: bytes) -> bool:
        try:
            return _content(from_line(drawn)) not in self._known
        except LineRefused:
            return False

    def close(self) -> None:
        pass
