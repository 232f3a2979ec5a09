"""Bounded rows, and the offsets that they cover."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.values import DeadLetter, NextOffsets, Partition, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is written at one go. `tables` maps a table to its rows, each event once.

    `epoch` is the source's at the time when the first record was polled.
    """

    source_id: str
    epoch: int
    tables: Mapping[str, Sequence[Row]]
    dead_letters: Sequence[DeadLetter]
    next_offsets: NextOffsets


@dataclass(slots=True, kw_only=True)
class BatchBuilder:
    """Collects rows until it is full; `max_bytes` counts the records' values, not the rows."""

    epoch: int
    max_rows: int
    max_bytes: int
    row_count: int = 0
    record_count: int = 0
    value_bytes: int = 0
    oldest_ms: int | None = None
    _tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    _dead_letters: list[DeadLetter] = field(default_factory=list)
    _next_offsets: dict[Partition, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether writing it would change nothing."""
        return not self._next_offsets

    @property
    def is_full(self) -> bool:
        """Whether it has reached one of its bounds."""
        return self.row_count >= self.max_rows or self.value_bytes >= self.max_bytes

    def add(self, rows: Iterable[Row]) -> None:
        """Takes the rows of one event; of repeats the first stays."""
        for row in rows:
            kept = self._tables.setdefault(row.table, {})
            if row.values["event_id"] not in kept:
                kept[row.values["event_id"]] = row
                self.row_count += 1

    def add_dead_letter(self, letter: DeadLetter) -> None:
        """Takes a record that has no rows."""
        self._dead_letters.append(letter)

    def weigh(self, *, value_bytes: int, timestamp_ms: int) -> None:
        """Counts one record towards the bounds and notes its age."""
        self.record_count += 1
        self.value_bytes += value_bytes
        if self.oldest_ms is None or timestamp_ms < self.oldest_ms:
            self.oldest_ms = timestamp_ms

    def cover(self, next_offsets: NextOffsets) -> None:
        """Notes that everything before these offsets is in this batch or an earlier one."""
        self._next_offsets.update(next_offsets)

    def freeze(self, source_id: str) -> Batch:
        """The finished batch."""
        return Batch(
            source_id=source_id,
            epoch=self.epoch,
            tables={name: tuple(rows.values()) for name, rows in self._tables.items()},
            dead_letters=tuple(self._dead_letters),
            next_offsets=dict(self._next_offsets),
        )
