"""`forebay-ingest spool`: what it shows, carries over, finds damaged and repairs."""

import json
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from msgspec.structs import replace

from ingest.commands.main import main
from ingest.contract.record import Record
from ingest.shared import logs
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.ownership import LOCK_NAME, Ownership
from ingest.spool.files.rows import Item, NewRecord
from ingest.spool.files.store import FILE_NAME
from ingest.values import SignedRequest

_MIB = 1024**2
_LARGE = 20_000  # beyond one page of SQLite's, so that its row goes on in others


@pytest.fixture(autouse=True)
def _logs_on_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a process has them, without the loggers that a process keeps to its end."""

    def configure(settings: object) -> None:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    monkeypatch.setattr(logs, "configure", configure)
    yield
    structlog.reset_defaults()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def _run(directory: Path, *arguments: str, **settings: str) -> Result:
    return _piped(directory, b"", *arguments, **settings)


def _piped(directory: Path, stdin: bytes, *arguments: str, **settings: str) -> Result:
    absent = {name: None for name in os.environ if name.startswith("FOREBAY_")}
    own = {"FOREBAY_SPOOL__DIR": str(directory), **settings}
    return CliRunner().invoke(main, ["spool", *arguments], env={**absent, **own}, input=stdin)


def _one_line(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("forebay-ingest: ")
    return line


def _event(number: int, *, size_bytes: int = 40) -> NewRecord:
    record = Record(
        topic=f"canvas.live-events.type-{number % 3}.v1",
        key=b"account:\xff%d" % number,
        value=bytes([number % 251]) * size_bytes,
        headers=(("ce_id", f"événement {number}".encode()), ("ce_tenant", b"north-campus")),
    )
    return NewRecord(record=record, source="live-events")


def _token(number: int) -> SignedRequest:
    return SignedRequest(
        token=b"token-%d" % number, source="pns", received_at=1790000000.25, traceparent="00-1-2-01"
    )


def _fill(directory: Path, items: Sequence[Item]) -> None:
    opened, _ = SpoolDirectory.open(directory, reserve_bytes=0)
    for start in range(0, len(items), 100):
        opened.file.append(items[start : start + 100], max_bytes=1 << 40)
    opened.close()


def _contents(directory: Path) -> list[Item]:
    """Its records and then its tokens, in order."""
    opened, _ = SpoolDirectory.open(directory, reserve_bytes=0)
    try:
        records = opened.file.read(after=0, limit=100_000, max_bytes=1 << 40)
        tokens = opened.file.read_tokens(after=0, limit=100_000, max_bytes=1 << 40)
    finally:
        opened.close()
    return [
        *(NewRecord(record=held.record, source=held.source) for held in records),
        *(held.request for held in tokens),
    ]


def _flip(directory: Path, *ids: int) -> None:
    """Damages values, of which only the checksum tells."""
    with sqlite3.connect(directory / FILE_NAME) as connection:
        for id_ in ids:
            connection.execute(
                "update record set value = zeroblob(length(value)) where id = ?", (id_,)
            )
    connection.close()


def _tear(directory: Path, number: int) -> None:
    """Damages the chain of pages that holds the large value of an event."""
    path = directory / FILE_NAME
    raw = bytearray(path.read_bytes())
    page = next(
        at
        for at in range(0, len(raw), 4096)
        if raw[at + 4 : at + 4096].count(number) == 4092 and any(raw[at : at + 4])
    )
    raw[page : page + 4] = struct.pack(">I", 9_999_999)
    path.write_bytes(raw)


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "command", [["status"], ["export"], ["fsck"], ["fsck", "--repair"], ["export", "--file", "x"]]
)
def test_no_spool_is_misuse_and_makes_none(directory: Path, command: list[str]) -> None:
    assert "there is no spool" in _one_line(_run(directory, *command))
    assert not directory.exists()


def test_status_counts_what_is_held(directory: Path) -> None:
    tokens = [replace(_token(n), received_at=time.time()) for n in range(2)]
    _fill(directory, [*map(_event, range(7)), *tokens])
    _flip(directory, 2)
    opened, _ = SpoolDirectory.open(directory, reserve_bytes=0)
    opened.file.move_damaged("record", [2])
    opened.close()
    (directory / "damaged-17.sqlite3").write_bytes(b"12345")
    shown = _json(_run(directory, "status", "--json", FOREBAY_SPOOL__MAX_BYTES=str(64 * _MIB)))
    assert (shown["records"], shown["tokens"], shown["damaged"]) == (6, 2, 1)
    assert (shown["owned"], shown["owner_pid"]) == (False, None)
    assert shown["max_bytes"] == 64 * _MIB
    assert 0 < shown["used_bytes"] <= shown["file_bytes"]
    assert 0 <= shown["oldest_age_s"] < 60
    assert shown["reserve_held"] is False
    assert shown["damaged_files"] == [{"file": "damaged-17.sqlite3", "bytes": 5}]
    assert {(h["topic"], h["source"]): h["records"] for h in shown["by_topic"]} == {
        ("canvas.live-events.type-0.v1", "live-events"): 3,
        ("canvas.live-events.type-1.v1", "live-events"): 1,
        ("canvas.live-events.type-2.v1", "live-events"): 2,
    }


def test_status_names_the_owner(directory: Path) -> None:
    _fill(directory, [_event(0)])
    ownership = Ownership(directory)
    try:
        result = _run(directory, "status")
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"owner_pid: {os.getpid()}" in result.stdout.splitlines()
        assert "owned: True" in result.stdout.splitlines()
    finally:
        ownership.close()
    assert (directory / LOCK_NAME).read_text() == str(os.getpid())
    assert "owner_pid: -" in _run(directory, "status").stdout.splitlines()


def test_status_of_an_empty_spool_has_no_age(directory: Path) -> None:
    _fill(directory, [])
    shown = _json(_run(directory, "status", "--json"))
    assert (shown["records"], shown["oldest_age_s"], shown["by_topic"]) == (0, None, [])


def test_what_is_exported_comes_in_elsewhere_as_it_was(directory: Path, tmp_path: Path) -> None:
    items: list[Item] = [*map(_event, range(600)), *map(_token, range(600))]
    _fill(directory, items)
    exported = _run(directory, "export")
    assert exported.exit_code == 0
    assert "1200 exported, 0 damaged" in exported.stderr
    other = tmp_path / "other"
    imported = _piped(other, exported.stdout_bytes, "import", "--json", "-")
    assert imported.exit_code == 0, imported.output
    assert _json(imported) == {"taken": 1200, "refused": {}}
    assert _contents(other) == items == _contents(directory)


def test_export_into_a_file_keeps_stdout_empty(directory: Path, tmp_path: Path) -> None:
    _fill(directory, [_event(0)])
    out = tmp_path / "lines"
    result = _run(directory, "export", "--out", str(out))
    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_bytes() == _run(directory, "export").stdout_bytes
    assert "cannot be written" in _one_line(_run(directory, "export", "--out", str(out / "x")))


def test_unsound_lines_are_refused_and_counted_and_keep_no_other(
    directory: Path, tmp_path: Path
) -> None:
    items: list[Item] = [_event(n) for n in range(4)]
    _fill(directory, [*items, _token(0)])
    lines = _run(directory, "export").stdout_bytes.splitlines()
    token = json.loads(lines[4])
    spoilt = json.loads(lines[1])
    foreign = json.loads(lines[2])
    bad = [
        json.dumps({**spoilt, "value": "AAAA"}).encode(),
        json.dumps({**spoilt, "topic": "canvas.live-events.other.v1"}).encode(),
        json.dumps({**spoilt, "headers": [["ce_id", "x"]]}).encode(),
        json.dumps({**foreign, "source": "elsewhere"}).encode(),
        json.dumps({**foreign, "key": "%"}).encode(),
        json.dumps({"topic": "t"}).encode(),
        json.dumps({**token, "received_at": 1.5}).encode(),
        json.dumps({**token, "source": "elsewhere"}).encode(),
        json.dumps({**token, "token": 7}).encode(),
        b"[]",
        lines[3][:-9],
        b"\xff",
    ]
    file = tmp_path / "lines"
    file.write_bytes(b"\n".join([lines[0], *bad, b"", lines[3]]))
    result = _run(tmp_path / "other", "import", "--json", str(file))
    assert result.exit_code == 1
    assert _json(result) == {
        "taken": 2,
        "refused": {
            "checksum is wrong": 4,
            "source is not one of ours": 2,
            "not a record": 3,
            "not a JSON object": 1,
            "not JSON": 2,
        },
    }
    assert _contents(tmp_path / "other") == [items[0], items[3]]


def test_import_needs_a_spool_without_an_owner(directory: Path, tmp_path: Path) -> None:
    _fill(directory, [_event(0)])
    lines = tmp_path / "lines"
    lines.write_bytes(_run(directory, "export").stdout_bytes)
    ownership = Ownership(directory)
    try:
        line = _one_line(_run(directory, "import", str(lines)))
        assert f"in use by process {os.getpid()}" in line
        assert "in use" in _one_line(_run(directory, "fsck", "--repair"))
    finally:
        ownership.close()
    assert len(_contents(directory)) == 1


def test_import_stops_at_the_bound_and_leaves_the_notices_room(
    directory: Path, tmp_path: Path
) -> None:
    _fill(directory, [_event(n, size_bytes=_MIB) for n in range(40)])
    lines = _run(directory, "export").stdout_bytes
    other = tmp_path / "other"
    bounds = {
        "FOREBAY_SPOOL__MAX_BYTES": str(48 * _MIB),
        "FOREBAY_SPOOL__PNS_RESERVE_BYTES": str(16 * _MIB),
    }
    result = _piped(other, lines, "import", "--json", "-", **bounds)
    assert result.exit_code == 1
    shown = _json(result)
    assert shown["taken"] + shown["refused"]["the spool is full"] == 40
    assert 16 <= shown["taken"] <= 32
    assert len(_contents(other)) == shown["taken"]


def test_damaged_records_are_left_out_of_an_export(directory: Path) -> None:
    _fill(directory, [_event(n) for n in range(5)])
    _flip(directory, 2, 4)
    result = _run(directory, "export")
    assert result.exit_code == 1
    assert "3 exported, 2 damaged" in result.stderr
    assert len(result.stdout_bytes.splitlines()) == 3


def test_fsck_of_a_sound_spool_ends_with_zero_and_changes_nothing(directory: Path) -> None:
    _fill(directory, [_event(n) for n in range(5)])
    before = (directory / FILE_NAME).read_bytes()
    for arguments in ([], ["--repair"]):
        result = _run(directory, "fsck", *arguments)
        assert (result.exit_code, result.stdout) == (0, "5 events are sound\n")
    assert (directory / FILE_NAME).read_bytes() == before


def test_fsck_reports_and_repair_keeps_what_is_sound(directory: Path) -> None:
    items: list[Item] = [*map(_event, range(10)), _token(10)]
    _fill(directory, [*items, _token(11)])
    _flip(directory, 3, 8)
    with sqlite3.connect(directory / FILE_NAME) as connection:
        connection.execute("update token set source = 'live-events' where id = 2")
    connection.close()
    opened, _ = SpoolDirectory.open(directory, reserve_bytes=0)
    opened.file.move_damaged("record", [8])
    opened.close()
    report = _run(directory, "fsck", "--json")
    assert report.exit_code == 1
    shown = _json(report)
    assert (shown["sound"], shown["repair"]) == (9, None)
    assert (shown["damaged_records"], shown["damaged_tokens"], shown["moved"]) == ([3], [2], 1)
    assert not list(directory.glob("damaged-*"))
    repaired = _run(directory, "fsck", "--repair", "--json")
    assert repaired.exit_code == 1, "a record was lost"
    assert _json(repaired)["repair"] == {"kept": 9, "lost": 2}
    assert _contents(directory) == [item for n, item in enumerate(items) if n not in (2, 7)]
    assert len(list(directory.glob("damaged-*.sqlite3"))) == 1
    assert _run(directory, "fsck").exit_code == 0


def test_torn_file_is_exported_and_repaired_record_by_record(directory: Path) -> None:
    items = [_event(n, size_bytes=_LARGE) for n in range(150)]
    _fill(directory, items)
    _tear(directory, 77)
    sound = [item for n, item in enumerate(items) if n != 77]
    report = _run(directory, "fsck", "--json")
    assert report.exit_code == 1
    assert (_json(report)["sound"], _json(report)["unreadable"]) == (149, 1)
    assert _json(report)["flaws"]
    assert _json(_run(directory, "status", "--json"))["records"] == 150  # by its index
    repaired = _run(directory, "fsck", "--repair", "--json")
    assert _json(repaired)["repair"] == {"kept": 149, "lost": 1}
    assert _contents(directory) == sound
    (damaged,) = directory.glob("damaged-*.sqlite3")
    exported = _run(directory, "export", "--file", damaged.name)
    assert exported.exit_code == 1
    assert "149 exported, 1 damaged" in exported.stderr
    assert exported.stdout_bytes.splitlines() == [
        _untimed_alike(line, with_times=exported.stdout_bytes.splitlines()[n])
        for n, line in enumerate(_run(directory, "export").stdout_bytes.splitlines())
    ]


def test_file_that_is_none_is_replaced_by_repair(directory: Path) -> None:
    _fill(directory, [_event(0)])
    (directory / FILE_NAME).write_bytes(b"x" * 9_000)
    report = _run(directory, "fsck")
    assert report.exit_code == 1
    assert "not a database" in report.stdout
    repaired = _run(directory, "fsck", "--repair", "--json")
    assert (repaired.exit_code, _json(repaired)["repair"]["kept"]) == (1, 0)
    assert _run(directory, "fsck").exit_code == 0


def test_repair_that_was_cut_short_is_finished_and_loses_nothing(directory: Path) -> None:
    _fill(directory, [_event(n) for n in range(5)])
    (directory / FILE_NAME).rename(directory / "rebuilt.sqlite3")
    assert "cut short" in _one_line(_run(directory, "status"))
    result = _run(directory, "fsck", "--repair")
    assert (result.exit_code, result.stdout) == (0, "5 events are sound\n")
    assert _contents(directory) == [_event(n) for n in range(5)]


def test_drain_needs_kafka_and_a_spool(directory: Path, tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text('[[tenant]]\nname = "north-campus"\n')
    settings = {"FOREBAY_TENANTS_FILE": str(tenants)}
    assert "there is no spool" in _one_line(_run(directory, "drain", **settings))
    _fill(directory, [_event(0)])
    line = _one_line(_run(directory, "drain", **settings))
    assert "FOREBAY_KAFKA__BOOTSTRAP_SERVERS" in line


def _untimed_alike(line: bytes, *, with_times: bytes) -> bytes:
    """A line with the time at which another file took it."""
    members = json.loads(line)
    members["appended_ms"] = json.loads(with_times)["appended_ms"]
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
