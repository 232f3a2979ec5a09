"""What both programs keep is for their user alone, whatever umask they are started with."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.integration.ingest.commands import run
from tests.integration.path.whole_path import WholePath, drawn_seed, whole_path
from tests.support.each import each_case


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """What processes that are started meanwhile get from this one."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def test_nobody_else_can_read_what_is_kept(tmp_path: Path) -> None:
    with each_case() as case:
        for mask in (0, 0o022):
            with case(oct(mask)), _umask(mask):
                directory = tmp_path / oct(mask)
                async with whole_path(directory, seed=drawn_seed()) as path:
                    assert (await path.send(20)).accepted
                    await path.rows()
                    _all_ours(directory, {"-wal", "-shm"})
                    await _exported(path)
                _all_ours(directory, {"alarms.json", "owner.lock", "reserve", ".duckdb"})
                logs = [program.log_file.read_text() for program in (path.receiver, path.worker)]
                assert not any("others on this machine" in log for log in logs)


async def test_programs_say_what_was_open_to_others_before_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    async with whole_path(tmp_path, seed=drawn_seed()) as path:
        for program in (path.receiver, path.worker):
            assert f"chmod 700 {data}" in program.log_file.read_text()
    assert data.stat().st_mode & 0o777 == 0o755  # theirs to change


async def test_the_published_contract_has_the_users_own_umask(tmp_path: Path) -> None:
    with _umask(0o022):
        done = await asyncio.to_thread(
            run, tmp_path, "schema", "export", "--out", str(tmp_path / "out")
        )
    assert done.returncode == 0, done.stderr
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*")}
    assert modes == {0o755, 0o644}


async def _exported(path: WholePath) -> None:
    out = path.directory / "data" / "exported"
    settings = {"FOREBAY_DATA_DIR": str(path.directory / "data")}
    done = await asyncio.to_thread(
        run, path.directory, "spool", "export", "--out", str(out), **settings
    )
    assert done.returncode == 0, done.stderr
    assert out.exists()


def _all_ours(directory: Path, endings: set[str]) -> None:
    """Fails for what others have rights to, and where no file has one of these endings."""
    kept = [*(directory / "data").rglob("*"), directory / "data", *directory.glob("*.duckdb*")]
    shared = [
        f"{path.name} {path.stat().st_mode & 0o777:o}"
        for path in kept
        if path.stat().st_mode & 0o777 != (0o700 if path.is_dir() else 0o600)
    ]
    assert shared == []
    names = [path.name for path in kept]
    missing = {ending for ending in endings if not any(name.endswith(ending) for name in names)}
    assert not missing, names
