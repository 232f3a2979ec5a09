"""What is refused leaves nothing behind: no cycle that holds a body until the collector comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import types
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import ingest
from ingest.app import running
from ingest.errors import REFUSALS, Refusal
from ingest.http import server
from ingest.http.receiver import Limits, Receiver
from ingest.http.server import receiving
from ingest.intake import Intake
from ingest.observing.metrics import Metrics
from ingest.settings import Settings
from ingest.shared.admin_listener import bound_socket
from ingest.shared.environment import load
from ingest.values import Receipt, SignedRequest
from ingest.verifying.tenants_file import read_tenants
from tests.emulator.canvas import Canvas
from tests.emulator.school import School
from tests.integration.ingest.site import eventually, notices
from tests.integration.ingest.wire import chunk, head, post
from tests.support.each import each_case

LIVE, PNS = "/live-events", "/pns"
_OURS = str(Path(ingest.__file__).parent)
_BODY = b"x" * 300_000
_OUR_TROUBLE = (("bug", 503), ("hang", 503))
_LIMITS = Limits(body_timeout_s=0.2, max_in_flight=2, handling_timeout_s=0.2)


class _RefusingIntake:
    """Refuses as the first letters of a token say, raised some frames down as stages do."""

    async def accept(self, request: SignedRequest, together: object = None) -> Receipt:
        name = request.token.partition(b" ")[0].decode()
        held = request.token + b"?"  # what a frame of ours may hold
        if name == "hang":
            await asyncio.sleep(60)
        self._judge(name, held)
        raise AssertionError

    def refuse(self, source: Any, refusal: Refusal) -> Refusal:
        intake = Intake.__new__(Intake)
        intake._metrics = Metrics()
        return intake.refuse(source, refusal)

    def _judge(self, name: str, held: bytes) -> None:
        try:
            raise LookupError(name)
        except LookupError as cause:
            if name == "bug":
                raise
            refusal = next(kind for kind in REFUSALS if kind.reason == name)
            raise refusal from cause


@contextlib.asynccontextmanager
async def _listening(**limits: Any) -> AsyncIterator[tuple[int, Metrics]]:
    metrics = Metrics()
    handler = Receiver(
        intake=cast(Intake, _RefusingIntake()), metrics=metrics, limits=replace(_LIMITS, **limits)
    )
    with bound_socket("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        async with receiving(handler, metrics, bound, tls=None, shutdown_timeout_s=1):
            yield port, metrics


def _refused() -> Iterator[tuple[str, int, list[bytes]]]:
    """Each way to be refused: its name, the status, and what a client sends."""
    for name, status in (*((kind.reason, kind.status) for kind in REFUSALS), *_OUR_TROUBLE):
        token = name.encode() + b" " + _BODY
        yield f"event {name}", status, [post(LIVE, token)]
        yield f"notice {name}", status, [post(PNS, notices([token, token]))]
        yield f"late event {name}", status, [post(LIVE, token)[:-1], b"x"]
    for path in (LIVE, PNS):
        chunked = head("POST", path, "Transfer-Encoding: chunked")
        long = head("POST", path, "Content-Length: 500000") + _BODY
        too_long = head("POST", path, "Content-Length: 9999999") + _BODY
        large_head = head("POST", path, *(f"X-{n}: {'x' * 7_000}" for n in range(6)))
        yield f"{path} encoded", 415, [post(path, _BODY, "Content-Encoding: gzip")]
        yield f"{path} announced", 413, [too_long]
        yield f"{path} too large", 413, [chunked, *[chunk(_BODY)] * 15]
        yield f"{path} not in time", 408, [long]
        yield f"{path} framing", 400, [chunked + chunk(_BODY), b"zz"]
        yield f"{path} method", 405, [too_long.replace(b"POST", b"PUT")]
        yield f"{path} head", 400, [large_head]
        yield f"{path} no HTTP", 400, [_BODY]
        yield f"{path} cut", 0, [long, b""]
    yield "no notices", 400, [post(PNS, _BODY)]
    yield "no tokens", 400, [post(PNS, notices([None] * 9)[:-1] + b" " * 100_000 + b"}")]
    yield "too many notices", 413, [post(PNS, notices([None] * 3_000))]
    yield "elsewhere", 404, [post("/elsewhere", _BODY)]


async def test_no_refusal_leaves_a_cycle_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LINGERING_S", 0.05)
    with without_collector(), each_case() as case:
        async with _listening() as (port, metrics):
            for name, status, pieces in _refused():
                with case(name):
                    answer = await asyncio.to_thread(_exchange, port, pieces)
                    assert int((answer.split() or [b"", b"0"])[1]) == status
                    await eventually(lambda: _all_closed(metrics))
                    await asyncio.sleep(0)
                    assert _left_behind() == []


async def test_no_body_that_goes_for_another_leaves_a_cycle_behind() -> None:
    half = head("POST", LIVE, "Content-Length: 400000") + _BODY
    with without_collector():
        async with _listening(max_body_bytes_in_flight=1_000_000) as (port, metrics):
            answers = await asyncio.gather(
                *(asyncio.to_thread(_exchange, port, [half]) for _ in range(6))
            )
            assert {answer.split()[1] for answer in answers} == {b"503", b"408"}
            await eventually(lambda: _all_closed(metrics))
            await asyncio.sleep(0)
            assert _left_behind() == []


async def test_no_forgery_leaves_a_cycle_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Canvas(school=School.from_seed(7)) as canvas:
        (tmp_path / "tenants.toml").write_text(canvas.tenants_toml())
        for name, value in {
            **canvas.receiver_environment(),
            "FOREBAY_DATA_DIR": str(tmp_path / "data"),
            "FOREBAY_HTTP__HOST": "127.0.0.1",
            "FOREBAY_HTTP__PORT": "0",
            "FOREBAY_ADMIN__PORT": "0",
        }.items():
            monkeypatch.setenv(name, value)
        directory = read_tenants(tmp_path / "tenants.toml")
        async with running(load(Settings), directory) as site:
            url = f"http://{site.public}"
            await canvas.send_forgeries(url)  # whatever is made once is made now
            with without_collector():
                report = await canvas.send_forgeries(url)
                assert report.misjudged_forgeries == 0
                assert _left_behind() == []


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Cyclic garbage stays while the block runs, and can be looked into."""
    gc.collect()
    gc.freeze()  # what was there before need not be looked at again
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def _left_behind() -> list[str]:
    """Cyclic garbage that holds refusals, frames of ours, or bytes that may be a body's."""
    gc.collect()
    found = [text for thing in gc.garbage if (text := _described(thing)) is not None]
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()  # else it would be found again
    gc.set_debug(gc.DEBUG_SAVEALL)
    return found


def _described(thing: object) -> str | None:
    if isinstance(thing, BaseException) and thing.__traceback__ is not None:
        frames = [frame for frame in _frames(thing) if _is_ours(frame)]
        return f"{thing!r} with {frames}" if frames else None
    if isinstance(thing, types.FrameType) and _is_ours(thing):
        return repr(thing)
    large = [one for one in gc.get_referents(thing) if _is_large(one)]
    return f"{type(thing).__name__} with {len(large[0])} bytes" if large else None


def _frames(error: BaseException) -> Iterator[types.FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _is_ours(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


def _is_large(thing: object) -> bool:
    return isinstance(thing, bytes | bytearray) and len(thing) > 1_024


async def _all_closed(metrics: Metrics) -> bool:
    labels = {"process": "0"}
    return metrics.registry.get_sample_value("forebay_open_connections", labels) == 0


def _exchange(port: int, pieces: list[bytes]) -> bytes:
    """Sends piece by piece, or resets at an empty one; all that comes back until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if not piece:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return b""
                client.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(65_536):
                answer += piece
        return answer
