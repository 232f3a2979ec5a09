"""Row 19: events in shapes that nobody has announced, and no JSON at all under a true signature."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tests.emulator.deliveries import Outgoing
from tests.emulator.forgeries import QUARANTINED
from tests.emulator.school import timed
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.site import Site, event_request
from tests.faults.verdict import Tally
from tests.support import tables

TYPE: Final = "assignment_created"
CUT_LENGTH: Final = 8_192
"""Where Canvas cuts long texts (canvas-lms, gems/live_events)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """What is laid over a good event's body or metadata, and what `issues` must name for it.

    `raw` replaces the text "@@" in the JSON, for what no encoder writes.
    """

    name: str
    body: Mapping[str, Any]
    metadata: Mapping[str, Any]
    issues: frozenset[str] = frozenset()
    raw: str = ""


def _odd(name: str, *issues: str, raw: str = "", metadata: Any = None, **body: Any) -> Odd:
    return Odd(name=name, body=body, metadata=metadata or {}, issues=frozenset(issues), raw=raw)


ODD: Final = (
    _odd("unknown_type", metadata={"event_name": "reservoir_emptied"}),
    _odd("unknown_type_of_odd_name", metadata={"event_name": "Reservoir.Emptied-2 / näher"}),
    _odd("new_fields", depth_m=41.5, gates=[{"id": 1}, None], sluice={"open": True}),
    _odd("new_metadata", metadata={"lake": {"level": [1, 2]}}),
    _odd("text_for_number", "body.points_possible", points_possible="a lot"),
    _odd("object_for_text", "body.title", title={"de": "Stausee"}),
    _odd("list_for_id", "body.assignment_id", assignment_id=[1, 2]),
    _odd("text_for_time", "body.due_at", due_at="the day after tomorrow"),
    _odd("nulls", title=None, description=None, due_at=None, points_possible=None),
    _odd("cut_text", description="w" * CUT_LENGTH + "..."),
    _odd("lone_surrogate", "body.title", title="@@", raw=r'"half \ud83d"'),
    _odd("nul", "body.title", title="@@", raw=r'"a\u0000b"'),
    _odd("nan", "body.points_possible", points_possible="@@", raw="NaN"),
    _odd("infinity", "body.points_possible", points_possible="@@", raw="-Infinity"),
    _odd("beyond_double", "body.points_possible", points_possible="@@", raw="1e999"),
    _odd("beyond_int64", "body.position", position="@@", raw=str(2**70)),
    _odd("unreadable_time", "metadata.event_time", metadata={"event_time": "019-11-01T00:00"}),
    _odd("nested", sluice="@@", raw="[" * 150 + "]" * 150),
)
UNREADABLE: Final = (
    b'{"iss":"x","body":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b'{"iss":"\xff"}',
    b'{"iss":' + b"9" * 5_000 + b"}",
    b"[]",
    b"",
)


async def shapes_without_notice(grounds: Grounds, seed: int) -> Tally:
    """All odd shapes among good events of the same types: kept, named, and in nobody's way."""
    async with grounds.site(seed) as site:
        await site.canvas.send_events(site.url, count=30, name=TYPE)
        answered = await site.send(_odd_requests(site), concurrency=1)
        for odd, delivery in zip(ODD, answered, strict=True):
            site.expect(delivery.accepted, f"{odd.name}: {delivery.status} {delivery.reason}")
        await site.send(_unreadable_requests(site))
        await site.canvas.send_events(site.url, count=30, name=TYPE)
        await settle(site)
        named = _issues(site)
        for odd, delivery in zip(ODD, answered, strict=True):
            issues = named.get(delivery.event_id or "", set())
            site.expect(odd.issues <= issues, f"{odd.name}: the issues named are {issues}")
        dead = (await site.worker_metrics()).value("forebay_dead_letters_total")
        site.expect(dead == 0, f"{dead} became dead letters")
        return await judge(site)


def _odd_requests(site: Site) -> Iterator[Outgoing]:
    key = site.canvas.keys.live_events.current
    for number, odd in enumerate(ODD):
        event = site.canvas.school.live_event(number, name=TYPE, stream="odd")
        claims = {
            **event.claims,
            "body": {**event.claims["body"], **odd.body},
            "metadata": {**event.claims["metadata"], **odd.metadata},
        }
        text = json.dumps(timed(claims, int(time.time()))).replace('"@@"', odd.raw)
        header = orjson.dumps({"alg": "RS256", "typ": "JWT", "kid": key.kid})
        yield event_request(
            key.sign_text(header, text.encode()).encode(),
            name=odd.metadata.get("event_name", TYPE),
            content_key=_content_key(json.loads(text, parse_float=_number)),
        )


def _unreadable_requests(site: Site) -> Iterator[Outgoing]:
    key = site.canvas.keys.live_events.current
    header = orjson.dumps({"alg": "RS256", "typ": "JWT", "kid": key.kid})
    for payload in UNREADABLE:
        token = key.sign_text(header, payload).encode()
        yield event_request(
            token,
            name="unreadable",
            content_key=hashlib.sha256(token).hexdigest(),
            expected=(QUARANTINED,),
        )


def _content_key(claims: Mapping[str, Any]) -> str:
    """The event's id, of the JSON that orjson writes, or the standard library where it cannot."""
    identity = [
        "canvas",
        claims["iss"],
        claims["subscription"]["id"],
        claims["metadata"],
        claims["body"],
    ]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    if "NaN" not in text and "Infinity" not in text:
        with contextlib.suppress(TypeError):
            text = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS).decode()
    return hashlib.sha256(text.encode()).hexdigest()


def _number(text: str) -> float | str:
    """A double, or the digits of what is beyond any."""
    value = float(text)
    return text if math.isinf(value) else value


def _issues(site: Site) -> dict[str, set[str]]:
    rows = tables.query(site.store, "select event_id, metadata from canvas.events")
    return {event_id: set(orjson.loads(metadata).get("issues", ())) for event_id, metadata in rows}
