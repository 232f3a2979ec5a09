"""The spool's place on the disk: one owner, and what is left of a file that was damaged."""

import contextlib
import gc
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import APPEND_LIMIT, LogFileError
from ingest.spool.directory import SpoolDirectory
from ingest.spool.recover import Salvage, as_record, salvage
from ingest.spool.store import DEFERRED, FILE_NAME, RESERVE_NAME, Spooled, SpoolFile
from tests.unit.ingest.publishing.fakes import ROOMY, number, open_directory, record, spooled

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
                Spooled(record=record(n, size_bytes=size_bytes), source="live-events")
                for n in range(start, min(start + APPEND_LIMIT, count - 1))
            ]
            directory.file.append(items, max_bytes=ROOMY)
        directory.file.append([spooled(count - 1, "pns", topic=DEFERRED)], max_bytes=ROOMY)
    return place / FILE_NAME


def _numbers(directory: SpoolDirectory) -> list[int]:
    held = directory.file.read(after=0, limit=100_000, max_bytes=ROOMY)
    assert not any(each.stored.damaged for each in held)
    return [number(each) for each in held]


def _flip(path: Path, at: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))


def _overwrite(path: Path, at: int, text: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(text)


def _aside(place: Path) -> list[Path]:
    return sorted(place.glob("damaged-*.sqlite3"))


def test_new_spool_is_empty_and_has_its_reserve(place: Path) -> None:
    with open_directory(place, reserve_bytes=100_000) as (directory, opening):
        assert (opening.holdings, opening.unreadable) == ([], 0)
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
        assert {(h.topic == DEFERRED, h.source): h.records for h in opening.holdings} == {
            (False, "live-events"): _MANY - 1,
            (True, "pns"): 1,
        }
    assert _aside(place) == []


def test_second_owner_is_refused_and_harms_nothing(place: Path) -> None:
    _filled(place)
    with open_directory(place) as (directory, _):
        with pytest.raises(LogFileError, match="in use by process"):
            SpoolDirectory.open(place, reserve_bytes=0)
        directory.file.append([spooled(_MANY)], max_bytes=ROOMY)
        assert _numbers(directory) == list(range(_MANY + 1))


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
def test_damaged_file_is_set_aside_and_what_can_be_read_is_kept(
    place: Path, damage: Callable[[Path], None]
) -> None:
    path = _filled(place)
    damage(path)
    before = path.read_bytes()
    with open_directory(place) as (directory, opening):
        kept = _numbers(directory)
        assert kept == sorted(set(kept))
        assert set(kept) <= set(range(_MANY))
        assert len(kept) >= _MANY // 3
        assert sum(holding.records for holding in opening.holdings) == len(kept)
        directory.file.append([spooled(_MANY)], max_bytes=ROOMY)
    (aside,) = _aside(place)
    assert aside.read_bytes() == before


@pytest.mark.parametrize("damage", [_scrambled_page, _zeroed_page])
def test_what_is_lost_with_a_page_is_counted(place: Path, damage: Callable[[Path], None]) -> None:
    path = _filled(place)
    damage(path)
    with open_directory(place) as (directory, opening):
        assert len(_numbers(directory)) + opening.unreadable == _MANY
        assert 0 < opening.unreadable < 100


def test_rebuilt_spool_is_found_sound_the_next_time(place: Path) -> None:
    _scrambled_page(_filled(place))
    with open_directory(place) as (directory, opening):
        kept = _numbers(directory)
        assert opening.unreadable > 0
    with open_directory(place) as (directory, opening):
        assert (_numbers(directory), opening.unreadable) == (kept, 0)
    assert len(_aside(place)) == 1


@pytest.mark.parametrize("text", [b"buy milk " * 3_000, b"\0" * 20_000, b"SQLite format 3\0"])
def test_file_that_is_nothing_of_ours_is_said_and_stops_nobody(place: Path, text: bytes) -> None:
    path = _filled(place)
    path.write_bytes(text)
    with open_directory(place) as (directory, opening):
        assert (opening.holdings, opening.unreadable) == ([], 1)
        directory.file.append([spooled(0)], max_bytes=ROOMY)
    assert [aside.read_bytes() for aside in _aside(place)] == [text]


def test_file_cut_to_nothing_is_said(place: Path) -> None:
    _filled(place).write_bytes(b"")
    with open_directory(place) as (_, opening):
        assert opening.unreadable > 0


def test_file_of_a_later_release_is_salvaged_and_set_aside(place: Path) -> None:
    path = _filled(place)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma user_version = {logfile.FORMAT_VERSION + 1}")
    with open_directory(place) as (directory, opening):
        assert _numbers(directory) == list(range(_MANY))
        assert opening.unreadable == 0
    assert len(_aside(place)) == 1


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
    directory = None
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_PowerCutError):
        _cut(patch, steps)
        directory, _ = SpoolDirectory.open(place, reserve_bytes=0)
    if directory is not None:
        directory.close()
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # a power cut closes nothing, and that is no leak of ours
    return True


def test_rebuilding_cut_short_at_any_step_is_done_again_and_loses_nothing(
    place: Path, tmp_path: Path
) -> None:
    _scrambled_page(_filled(place))
    whole = tmp_path / "whole"
    shutil.copytree(place, whole)
    with open_directory(whole) as (directory, opening):
        expected = (_numbers(directory), opening.unreadable)
    for steps in range(100):
        cut = tmp_path / f"cut-{steps}"
        shutil.copytree(place, cut)
        if not _rebuild_cut_short(cut, steps):
            break
        with open_directory(cut) as (directory, opening):
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
        with open_directory(after) as (directory, _):
            assert _MANY in _numbers(directory)
        if not is_cut:
            break
    assert steps > 6


def test_salvage_leaves_out_what_fails_its_checksum(place: Path) -> None:
    path = _filled(place, 50)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update record set key = x'00' where id in (3, 7)")
    result = Salvage()
    read = [int(item.record.key) for item in salvage(path, result)]
    assert read == [n for n in range(50) if n not in (2, 6)]
    assert (result.kept, result.lost) == (48, 2)


def test_salvage_gives_records_whole_with_their_source(place: Path) -> None:
    items = list(salvage(_filled(place, 3), Salvage()))
    assert items == [spooled(0), spooled(1), spooled(2, "pns", topic=DEFERRED)]


def test_salvage_of_what_is_not_there_is_one_loss(tmp_path: Path) -> None:
    result = Salvage()
    assert list(salvage(tmp_path / "absent", result)) == []
    assert (result.kept, result.lost) == (0, 1)
    assert not (tmp_path / "absent").exists()


def test_salvage_of_large_records_goes_on_behind_a_damaged_one(place: Path) -> None:
    path = _filled(place, 20, size_bytes=40_000)
    _overwrite(path, path.stat().st_size // 2 // _PAGE * _PAGE, b"\xa5" * _PAGE)
    with open_directory(place) as (directory, opening):
        held = directory.file.read(after=0, limit=100, max_bytes=ROOMY)
        sound = [each for each in held if not each.stored.damaged]
        lost = opening.unreadable + len(held) - len(sound)
        assert (len(sound), lost) == (19, 1)
        numbers = {number(each) for each in sound}
        assert numbers < set(range(20))
        assert all(
            as_record(each.stored) == record(number(each), size_bytes=40_000)
            for each in sound
            if each.stored.topic != DEFERRED
        )
