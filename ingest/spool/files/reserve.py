"""A reserve of real disk blocks, to be given up when the disk is full."""

import os
import shutil
from pathlib import Path

RESERVE_NAME = "reserve"


class Reserve:
    """A file of `size_bytes` that holds blocks for others. Blocking."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self.size_bytes = size_bytes
        self.held = False

    def take(self) -> bool:
        """Takes the blocks unless the disk has too few, and says whether they are held.

        Twice as many must be free: who fills the disk with it gains nothing.
        """
        if not self._is_whole():
            if shutil.disk_usage(self._path.parent).free < 2 * self.size_bytes:
                self.held = False
                return False
            self._fill()
        self.held = True
        return True

    def give_up(self) -> None:
        """Frees the blocks."""
        self._path.unlink(missing_ok=True)
        self.held = False

    def _is_whole(self) -> bool:
        return self._path.exists() and self._path.stat().st_size == self.size_bytes

    def _fill(self) -> None:
        with self._path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, self.size_bytes))
            else:  # macOS: written zeros are blocks too
                for _ in range(0, self.size_bytes, 1 << 20):
                    file.write(bytes(1 << 20))
            file.truncate(self.size_bytes)
            os.fsync(file.fileno())
