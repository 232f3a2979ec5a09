"""`python -m tests.support.forgetful serve`: a receiver that remembers few of the latest events.

A load of some thousand signed events, sent in turn, would else be answered from memory, as repeats.
"""

from __future__ import annotations

import sys
from typing import Final

from ingest.commands import main as program
from ingest.publishing.recent_ids import RecentIds

REMEMBERED: Final = 1_000
"""Fewer than any load has."""


def main() -> None:
    """Runs the program's own `main`, with its own arguments."""
    RecentIds.__init__.__defaults__ = (REMEMBERED,)
    sys.argv[0] = "forebay-ingest"
    program.main()


if __name__ == "__main__":
    main()
