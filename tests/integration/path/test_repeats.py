"""A repeat changes nothing, whatever signature it comes under."""

import asyncio
from pathlib import Path

import aiohttp
import orjson

from tests.emulator.canvas import Canvas
from tests.support import processes, tables

_TYPE = "grade_change"


async def test_one_event_sent_a_thousand_times_and_signed_anew_is_one_row(tmp_path: Path) -> None:
    async with Canvas(seed=16) as canvas:
        event = canvas.school.live_event(0, name=_TYPE)
        marker = canvas.school.live_event(1, name=_TYPE)
        key, at_s = canvas.keys.live_events.current, 1_800_000_000
        same = [event.token(key, at_s)] * 1_000
        again = [event.token(key, at_s - second) for second in range(1, 51)]
        port = processes.free_port()
        receiver = processes.receiver(
            tmp_path,
            port=port,
            tenants_toml=canvas.tenants_toml(),
            settings=canvas.receiver_environment(),
        )
        worker = processes.worker(tmp_path)
        await asyncio.to_thread(lambda: (receiver.start(), worker.start()))
        try:
            url = f"http://127.0.0.1:{port}/live-events"
            ids = await _post_all(url, [*same, *again])
            await _post_all(url, [marker.token(key, at_s)])
            await asyncio.to_thread(tables.wait_for_events, processes.store(tmp_path), 2)
        finally:
            await asyncio.to_thread(lambda: (receiver.stop(), worker.stop()))
    (event_id,) = set(ids)
    for table in ("events", _TYPE):
        stored = tables.event_ids(processes.store(tmp_path), table)
        assert sorted(stored) == sorted({event_id, marker.content_key()})


async def _post_all(url: str, tokens: list[str]) -> list[str]:
    """Posts tokens a few at a time; the event ids that the answers name."""
    ids: list[str] = []
    waiting = iter(tokens)

    async def client(session: aiohttp.ClientSession) -> None:
        for token in waiting:
            async with session.post(url, data=token) as answer:
                assert answer.status == 202
                ids.append(orjson.loads(await answer.read())["event_id"])

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(8)))
    return ids
