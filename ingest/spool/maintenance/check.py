"""Whether a spool is sound, and what to do if it is not. Blocking."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from ingest.contract.eventlog.logfile import LogFileError
from ingest.spool.directory import REBUILT_NAME, SpoolDirectory, rebuild
from ingest.spool.maintenance.reader import SetApart, SpoolReader
from ingest.spool.reserve import Reserve
from ingest.spool.store import FILE_NAME, RESERVE_NAME, Ownership


class Verdict(Struct, frozen=True, kw_only=True):
    """What was found: `sound` records, `damaged` ids whose checksum is wrong, `unreadable` rows,
    rows `set_apart` earlier, and `flaws` that SQLite itself finds in the file."""

    sound: int = 0
    damaged: Sequence[int] = ()
    unreadable: int = 0
    set_apart: Sequence[SetApart] = ()
    flaws: Sequence[str] = ()

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to repair."""
        return not (self.damaged or self.unreadable or self.set_apart or self.flaws)


class Repair(Struct, frozen=True, kw_only=True):
    """What came of a repair: records `kept`, and `lost` ones as far as anyone can tell."""

    kept: int
    lost: int


def examine(path: Path) -> Verdict:
    """Reads a whole spool file, record by record."""
    try:
        reader = SpoolReader.open(path)
    except LogFileError as error:
        return Verdict(flaws=[str(error)])
    try:
        sound, damaged = 0, []
        for held in reader.records():
            if held.stored.damaged:
                damaged.append(held.stored.offset)
            else:
                sound += 1
        return Verdict(
            sound=sound,
            damaged=damaged,
            unreadable=reader.unreadable,
            set_apart=reader.set_apart(),
            flaws=reader.integrity(),
        )
    finally:
        reader.close()


def repair(directory_path: Path) -> tuple[Verdict, Repair | None]:
    """Examines a spool that nobody owns; unless it is clean, what can be read goes into a new file.

    The old file is set aside. Raises LogFileError if another process owns it, OSError where the
    disk refuses.
    """
    ownership = Ownership(directory_path)
    try:
        path = directory_path / FILE_NAME
        directory = SpoolDirectory(
            directory_path, ownership, Reserve(directory_path / RESERVE_NAME, 0)
        )
        if not path.exists():
            directory.open_file()  # the last step of a repair that was cut short
            directory.file.close()
        verdict = examine(path)
        if verdict.is_clean:
            return verdict, None
        lost = rebuild(path, directory_path / REBUILT_NAME)
        opening = directory.open_file()
        directory.file.close()
        kept = sum(holding.records for holding in opening.holdings)
        return verdict, Repair(kept=kept, lost=lost + opening.unreadable)
    finally:
        ownership.close()
