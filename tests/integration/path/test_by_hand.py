"""The newcomer's way: a few commands in a terminal, and the event is a row."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support import tables
from tests.support.processes import Program, free_port, receiver, store, worker

ROW_WITHIN_S = 15.0
_OF_THE_TOKEN = {"iat", "exp"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by-hand")


@pytest.fixture(scope="module")
def url(directory: Path) -> Iterator[str]:
    """The public address, with key server, receiver and worker running."""
    port = free_port()
    with _keys_shown(directory) as settings:
        tenants_toml = (directory / "tenants.toml").read_text()
        receiving = receiver(directory, port=port, tenants_toml=tenants_toml, settings=settings)
        working = worker(directory)
        with _ending_well(receiving), _ending_well(working):
            yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("submission_created", "/live-events"),
        ("grade_change", "/live-events"),
        ("LtiContextCopyNotice", "/pns"),
    ],
)
def test_a_posted_event_is_soon_a_row_and_whole(
    directory: Path, url: str, name: str, path: str
) -> None:
    body = _emulator("token", "--type", name, "--keys-dir", str(directory / "keys"))
    status, answer = _post(url + path, body)
    assert status == 202, answer
    receipt = answer.get("notices", [answer])[0]
    assert receipt["outcome"] == "published"
    metadata, kept_body = _row(store(directory), receipt["event_id"])
    signed = {n: v for n, v in _claims(body).items() if n not in _OF_THE_TOKEN}
    assert not Counter(_leaves(signed)) - Counter(_leaves([metadata, kept_body]))


def _row(path: Path, event_id: str) -> tuple[Any, Any]:
    """`metadata` and `body` of the event's row, once it is there."""
    sql = f"select metadata, body from canvas.events where event_id = '{event_id}'"
    deadline = time.monotonic() + ROW_WITHIN_S
    while not (rows := tables.query(path, sql)):
        assert time.monotonic() < deadline, "the row does not come"
        time.sleep(0.02)
    ((metadata, body),) = rows
    return orjson.loads(metadata), orjson.loads(body)


def _leaves(value: Any) -> Iterator[str]:
    """Every scalar in a JSON value, in a spelling that normalising does not change.

    Ids may become text, times are written in UTC with milliseconds; names may change, and null is
    as good as absent.
    """
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _leaves(child)
    elif isinstance(value, str):
        yield _instant(value) or value
    elif isinstance(value, float) and value.is_integer():
        yield str(int(value))
    elif value is not None:
        yield str(value)


def _instant(text: str) -> str | None:
    if len(text) < len("2026-03-02T15:00"):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _claims(body: bytes) -> dict[str, Any]:
    token = orjson.loads(body)["notices"][0]["jwt"].encode() if body.startswith(b"{") else body
    payload = token.split(b".")[1]
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + b"=="))
    return claims


def _post(url: str, body: bytes) -> tuple[int, Any]:
    """Status and answer, by curl where there is one."""
    curl = shutil.which("curl")
    if curl is None:
        request = urllib.request.Request(url, data=body)
        with urllib.request.urlopen(request, timeout=15) as response:
            return response.status, orjson.loads(response.read())
    command = [curl, "-sS", "--data-binary", "@-", "-w", "\n%{http_code}", url]
    done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=30)
    answer, _, status = done.stdout.rpartition(b"\n")
    return int(status), orjson.loads(answer)


def _emulator(*arguments: str) -> bytes:
    command = [sys.executable, "-m", "tests.emulator", *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


@contextlib.contextmanager
def _keys_shown(directory: Path) -> Iterator[dict[str, str]]:
    """The receiver's settings, as the emulator's `keys` command prints them."""
    command = [sys.executable, "-m", "tests.emulator", "keys", "--port", str(free_port())]
    command += ["--keys-dir", str(directory / "keys")]
    command += ["--tenants-file", str(directory / "tenants.toml")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline().strip() for _ in range(2)]
            yield dict(line.split("=", 1) for line in lines)
        finally:
            process.terminate()
    assert process.returncode == 0


@contextlib.contextmanager
def _ending_well(program: Program) -> Iterator[None]:
    program.start()
    try:
        yield
    finally:
        code = program.stop()
    assert code == 0, program.log_file.read_text()
