"""Dead letters: records that no rows can be made of, and what operators decided about them.

They are kept beside the log that they came from, before the offsets go past them, so after a crash
one may be kept twice. A decision is a further record of the same key.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import msgspec
import orjson

from consumers.values import DeadLetter, PoisonReason
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import dead_letter_topic

Decision = Literal["replayed", "dropped"]
State = Literal["open", "replayed", "dropped"]

_DECISION = "forebay_decision"
_REASON = "forebay_reason"
_TOPIC, _PARTITION, _OFFSET = (
    "forebay_source_topic",
    "forebay_source_partition",
    "forebay_source_offset",
)
_WORKER = "forebay_worker"
_OURS = frozenset({_DECISION, _REASON, _TOPIC, _PARTITION, _OFFSET, _WORKER})


class DeadLetters(Protocol):
    """Keeps dead letters without end. Called from one task only."""

    async def open(self) -> None:
        """Makes the place, waiting for a cluster that does not answer.

        Raises StartupError or KafkaRefused.
        """
        ...

    async def append(self, records: Sequence[Record]) -> None:
        """Returns once all are durable, in order; an error may leave some of them kept."""
        ...

    def records(self) -> AsyncGenerator[StoredRecord, None]:
        """All that is kept now, oldest first; nothing where there is no place yet."""
        ...

    async def close(self) -> None:
        """Must be called once, even if `open` failed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter as it is kept. `place` names it: where its record was in the log."""

    record: StoredRecord
    reason: PoisonReason
    kept_at_ms: int
    state: State = "open"
    decided_at: str | None = None

    @property
    def place(self) -> str:
        """`topic/partition@offset`."""
        return f"{self.record.topic}/{self.record.partition}@{self.record.offset}"


def dead_letter_record(letter: DeadLetter, *, prefix: str, worker: str) -> Record:
    """The record as it was, with headers that say why it is a dead letter, and where it was."""
    record = letter.record
    return Record(
        topic=dead_letter_topic(prefix, worker),
        key=record.key,
        value=record.value,
        headers=(*record.headers, (_REASON, letter.reason.encode()), *_origin(record, worker)),
    )


def decision_record(
    letter: Letter, decision: Decision, *, at: str, prefix: str, worker: str
) -> Record:
    """What was decided about a letter; `at` is RFC 3339."""
    return Record(
        topic=dead_letter_topic(prefix, worker),
        key=letter.record.key,
        value=orjson.dumps({"decision": decision, "at": at}),
        headers=((_DECISION, decision.encode()), *_origin(letter.record, worker)),
    )


async def letters(kept: DeadLetters) -> tuple[Sequence[Letter], int]:
    """Every letter once, with what was decided last, and how many records are no letters.

    A letter that is kept again after a decision is open again.
    """
    found: dict[tuple[str, int, int], Letter] = {}
    unreadable = 0
    async with aclosing(kept.records()) as records:
        async for record in records:
            headers = {name: value.decode(errors="replace") for name, value in record.headers}
            try:
                place = (headers[_TOPIC], int(headers[_PARTITION]), int(headers[_OFFSET]))
                if _DECISION in headers:
                    _decide(found, place, record, headers[_DECISION])
                else:
                    found[place] = _letter(record, headers, place)
            except (KeyError, ValueError, orjson.JSONDecodeError):
                unreadable += 1
    return list(found.values()), unreadable


def _letter(
    record: StoredRecord, headers: Mapping[str, str], place: tuple[str, int, int]
) -> Letter:
    reason = headers[_REASON]
    if reason not in get_args(PoisonReason):
        raise ValueError(reason)
    topic, partition, offset = place
    original = msgspec.structs.replace(
        record,
        topic=topic,
        partition=partition,
        offset=offset,
        headers=tuple((name, value) for name, value in record.headers if name not in _OURS),
        damaged=record.damaged or reason == "damaged",
    )
    return Letter(record=original, reason=reason, kept_at_ms=record.timestamp_ms)  # type: ignore[arg-type]


def _decide(
    found: dict[tuple[str, int, int], Letter],
    place: tuple[str, int, int],
    record: StoredRecord,
    decision: str,
) -> None:
    if decision not in get_args(Decision):
        raise ValueError(decision)
    letter = found[place]
    found[place] = Letter(
        record=letter.record,
        reason=letter.reason,
        kept_at_ms=letter.kept_at_ms,
        state=decision,  # type: ignore[arg-type]
        decided_at=str(orjson.loads(record.value)["at"]),
    )


def _origin(record: StoredRecord, worker: str) -> tuple[tuple[str, bytes], ...]:
    # of a damaged record the topic may be no text at all
    return (
        (_TOPIC, record.topic.encode(errors="backslashreplace")),
        (_PARTITION, str(record.partition).encode()),
        (_OFFSET, str(record.offset).encode()),
        (_WORKER, worker.encode()),
    )
