"""Everything that may go wrong on a record's path, and what becomes of it.

`Poison` becomes a dead letter and the worker goes on. After `SinkBusy` the same batch is tried
again. All others end the worker; what it had not written comes again when it is started next.
"""

from consumers.values import Partition, PoisonReason


class Poison(Exception):
    """The record can have no rows, so it becomes a dead letter."""

    def __init__(self, reason: PoisonReason) -> None:
        super().__init__(reason)
        self.reason: PoisonReason = reason


class SinkBusy(Exception):
    """The store cannot be had for the moment; the same batch may be written again.

    The text says why, for whoever reads the log: never a password, never a value.
    """


class WorkerRunning(Exception):
    """The worker has the store, and would undo what is to be changed."""


class StartupError(Exception):
    """The worker cannot begin; the text tells the operator what to change, in one line."""


class TooManyPoisons(Exception):
    """So many records in a row have no rows that the fault is rather ours than theirs."""

    def __init__(self, count: int, example: str) -> None:
        super().__init__(
            f"{count} records in a row cannot be made rows of, the last of them {example}; those "
            "since the last batch are no dead letters yet and come again. Is a newer release "
            "writing, or does another program write to these topics?"
        )


class OffsetOutOfRange(Exception):
    """The log no longer holds, or never held, the record that the tables need next."""

    def __init__(self, partition: Partition, *, stored: int, first: int, next_: int) -> None:
        super().__init__(
            f"{partition.topic}/{partition.number}: the tables are complete up to offset {stored}, "
            f"but the log holds {first} up to {next_}. Records were removed before they were "
            "written, or this is another log. To go on with what is there, run "
            f"`{_reset_command(partition)}`"
        )


def _reset_command(partition: Partition) -> str:
    where = f" --topic {partition.topic} --partition {partition.number}"
    # the embedded log has one sequence of offsets for all its topics
    return f"forebay-consumers offsets reset --to earliest{'' if partition.is_all else where}"
