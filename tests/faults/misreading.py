"""Runs the worker as one that makes no rows of every second record, as a bug of ours would.

python -m tests.faults.misreading run
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from consumers import decoder, worker
from consumers.errors import Poison
from consumers.values import Projection, Row
from ingest.contract.record import StoredRecord
from tests.faults import crashing


def read_every_second(record: StoredRecord, project: Projection) -> Sequence[Row]:
    """In the place of the worker's own."""
    if record.offset % 2:
        raise Poison("projection_failed")
    return decoder.read_rows(record, project)


def main(arguments: list[str]) -> None:
    """Puts it in, and runs the program."""
    (command,) = arguments
    setattr(worker, "read_rows", read_every_second)  # noqa: B010 - mypy knows no such change
    crashing.run(command)


if __name__ == "__main__":
    main(sys.argv[1:])
