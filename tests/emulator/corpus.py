"""The examples that events are made from: JSON files under `corpus/`, read and checked.

A Live Events example is an object with `event_name`, `kind`, `body`, and at will `metadata`
(members put over the kind's usual ones), `absent` (usual members left out) and `note` (what is odd
about it). A Caliper example has `event_name` (which the event does not state, but a correct
receiver finds), `kind`, `event` (members put over the kind's usual ones), and at will `absent` and
`note`. A notice example has `notice_type`, `claims`, and at will `sub` and `note`; a claim whose
name holds "://" is named in full, any other stands under the LTI claim prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

EXAMPLES_DIR = Path(__file__).parent / "corpus"

Kind = Literal["user", "anonymous", "system", "service", "bare"]
"""Who caused the event: a person, a request without a person (a calendar feed), a background job,
another service (New Quizzes), or nobody (no context at all)."""

_EVENT_MEMBERS = {"event_name", "kind", "note", "metadata", "absent", "body"}
_CALIPER_MEMBERS = {"event_name", "kind", "note", "absent", "event"}
_NOTICE_MEMBERS = {"notice_type", "note", "sub", "claims"}


class CorpusError(Exception):
    """An example file does not hold what it should; the text names file and place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventExample:
    """One Live Event as it might be sent, before ids and times are drawn."""

    event_name: str
    kind: Kind
    body: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaliperExample:
    """One Live Event in Caliper format as it might be sent, before ids and times are drawn."""

    event_name: str
    kind: Kind
    event: Mapping[str, Any]
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeExample:
    """One platform notification as it might be sent, before ids and times are drawn."""

    notice_type: str
    claims: Mapping[str, Any]
    sub: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All examples, in the order of their names."""

    events: tuple[EventExample, ...]
    caliper: tuple[CaliperExample, ...]
    notices: tuple[NoticeExample, ...]

    @property
    def event_names(self) -> tuple[str, ...]:
        """Every event name once, sorted."""
        return tuple(sorted({example.event_name for example in self.events}))

    @property
    def caliper_names(self) -> tuple[str, ...]:
        """The name of every event that there are Caliper examples of once, sorted."""
        return tuple(sorted({example.event_name for example in self.caliper}))

    @property
    def notice_types(self) -> tuple[str, ...]:
        """Every notice type once, sorted."""
        return tuple(sorted({example.notice_type for example in self.notices}))


@cache
def load_corpus(directory: Path = EXAMPLES_DIR) -> Corpus:
    """Read all examples under `directory`. CorpusError when one is not as described above."""
    events = [_event(*entry) for entry in _entries(directory / "live_events")]
    caliper = [_caliper(*entry) for entry in _entries(directory / "caliper")]
    notices = [_notice(*entry) for entry in _entries(directory / "notices")]
    return Corpus(
        events=tuple(sorted(events, key=lambda example: example.event_name)),
        caliper=tuple(sorted(caliper, key=lambda example: example.event_name)),
        notices=tuple(sorted(notices, key=lambda example: example.notice_type)),
    )


def _entries(directory: Path) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(directory.glob("*.json")):
        try:
            examples = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise CorpusError(f"{path.name}: {error}") from error
        found += [(f"{path.name}[{n}]", example) for n, example in enumerate(examples)]
    if not found:
        raise CorpusError(f"no examples in {directory}")
    return found


def _event(place: str, example: dict[str, Any]) -> EventExample:
    _check(place, example, _EVENT_MEMBERS, {"event_name": str, "kind": str, "body": dict})
    return EventExample(
        event_name=example["event_name"],
        kind=_kind(place, example),
        body=example["body"],
        metadata=example.get("metadata", {}),
        absent=frozenset(example.get("absent", ())),
    )


def _caliper(place: str, example: dict[str, Any]) -> CaliperExample:
    _check(place, example, _CALIPER_MEMBERS, {"event_name": str, "kind": str, "event": dict})
    return CaliperExample(
        event_name=example["event_name"],
        kind=_kind(place, example),
        event=example["event"],
        absent=frozenset(example.get("absent", ())),
    )


def _kind(place: str, example: dict[str, Any]) -> Kind:
    kind: Kind = example["kind"]
    if kind not in get_args(Kind):
        raise CorpusError(f"{place}: unknown kind {kind!r}")
    return kind


def _notice(place: str, example: dict[str, Any]) -> NoticeExample:
    _check(place, example, _NOTICE_MEMBERS, {"notice_type": str, "claims": dict})
    return NoticeExample(
        notice_type=example["notice_type"], claims=example["claims"], sub=example.get("sub")
    )


def _check(
    place: str, example: dict[str, Any], known: set[str], required: Mapping[str, type]
) -> None:
    for name, kind in required.items():
        if not isinstance(example.get(name), kind):
            raise CorpusError(f"{place}: {name} is missing or of the wrong type")
    if unknown := example.keys() - known:
        raise CorpusError(f"{place}: unknown members {sorted(unknown)}")
