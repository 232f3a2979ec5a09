"""The spool's place on the disk: one owner, and what is left of a file that was damaged."""

import contextlib
import gc
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import APPEND_LIMIT, LogFileError
from ingest.spool.files.directory import Opening, SpoolDirectory
from ingest.spool.files.format import SPOOL
from ingest.spool.files.reader import SpoolReader
from ingest.spool.files.reserve import RESERVE_NAME
from ingest.spool.files.rows import Contents, NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from ingest.values import SignedRequest
from tests.unit.ingest.publishing.fakes import (
    ROOMY,
    number,
    open_directory,
    record,
    spooled,
    token,
)

NOTHING = Contents(records=[], tokens=[])
_MANY = 600
_PAGE = 4_096


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def _filled(place: Path, count: int = _MANY, *, size_bytes: int = 0) -> Path:
    """A closed spool with so many records, the last of them a notice's token; its file."""
    with open_directory(place) as (directory, _):
        for start in range(0, count, APPEND_LIMIT):
            items = [
                NewRecord(record=record(n, size_bytes=size_bytes), source="live-events")
                for n in range(start, min(start + APPEND_LIMIT, count - 1))
            ]
            directory.file.append(items, max_bytes=ROOMY)
        directory.file.append([token(count - 1, "pns")], max_bytes=ROOMY)
    return place / FILE_NAME


def _numbers(directory: SpoolDirectory) -> list[int]:
    records = directory.file.read(after=0, limit=100_000, max_bytes=ROOMY)
    tokens = directory.file.read_tokens(after=0, limit=100_000, max_bytes=ROOMY)
    assert not any(each.damaged for each in records)
    assert not any(each.damaged for each in tokens)
    return [*map(number, records), *map(number, tokens)]


@contextlib.contextmanager
def _read_through(place: Path) -> Iterator[tuple[SpoolDirectory, Opening]]:
    """A spool of which each record has been read: damage that opening does not meet shows then."""
    with open_directory(place) as (directory, found):
        opening = found
        try:
            directory.file.read(after=0, limit=100_000, max_bytes=ROOMY)
        except sqlite3.DatabaseError:
            opening = directory.rebuild_file()
        yield directory, opening


def _count(contents: Contents) -> int:
    return sum(each.records for each in contents.records) + sum(
        each.tokens for each in contents.tokens
    )


