"""What holds for all tests."""

import atexit
import os
import sys


def _end_with_the_summary() -> None:
    """Lets nothing be printed after pytest's own summary.

    DuckDB's binding lists on stderr, while the interpreter is taken down, whatever pytest's saved
    tracebacks and parameters still hold.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


atexit.register(_end_with_the_summary)
