"""Everything that may go wrong on a record's path, and what becomes of it.

`Poison` is put aside and the worker goes on. `SinkBusy` is waited out with the same batch. All
others end the worker; what it had not written comes again when it is started next.
"""

from consumers.values import Partition, PoisonReason


class Poison(Exception):
    """The record can never be read, so it becomes a dead letter."""

    def __init__(self, reason: PoisonReason) -> None:
        super().__init__(reason)
        self.reason: PoisonReason = reason


class SinkBusy(Exception):
    """Somebody else has the store for the moment; nothing was written."""


class StartupError(Exception):
    """The worker cannot begin; the text tells the operator what to change, in one line."""


class TooManyPoisons(Exception):
    """So many records in a row are unreadable that the fault is rather ours than theirs."""

    def __init__(self, count: int, example: str) -> None:
        super().__init__(
            f"{count} records in a row cannot be read, the last of them {example}; nothing of "
            "them was put aside. Is a newer release writing, or does another program write to "
            "these topics?"
        )


class OffsetOutOfRange(Exception):
    """The log no longer holds, or never held, the record that the tables need next."""

    def __init__(self, partition: Partition, *, stored: int, first: int, next_: int) -> None:
        super().__init__(
            f"{partition.topic}/{partition.number}: the tables are complete up to offset {stored}, "
            f"but the log holds {first} up to {next_}. Records were removed before they were "
            "written, or this is another log. To go on with what is there, delete this "
            "partition's row from forebay_offsets"
        )