def _overwrite(path: Path, at: int, text: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(text)


def _damaged(place: Path) -> list[Path]:
    return sorted(place.glob("damaged-*.sqlite3"))


def test_new_spool_is_empty_and_has_its_reserve(place: Path) -> None:
    with open_directory(place, reserve_bytes=100_000) as (directory, opening):
        assert (opening.contents, opening.unreadable) == (NOTHING, 0)
        assert directory.reserve.held
        assert (place / RESERVE_NAME).stat().st_blocks * 512 >= 100_000


def test_spool_without_a_reserve_has_no_reserve(place: Path) -> None:
    with open_directory(place) as (directory, _):
        assert not directory.reserve.held
        assert not (place / RESERVE_NAME).exists()


def test_sound_spool_is_opened_with_all_it_holds(place: Path) -> None:
    _filled(place)
    with open_directory(place) as (directory, opening):
        assert _numbers(directory) == list(range(_MANY))
        found = opening.contents
        assert [(each.source, each.records) for each in found.records] == [
            ("live-events", _MANY - 1)
        ]
        assert [(each.source, each.tokens) for each in found.tokens] == [("pns", 1)]
    assert _damaged(place) == []


def test_second_owner_is_refused_and_harms_nothing(place: Path) -> None:
    _filled(place)
    with open_directory(place) as (directory, _):
        with pytest.raises(LogFileError, match="in use by process"):
            SpoolDirectory.open(place, reserve_bytes=0)
        directory.file.append([spooled(_MANY)], max_bytes=ROOMY)
        assert sorted(_numbers(directory)) == list(range(_MANY + 1))


def test_owner_that_failed_to_open_lets_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> SpoolFile:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(SpoolFile, "open", failing)
        with pytest.raises(OSError, match="Input/output"):
            SpoolDirectory.open(place, reserve_bytes=0)
    with open_directory(place) as (_, opening):
        assert opening.unreadable == 0


def _torn_tail(path: Path) -> None:
    """The last page was never written."""
    size_bytes = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size_bytes - _PAGE)


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def _scrambled_page(path: Path) -> None:
    _overwrite(path, path.stat().st_size // 2 // _PAGE * _PAGE, b"\xa5" * _PAGE)


def _zeroed_page(path: Path) -> None:
    _overwrite(path, path.stat().st_size // 2 // _PAGE * _PAGE, bytes(_PAGE))


@pytest.mark.parametrize(
    "damage",
    [
        _torn_tail,
        _truncated,
        _scrambled_page,
        _zeroed_page,
    ],
)
def test_damaged_file_is_renamed_and_what_can_be_read_is_kept(
    place: Path, damage: Callable[[Path], None]
) -> None:
    path = _filled(place)
    damage(path)
    before = path.read_bytes()
    with _read_through(place) as (directory, opening):
        kept = _numbers(directory)
        assert kept == sorted(set(kept))
        assert set(kept) <= set(range(_MANY))
        assert len(kept) >= _MANY // 3
        assert _count(opening.contents) == len(kept)
        directory.file.append([spooled(_MANY)], max_bytes=ROOMY)
    (damaged,) = _damaged(place)
    assert damaged.read_bytes() == before


@pytest.mark.parametrize("damage", [_scrambled_page, _zeroed_page])
def test_what_is_lost_with_a_page_is_counted(place: Path, damage: Callable[[Path], None]) -> None:
    path = _filled(place)
    damage(path)
    with _read_through(place) as (directory, opening):
        assert len(_numbers(directory)) + opening.unreadable == _MANY
        assert 0 < opening.unreadable < 100


def test_rebuilt_spool_is_found_sound_the_next_time(place: Path) -> None:
    _scrambled_page(_filled(place))
    with _read_through(place) as (directory, opening):
        kept = _numbers(directory)
        assert opening.unreadable > 0
    with _read_through(place) as (directory, opening):
        assert (_numbers(directory), opening.unreadable) == (kept, 0)
    assert len(_damaged(place)) == 1


@pytest.mark.parametrize("text", [b"buy milk " * 3_000, b"\0" * 20_000, b"SQLite format 3\0"])
def test_file_that_is_nothing_of_ours_is_said_and_stops_nobody(place: Path, text: bytes) -> None:
    path = _filled(place)
    path.write_bytes(text)
    with open_directory(place) as (directory, opening):
        assert (opening.contents, opening.unreadable) == (NOTHING, 1)
        directory.file.append([spooled(0)], max_bytes=ROOMY)
    assert [each.read_bytes() for each in _damaged(place)] == [text]


def test_file_cut_to_nothing_is_said(place: Path) -> None:
    _filled(place).write_bytes(b"")
    with open_directory(place) as (_, opening):
        assert opening.unreadable > 0


def test_file_of_a_later_release_is_read_and_renamed(place: Path) -> None:
    path = _filled(place)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma user_version = {SPOOL.version + 1}")
    with open_directory(place) as (directory, opening):
        assert _numbers(directory) == list(range(_MANY))
        assert opening.unreadable == 0
    assert len(_damaged(place)) == 1


def test_directory_in_place_of_the_file_stops_nobody(place: Path) -> None:
    (place / FILE_NAME / "inside").mkdir(parents=True)
    with open_directory(place) as (directory, opening):
        assert opening.unreadable == 1
        directory.file.append([spooled(0)], max_bytes=ROOMY)


def test_records_in_the_write_ahead_log_alone_outlive_a_kill(place: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    with open_directory(place) as (directory, _):
        directory.file.append([spooled(n) for n in range(50)], max_bytes=ROOMY)
        shutil.copytree(place, killed)
    with open_directory(killed) as (directory, opening):
        assert (_numbers(directory), opening.unreadable) == (list(range(50)), 0)


class _PowerCutError(Exception):
    pass


def _cut(monkeypatch: pytest.MonkeyPatch, steps: int) -> list[str]:
    """After so many steps that change the directory, nothing more happens."""
    done: list[str] = []

    def counted(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            if len(done) == steps:
                raise _PowerCutError(name)
            done.append(name)
            return original(*args, **kwargs)

        return step

    monkeypatch.setattr(Path, "rename", counted("rename", Path.rename))
    monkeypatch.setattr(Path, "unlink", counted("unlink", Path.unlink))
    monkeypatch.setattr(SpoolFile, "append", counted("append", SpoolFile.append))
    monkeypatch.setattr(SpoolFile, "close", counted("close", SpoolFile.close))
    return done


def _rebuild_cut_short(place: Path, steps: int) -> bool:
    """Whether rebuilding has so many steps that it could be cut short there."""
    directory, _ = SpoolDirectory.open(place, reserve_bytes=0)
    is_cut = True
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_PowerCutError):
        _cut(patch, steps)
        directory.rebuild_file()
        is_cut = False
    directory.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # a power cut closes nothing, and that is no leak of ours
    return is_cut


def test_rebuilding_cut_short_at_any_step_is_done_again_and_loses_nothing(
    place: Path, tmp_path: Path
) -> None:
    _scrambled_page(_filled(place))
    whole = tmp_path / "whole"
    shutil.copytree(place, whole)
    with _read_through(whole) as (directory, opening):
        expected = (_numbers(directory), opening.unreadable)
    for steps in range(100):
        cut = tmp_path / f"cut-{steps}"
        shutil.copytree(place, cut)
        if not _rebuild_cut_short(cut, steps):
            break
        with _read_through(cut) as (directory, opening):
            assert _numbers(directory) == expected[0]
            assert opening.unreadable in (expected[1], 0)  # 0 where it was counted before the cut
    assert steps > 6


def test_rebuilding_cut_short_between_two_renames_loses_nothing(
    place: Path, tmp_path: Path
) -> None:
    """Somebody else has the file open, so that its write-ahead log is still there."""
    path = _filled(place)
    _scrambled_page(path)
    for steps in range(100):
        cut = tmp_path / f"cut-{steps}"
        shutil.copytree(place, cut)
        with closing(sqlite3.connect(cut / FILE_NAME)) as looking:
            looking.execute("begin")
            looking.execute("select * from log").fetchall()
            with closing(sqlite3.connect(cut / FILE_NAME)) as writing:
                last = spooled(_MANY)
                row = (*logfile.row_of(last.record, 1), last.source)
                columns = f"{logfile.COLUMNS}, source"
                writing.execute(logfile.insert_statement(1, columns), row)
                writing.commit()
            is_cut = _rebuild_cut_short(cut, steps)
            after = tmp_path / f"after-{steps}"
            shutil.copytree(cut, after)  # as it is when nobody gets to close anything
        with _read_through(after) as (directory, _):
            assert _MANY in _numbers(directory)
        if not is_cut:
            break
    assert steps > 6


def test_what_fails_its_checksum_is_left_out_and_counted(place: Path) -> None:
    path = _filled(place, 50)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update record set key = x'00' where id in (3, 7)")
        connection.execute("update token set token = x'00'")
    with open_directory(place) as (directory, _):
        opening = directory.rebuild_file()
        assert _numbers(directory) == [n for n in range(49) if n not in (2, 6)]
        assert opening.unreadable == 3


def test_records_and_tokens_are_kept_whole_with_their_source(place: Path) -> None:
    path = _filled(place, 3)
    with open_directory(place) as (directory, _):
        directory.rebuild_file()
        held = directory.file.read(after=0, limit=9, max_bytes=ROOMY)
        assert [(each.record, each.source) for each in held] == [
            (record(0), "live-events"),
            (record(1), "live-events"),
        ]
        (kept,) = directory.file.read_tokens(after=0, limit=9, max_bytes=ROOMY)
        assert kept.request == token(2, "pns")
    assert path.exists()


def test_large_records_behind_a_damaged_one_are_kept(place: Path) -> None:
    path = _filled(place, 20, size_bytes=40_000)
    _overwrite(path, path.stat().st_size // 2 // _PAGE * _PAGE, b"\xa5" * _PAGE)
    with _read_through(place) as (directory, opening):
        held = directory.file.read(after=0, limit=100, max_bytes=ROOMY)
        sound = [each for each in held if not each.damaged]
        lost = opening.unreadable + len(held) - len(sound)
        assert (len(sound), lost) == (18, 1)
        assert {number(each) for each in sound} < set(range(19))
        assert all(each.record == record(number(each), size_bytes=40_000) for each in sound)


class _Failing:
    """Fails at its nth call, and at no other."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def wrapped(self, original: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            self.left -= 1
            if not self.left:
                raise OSError(5, "Input/output error")
            return original(*args, **kwargs)

        return step


@pytest.mark.parametrize("steps", range(1, 12))
def test_rebuilding_that_fails_at_any_step_succeeds_the_next_time_and_loses_nothing(
    place: Path, steps: int
) -> None:
    _filled(place)
    failing = _Failing(steps)
    with open_directory(place) as (directory, _):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "rename", failing.wrapped(Path.rename))
            patch.setattr(Path, "unlink", failing.wrapped(Path.unlink))
            patch.setattr(SpoolFile, "append", failing.wrapped(SpoolFile.append))
            patch.setattr(SpoolFile, "open", failing.wrapped(SpoolFile.open))
            failed = False
            try:
                directory.rebuild_file()
            except OSError:
                failed = True
        if failed:
            directory.rebuild_file()
        assert failed == (failing.left <= 0)
        assert _numbers(directory) == list(range(_MANY))
        directory.file.append([spooled(_MANY)], max_bytes=ROOMY)


def _as_version_1(path: Path) -> None:
    """What a file was like when a token was a record of the topic `deferred`."""
    path.parent.mkdir()
    more = ",\n  source text not null"
    old = replace(SPOOL, version=1, tables=(logfile.RECORD_TABLE.format(more=more),), upgrade=None)
    columns = f"{logfile.COLUMNS}, source"
    with closing(logfile.open_for_writing(path, old)) as connection:
        connection.execute("create table damaged as select * from record where false")
        for n in range(30):
            topic = "deferred" if n % 3 == 0 else f"p.live-events.x-{n % 3}.v1"
            headers = [("received_at", b"1790000000.25"), ("traceparent", b"00-1-2-01")]
            each = replace(record(n, topic=topic), headers=tuple(headers))
            row = (*logfile.row_of(each, 1_000 + n), "pns")
            connection.execute(logfile.insert_statement(1, columns), row)
        connection.execute("insert into damaged select * from record where id = 2")
        connection.execute("delete from record where id = 2")


def _check_upgraded(directory: SpoolDirectory) -> None:
    tokens = directory.file.read_tokens(after=0, limit=99, max_bytes=ROOMY)
    assert [each.request for each in tokens] == [
        SignedRequest(
            token=record(n).value, source="pns", received_at=1790000000.25, traceparent="00-1-2-01"
        )
        for n in range(0, 30, 3)
    ]
    held = directory.file.read(after=0, limit=99, max_bytes=ROOMY)
    assert [number(each) for each in held] == [n for n in range(30) if n % 3 and n != 1]
    topic = "p.live-events.x-2.v1"
    alone = directory.file.read_topics([topic], after=0, limit=99, max_bytes=ROOMY)
    assert [number(each) for each in alone] == list(range(2, 30, 3))
    sizes = {each.topic: each.size_bytes for each in directory.file.contents().records}
    assert sizes[topic] == sum(each.size_bytes for each in alone)
    directory.file.append([spooled(99), token(99)], max_bytes=ROOMY)
    directory.file.move_damaged("record", [held[0].stored.offset])


def test_file_of_the_first_version_is_upgraded_in_place_with_all_it_holds(place: Path) -> None:
    _as_version_1(place / FILE_NAME)
    with open_directory(place) as (directory, opening):
        assert (opening.unreadable, _count(opening.contents)) == (0, 29)
        _check_upgraded(directory)
    with open_directory(place) as (_, opening):
        assert (opening.unreadable, _count(opening.contents)) == (0, 30)
    assert _damaged(place) == []


def test_upgrade_that_is_cut_short_changes_nothing(place: Path, tmp_path: Path) -> None:
    _as_version_1(place / FILE_NAME)
    with closing(sqlite3.connect(place / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        assert SPOOL.upgrade is not None
        SPOOL.upgrade(connection)
        shutil.copytree(place, tmp_path / "cut")
    with open_directory(tmp_path / "cut") as (directory, _):
        _check_upgraded(directory)


def test_damaged_file_of_the_first_version_is_read_too(place: Path) -> None:
    path = place / FILE_NAME
    _as_version_1(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 99")  # nobody can open it as it is
    with open_directory(place) as (directory, opening):
        assert opening.unreadable == 0
        _check_upgraded(directory)
    assert len(_damaged(place)) == 1


def test_schema_that_is_no_text_any_more_is_damage_like_any_other(place: Path) -> None:
    path = _filled(place)
    sound = path.read_bytes()
    damaged = sound.replace(b"CREATE TABLE token", b"CREATE T\x8fBLE token")
    assert damaged != sound
    path.write_bytes(damaged)
    with closing(SpoolReader.open(path)) as reader:
        assert (list(reader.items()), reader.unreadable, reader.moved()) == ([], 1, 0)
        with pytest.raises(LogFileError):
            reader.contents()
        (flaw,) = reader.integrity()
        assert flaw
    with _read_through(place) as (directory, _):
        assert _numbers(directory) == list(range(_MANY - 1))
