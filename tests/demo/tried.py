"""Two things that happen to a receiver on the internet, told one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.emulator.canvas import Canvas
from tests.emulator.messages import LiveEvent, timed
from tests.emulator.story.story import Story
from tests.support import tables
from tests.support.keys import base64url

_TYPE = "grade_change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A genuine event, and what was answered to it a second time, and to a forged one of it."""

    genuine: LiveEvent
    forged_score: float
    repeat: tuple[int, dict[str, Any]]
    forgery: tuple[int, dict[str, Any]]


async def tried(canvas: Canvas, story: Story, url: str) -> Tried:
    """Send the story's last grade again, signed anew; and with the best score put into its token.

    Another event follows in the end, so that whoever waits for its row has waited for all.
    """
    *_, last = (each for each in story if isinstance(each, LiveEvent) and _may_be_better(each))
    key, now_s = canvas.keys.live_events.current, int(time.time())
    token = last.token(key, now_s)
    body = {**last.claims["body"], "score": _best(last), "grade": f"{_best(last):g}"}
    header, _, signature = token.split(".")
    forged = base64url(orjson.dumps(timed({**last.claims, "body": body}, now_s)))
    async with aiohttp.ClientSession() as session:
        repeat = await _answer(session, url, token)
        forgery = await _answer(session, url, f"{header}.{forged}.{signature}")
    await canvas.send_events(url, count=1)
    return Tried(genuine=last, forged_score=_best(last), repeat=repeat, forgery=forgery)


def told(tried: Tried, store: Path) -> Iterator[str]:
    """What was done, what was answered, and what the tables have of it."""
    body, key = tried.genuine.claims["body"], tried.genuine.content_key()
    submission, score = body["submission_id"], body["score"]
    status, answer = tried.repeat
    rows = _rows(store, f"event_id = '{key}'")
    yield "The last grade came once more, signed anew, as when Canvas heard no answer:"
    yield f"  answered {status} {answer.get('outcome')}, event {answer.get('event_id', '')[:16]}…"
    yield f"  rows with that event_id: {rows}"
    status, answer = tried.forgery
    rows = _rows(store, f"submission_id = '{submission}' and score = {tried.forged_score}")
    yield f"Somebody wrote {tried.forged_score:g} for {score:g} points into its token:"
    yield f"  answered {status} {answer.get('reason')}"
    yield f"  rows that give submission {submission} {tried.forged_score:g} points: {rows}"


def faults(tried: Tried, store: Path) -> Iterator[str]:
    """What of it went wrong."""
    if tried.repeat[0] != 202 or _rows(store, f"event_id = '{tried.genuine.content_key()}'") != 1:
        yield "a repeat is not there exactly once"
    if tried.forgery[0] != 401:
        yield f"a forged grade was answered {tried.forgery[0]}"


def _rows(store: Path, where: str) -> int:
    return int(tables.query(store, f"select count(*) from canvas.{_TYPE} where {where}")[0][0])


def _may_be_better(event: LiveEvent) -> bool:
    """A grade in Canvas's own format, below the best. Those before it were no better."""
    body = event.claims.get("body")
    return body is not None and event.name == _TYPE and body["score"] < body["points_possible"]


def _best(event: LiveEvent) -> float:
    return float(event.claims["body"]["points_possible"])


async def _answer(
    session: aiohttp.ClientSession, url: str, token: str
) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{url}/live-events", data=token) as response:
        return response.status, dict(await response.json(content_type=None))
