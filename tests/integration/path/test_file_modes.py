"""What both programs keep is for their user alone, whatever umask they are started with."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import trustme

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
    certificate, key, password = (tmp_path / name for name in ("cert.pem", "key.pem", "password"))
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    password.write_text("open-sesame-5551")
    for path_ in (key, password):
        path_.chmod(0o644)
    settings = {
        "FOREBAY_HTTP__TLS_CERT_FILE": str(certificate),
        "FOREBAY_HTTP__TLS_KEY_FILE": str(key),
        "FOREBAY_KAFKA__SASL_PASSWORD_FILE": str(password),
    }
    async with whole_path(tmp_path, seed=drawn_seed(), settings=settings) as path:
        receiver, worker = path.receiver.log_file.read_text(), path.worker.log_file.read_text()
    for log in (receiver, worker):
        assert f"chmod 700 {data}" in log
        assert f"chmod 640 {password}" in log or f"{key} {password}" in log
    assert f"chmod 640 {key}" in receiver
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
