"""The judge: remembers what was sent, what was answered, and so what must not be lost.

With a path it also appends each answer to a JSON-lines file the moment it arrives, so that an
emulator that is killed has lost nothing that it saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import orjson

from tests.emulator.deliveries import Delivery, Lane, Role, Verdict, still_tried

Standing = Literal["accepted", "undecided", "lost"]


class RecordError(Exception):
    """A record file holds a line that is not a delivery; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event, all attempts and repeats taken together.

    `accepted` is whether any of them was answered 2xx; `outcome` and `event_id` come from the first
    answer that was, `status` from the last answer of all (None when none came). `tried_as` are the
    roles in which the sender means to send it again.
    """

    lane: Lane
    name: str
    attempts: int
    status: int | None
    accepted: bool
    outcome: str | None
    event_id: str | None
    tried_as: frozenset[Role] = frozenset()

    @property
    def standing(self) -> Standing:
        """What became of it: `lost` once all tries are over, until a late repeat is accepted."""
        if self.accepted:
            return "accepted"
        return "undecided" if self.tried_as else "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Distinct events so far; each sent one is accepted, undecided (tries follow) or lost."""

    sent: int
    accepted: int
    undecided: int
    lost: int


class Oracle:
    """What has been promised. Content keys are those of `tests.emulator.content`."""

    def __init__(self, path: Path | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        self._forged: set[str] = set()
        self._misjudged: list[Delivery] = []
        self._standings: dict[Lane, Counter[Standing]] = {
            "live-events": Counter(),
            "pns": Counter(),
        }
        self._answers: Counter[str] = Counter()
        self._longest_s: dict[str, float] = {}
        # unbuffered, for the operating system keeps what has been written when we are killed
        self._file = None if path is None else path.open("ab", buffering=0)

    @classmethod
    def load(cls, path: Path) -> Self:
        """An oracle that knows all of a record file. A torn last line is left out.

        OSError when the file cannot be read, RecordError when another line is unreadable.
        """
        oracle = cls()
        for delivery in read_deliveries(path):
            oracle.record(delivery)
        return oracle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the record file, if there is one."""
        if self._file is not None:
            self._file.close()

    def record(self, delivery: Delivery) -> None:
        """Take down one delivery."""
        if self._file is not None:
            self._file.write(orjson.dumps(asdict(delivery)) + b"\n")
        said = answer_of(delivery)
        self._answers[said] += 1
        self._longest_s[said] = max(delivery.elapsed_s, self._longest_s.get(said, 0.0))
        if delivery.expected and not delivery.right:
            self._misjudged.append(delivery)
        if delivery.content_key is None:
            return
        if delivery.expected and delivery.expected[0].status >= 300:
            self._forged.add(delivery.content_key)
        else:
            self._add(delivery.content_key, delivery)

    def _add(self, content_key: str, delivery: Delivery) -> None:
        known = self._entries.get(content_key)
        taken = delivery if known is None or not known.accepted else known
        entry = Entry(
            lane=delivery.lane,
            name=delivery.name,
            attempts=1 if known is None else known.attempts + 1,
            status=delivery.status,
            accepted=delivery.accepted or (known is not None and known.accepted),
            outcome=taken.outcome,
            event_id=taken.event_id,
            tried_as=still_tried(known.tried_as if known else frozenset(), delivery),
        )
        self._entries[content_key] = entry
        standings = self._standings[delivery.lane]
        standings[entry.standing] += 1
        if known is not None:
            standings[known.standing] -= 1

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Every event sent, by content key; forgeries that must be refused are not among them."""
        return self._entries

    @property
    def accepted(self) -> frozenset[str]:
        """Content keys of the distinct events that were answered 2xx: these must never be lost."""
        return frozenset(key for key, entry in self._entries.items() if entry.accepted)

    @property
    def quarantined(self) -> frozenset[str]:
        """The accepted ones that the receiver said it quarantined."""
        return frozenset(
            key
            for key, entry in self._entries.items()
            if entry.accepted and entry.outcome == "quarantined"
        )

    @property
    def deferred(self) -> frozenset[str]:
        """The accepted ones that the receiver said it would judge later."""
        return frozenset(
            key
            for key, entry in self._entries.items()
            if entry.accepted and entry.outcome == "deferred"
        )

    @property
    def not_accepted(self) -> frozenset[str]:
        """Events never answered 2xx: the lost ones and the undecided."""
        return frozenset(key for key, entry in self._entries.items() if not entry.accepted)

    @property
    def lost(self) -> frozenset[str]:
        """Events that Canvas has given up: never answered 2xx, and no try is left."""
        return self._standing("lost")

    @property
    def undecided(self) -> frozenset[str]:
        """Events not answered 2xx yet that Canvas means to try again."""
        return self._standing("undecided")

    def _standing(self, standing: Standing) -> frozenset[str]:
        return frozenset(key for key, entry in self._entries.items() if entry.standing == standing)

    def counts(self, lane: Lane | None = None) -> Counts:
        """How many events, of one lane or both; cheap enough to ask while sending."""
        chosen = self._standings.values() if lane is None else [self._standings[lane]]
        standings = sum(chosen, Counter[Standing]())
        return Counts(
            sent=standings.total(),
            accepted=standings["accepted"],
            undecided=standings["undecided"],
            lost=standings["lost"],
        )

    @property
    def longest_request_s(self) -> float:
        """How long the slowest request was open, as seen by the sender; 0 before the first."""
        return max(self._longest_s.values(), default=0.0)

    def longest_requests_s(self) -> Mapping[str, float]:
        """The same by answer: an outcome, else a reason, else `status 500` or `no answer`."""
        return dict(sorted(self._longest_s.items()))

    def answers(self) -> Mapping[str, int]:
        """How many answers of each kind, attempts, repeats and forgeries included."""
        return dict(sorted(self._answers.items()))

    @property
    def forged(self) -> frozenset[str]:
        """Content keys of forgeries: these must never be in a trusted place."""
        return frozenset(self._forged)

    @property
    def misjudged(self) -> tuple[Delivery, ...]:
        """Forgeries that were not answered as a correct receiver answers them."""
        return tuple(self._misjudged)

    @property
    def strange_event_ids(self) -> Mapping[str, str]:
        """Accepted events whose answer gave an id other than the content key, and that id."""
        return {
            key: entry.event_id
            for key, entry in self._entries.items()
            if entry.event_id is not None and entry.event_id != key
        }

    def accepted_by_name(self) -> Counter[str]:
        """How many distinct events were accepted, by event name."""
        return Counter(entry.name for entry in self._entries.values() if entry.accepted)

    def lost_by_name(self, lane: Lane | None = None) -> Counter[str]:
        """How many distinct events were lost, by event name."""
        return Counter(
            entry.name
            for entry in self._entries.values()
            if entry.standing == "lost" and lane in (None, entry.lane)
        )

    def accepted_by_outcome(self) -> Counter[str]:
        """How many distinct events were accepted, by the outcome they were first accepted with."""
        return Counter(
            entry.outcome or "unsaid" for entry in self._entries.values() if entry.accepted
        )


def answer_of(delivery: Delivery) -> str:
    """What was answered, in short: an outcome, else a reason, else `status 500` or `no answer`."""
    if delivery.status is None:
        return "no answer"
    return delivery.outcome or delivery.reason or f"status {delivery.status}"


def read_deliveries(path: Path) -> Iterator[Delivery]:
    """The deliveries of a record file, in order. A torn last line is left out."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            # a killed emulator leaves at most its last line unfinished
            if not line.endswith(b"\n"):
                return
            try:
                yield _delivery(orjson.loads(line))
            except (orjson.JSONDecodeError, TypeError, KeyError) as error:
                raise RecordError(f"{path}:{number}: {error}") from error


def _delivery(members: dict[str, Any]) -> Delivery:
    expected = tuple(Verdict(**verdict) for verdict in members.pop("expected"))
    return Delivery(expected=expected, **members)
