"""`python -m tests.siege.scarce N serve`: a program with so few file descriptors, soft and hard."""

from __future__ import annotations

import resource
import sys

from tests.faults.crashing import run


def main(arguments: list[str]) -> None:
    """Bounds this process, and runs the program's own `main`."""
    most, command, *rest = arguments
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(most), int(most)))
    run(command, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
