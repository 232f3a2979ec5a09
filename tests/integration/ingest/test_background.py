"""A background task that the promise needs ends: so does the process, loudly and in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.emulator.canvas import Canvas
from tests.emulator.school import School, timed
from tests.integration.ingest.site import eventually, read_log
from tests.integration.ingest.wire import connected, post, read_answer
from tests.support.processes import Program, free_port, receiver

# the receiver as it is, but that one task of it fails as soon as there is a file of this name
_FAILING = """
import os, sys
from ingest import verify_deferred
from ingest.commands.main import main
look = verify_deferred.DeferredVerification._forget
async def fail(self):
    if os.path.exists(FLAG):
        raise ZeroDivisionError("text that may quote a token")
    await look(self)
verify_deferred._LOOK_EVERY_S = 0.05
verify_deferred.DeferredVerification._forget = fail
main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failing:
    """A receiver on `port`; `fail()` ends one of its tasks."""

    canvas: Canvas
    program: Program
    directory: Path
    port: int

    def fail(self) -> None:
        (self.directory / "fail").touch()

    def lines(self) -> list[dict[str, str]]:
        text = self.program.log_file.read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
async def failing(tmp_path: Path) -> AsyncIterator[_Failing]:
    port = free_port()
    async with Canvas(school=School.from_seed(1)) as canvas:
        program = receiver(
            tmp_path,
            port=port,
            tenants_toml=canvas.tenants_toml(),
            settings=canvas.receiver_environment(),
            command=("python", "-c", f"FLAG = {str(tmp_path / 'fail')!r}\n{_FAILING}", "serve"),
        )
        await asyncio.to_thread(program.start)
        try:
            yield _Failing(canvas=canvas, program=program, directory=tmp_path, port=port)
        finally:
            await asyncio.to_thread(program.kill)


async def test_needed_task_that_fails_ends_the_process_in_order(failing: _Failing) -> None:
    event = failing.canvas.school.live_event(1, stream="by hand")
    token = failing.canvas.keys.live_events.current.sign(timed(event.claims, int(time.time())))
    request = post("/live-events", token.encode())
    async with connected(failing.port) as (reader, writer):
        writer.write(request[:-50])
        await writer.drain()
        failing.fail()
        await eventually(lambda: _is_refused(failing.port))
        writer.write(request[-50:])
        answer = await read_answer(reader)
    assert await asyncio.to_thread(failing.program.wait) == 1
    assert (answer.status, answer.json()["outcome"]) == (202, "published")
    assert answer.json()["event_id"].encode() in read_log(failing.directory)[-1].value
    (line,) = [line for line in failing.lines() if line["level"] == "error"]
    assert line["task"] == "deferred verification"
    assert line["cause"] == "ZeroDivisionError"
    assert "in fail" in line["at"]
    log = failing.program.log_file.read_text()
    assert "may quote" not in log
    assert "Traceback" not in log


async def _is_refused(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return False
    return True
