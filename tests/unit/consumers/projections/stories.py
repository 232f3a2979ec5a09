"""Random events about few entities: late, repeated, of equal and of unreadable times."""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

from ingest.contract.catalogue import EventType, FieldType, catalogue
from ingest.contract.envelope import Envelope
from ingest.contract.views import StateView, views

TYPES = tuple(
    entry
    for entry in catalogue()
    if entry.source == "live-events"
    and any(
        entry.table in view.tables
        for view in views()
        if isinstance(view, StateView) and view.marks_deleted
    )
)
_SHARD = 7 * 10**13
_TIMES = [f"2026-09-07T06:30:0{n}.000Z" for n in range(6)]
_STATES = ["active", "deleted", "available"]
_FITTING: dict[FieldType, list[Any]] = {
    "string": ["weir", "sluice", ""],
    "integer": [1, -2],
    "number": [0.5, 7],
    "boolean": [True, False],
    "timestamp": ["2026-09-07T06:30:00.250Z", "2026-09-08T08:30:00+02:00"],
    "object": [{"a": 1}],
    "array": [["a", 1]],
    "ids": [["1"]],
}


def story(seed: int, *, length: int) -> list[Envelope]:
    """Events of one tenant, in any order; some come twice."""
    chance = random.Random(seed)
    told = [_event(chance, f"tenant-{seed}", number) for number in range(length)]
    told += chance.sample(told, length // 10)
    chance.shuffle(told)
    return told


def _event(chance: random.Random, tenant: str, number: int) -> Envelope:
    entry = chance.choice(TYPES)
    metadata = {
        "event_id": hashlib.sha256(f"{tenant} {number}".encode()).hexdigest(),
        "event_type": entry.name,
        "received_at": "2026-09-07T07:00:00.000Z",
        "source": "live-events",
        "format": "canvas",
        "tenant": tenant,
        "issuer": "https://events.example.edu",
    }
    if chance.random() < 0.95:
        metadata["event_time"] = chance.choice([*_TIMES, "some day"])
    if chance.random() < 0.8:
        metadata["root_account_id"] = str(_SHARD + 1)
    if chance.random() < 0.5:
        metadata |= {
            "context_type": chance.choice(["Course", "Account"]),
            "context_id": _id(chance),
        }
    return Envelope(metadata, dict(_body(chance, entry)))


def _body(chance: random.Random, entry: EventType) -> Iterator[tuple[str, Any]]:
    for name, kind in entry.fields.items():
        if chance.random() < (0.05 if name in entry.key else 0.35):
            if chance.random() < 0.5:
                yield name, None
        elif name in ("workflow_state", "state"):
            yield name, chance.choice(_STATES)
        elif name == "context_type":
            yield name, chance.choice(["Course", "Account"])
        elif kind == "id":
            yield name, _id(chance)
        else:
            yield name, chance.choice([*_FITTING[kind], {"no": "fit"}])


def _id(chance: random.Random) -> str:
    """One of few, as a local id or a global one."""
    local = chance.randint(1, 3)
    return str(local if chance.random() < 0.5 else _SHARD + local)
