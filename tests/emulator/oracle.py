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
from typing import Any, Self

import orjson

from tests.emulator.deliveries import Delivery, Lane, Verdict


class RecordError(Exception):
    """A record file holds a line that is not a delivery; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event, all attempts and repeats taken together.

    `accepted` is whether any of them was answered 2xx; `outcome` and `event_id` come from the first
    answer that was, `status` from the last answer of all (None when none came).
    """

    lane: Lane
    name: str
    attempts: int
    status: int | None
    accepted: bool
    outcome: str | None
    event_id: str | None


class Oracle:
    """What has been promised. Content keys are those of `tests.emulator.content`."""

    def __init__(self, path: Path | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        self._forged: set[str] = set()
        self._misjudged: list[Delivery] = []
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
        self._entries[content_key] = Entry(
            lane=delivery.lane,
            name=delivery.name,
            attempts=1 if known is None else known.attempts + 1,
            status=delivery.status,
            accepted=delivery.accepted or (known is not None and known.accepted),
            outcome=taken.outcome,
            event_id=taken.event_id,
        )

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
        """The accepted ones that the receiver said it put aside."""
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
        """Events that Canvas would have lost: never answered 2xx."""
        return frozenset(key for key, entry in self._entries.items() if not entry.accepted)

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
