"""The reserve: real blocks, given up and taken again."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from ingest.spool.files.reserve import Reserve

_SIZE_BYTES = 3 * 1024 * 1024 + 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reserve"


def _free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=free_bytes)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)


def test_it_holds_real_blocks(path: Path) -> None:
    reserve = Reserve(path, _SIZE_BYTES)
    assert (reserve.take(), reserve.held) == (True, True)
    assert path.stat().st_size == _SIZE_BYTES
    assert path.stat().st_blocks * 512 >= _SIZE_BYTES


def test_it_is_not_held_before_it_is_taken(path: Path) -> None:
    assert not Reserve(path, _SIZE_BYTES).held
    assert not path.exists()


def test_what_an_earlier_process_took_is_held_without_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Reserve(path, _SIZE_BYTES).take()
    before = path.stat().st_mtime_ns
    _free(monkeypatch, 0)
    again = Reserve(path, _SIZE_BYTES)
    assert (again.take(), again.held, path.stat().st_mtime_ns) == (True, True, before)


@pytest.mark.parametrize("earlier_bytes", [100, 2 * _SIZE_BYTES])
def test_reserve_of_another_size_is_made_anew(path: Path, earlier_bytes: int) -> None:
    path.write_bytes(b"x" * earlier_bytes)
    assert Reserve(path, _SIZE_BYTES).take()
    assert path.stat().st_size == _SIZE_BYTES
    assert path.stat().st_blocks * 512 >= _SIZE_BYTES


def test_giving_up_frees_the_blocks_even_twice(path: Path) -> None:
    reserve = Reserve(path, _SIZE_BYTES)
    reserve.take()
    for _ in range(2):
        reserve.give_up()
        assert (path.exists(), reserve.held) == (False, False)


def test_it_can_be_taken_again(path: Path) -> None:
    reserve = Reserve(path, _SIZE_BYTES)
    reserve.take()
    reserve.give_up()
    assert (reserve.take(), reserve.held) == (True, True)


@pytest.mark.parametrize(
    ("free_bytes", "taken"), [(2 * _SIZE_BYTES - 1, False), (2 * _SIZE_BYTES, True)]
)
def test_it_takes_no_blocks_that_others_need(
    path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, taken: bool
) -> None:
    _free(monkeypatch, free_bytes)
    reserve = Reserve(path, _SIZE_BYTES)
    assert (reserve.take(), reserve.held, path.exists()) == (taken, taken, taken)


def test_half_a_reserve_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    reserve = Reserve(path, _SIZE_BYTES)
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_space)
        with pytest.raises(OSError, match="No space"):
            reserve.take()
    assert not reserve.held
    assert reserve.take()
    assert path.stat().st_blocks * 512 >= _SIZE_BYTES


def test_it_works_where_blocks_cannot_be_reserved_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    assert Reserve(path, _SIZE_BYTES).take()
    assert path.stat().st_size == _SIZE_BYTES
    assert path.stat().st_blocks * 512 >= _SIZE_BYTES
