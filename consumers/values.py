"""The values that go from stage to stage."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ingest.contract.envelope import Envelope
from ingest.contract.record import StoredRecord
from ingest.contract.tables import ColumnType

PoisonReason = Literal["damaged", "not_an_envelope", "projection_failed"]
"""Why a record has no rows; also a metric label and a header of the dead letter."""


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    @property
    def is_all(self) -> bool:
        """Whether it stands for a log that has one sequence of offsets for all topics."""
        return self == ALL_TOPICS


ALL_TOPICS = Partition("(all topics)", 0)


NextOffsets = Mapping[Partition, int]
"""Per partition the offset of the first record that has not been dealt with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What one poll brought: records, and where reading goes on once they are dealt with.

    `next_offsets` may cover more than `records` do, for a source may skip what is not for us.
    """

    records: Sequence[StoredRecord] = ()
    next_offsets: NextOffsets = field(default_factory=dict)


NOTHING_POLLED = Polled()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of one table. `columns` are all columns that the table must have for it, in order.

    `values` may leave columns out: they are NULL. `event_id` is always there. Where
    `repeats_keep_time`, every repeat of this event has the same `event_time`. `unknown` are JSON
    values of fields for which the table finds columns, see `unknown_fields`.
    """

    table: str
    columns: Mapping[str, ColumnType]
    values: Mapping[str, Any]
    repeats_keep_time: bool
    unknown: Mapping[str, Any] = field(default_factory=dict)


Projection = Callable[[Envelope], Iterable[Row]]
"""Envelope to rows, pure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that has no rows, and why."""

    record: StoredRecord
    reason: PoisonReason
