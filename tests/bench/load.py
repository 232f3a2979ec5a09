"""The load: `wrk` where it is installed, else a generator of our own; both keep connections."""

import asyncio
import itertools
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back. Percentiles are of the time from request to answer.

    `errors` are answers other than 2xx and 3xx, and requests without an answer.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int


def generator() -> str:
    """Which of the two will be used."""
    return "wrk" if shutil.which("wrk") else "python"


def offer(
    port: int, tokens: Sequence[str], *, connections: int, seconds: float, file: Path
) -> Answers:
    """Posts tokens in turn to 127.0.0.1:`port` as fast as they are answered. `file` is scratch."""
    if generator() == "wrk":
        return _offer_with_wrk(port, tokens, connections, seconds, file)
    return asyncio.run(_offer(port, tokens, connections, seconds))


def _offer_with_wrk(
    port: int, tokens: Sequence[str], connections: int, seconds: float, file: Path
) -> Answers:
    file.write_text("\n".join(tokens) + "\n")
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--latency"]
    command += ["--timeout", "15s", "--duration", f"{round(seconds)}s", "--script", str(_SCRIPT)]
    command += [f"http://127.0.0.1:{port}", "--", str(file)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return msgspec.json.decode(printed.splitlines()[-1], type=Answers)


async def _offer(port: int, tokens: Sequence[str], connections: int, seconds: float) -> Answers:
    turns = itertools.cycle([_request(token) for token in tokens])
    took_s: list[float] = []
    errors = 0

    async def client(until: float) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(next(turns))
            errors += not await _is_accepted(reader)
            took_s.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(began + seconds) for _ in range(connections)))
    elapsed_s = time.perf_counter() - began
    took_s.sort()
    return Answers(
        requests=len(took_s),
        seconds=elapsed_s,
        p50_ms=took_s[len(took_s) // 2] * 1000,
        p99_ms=took_s[len(took_s) * 99 // 100] * 1000,
        errors=errors,
    )


def _request(token: str) -> bytes:
    head = f"POST /live-events HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(token)}\r\n\r\n"
    return head.encode() + token.encode()


async def _is_accepted(reader: asyncio.StreamReader) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head.startswith(b"HTTP/1.1 202 ")
