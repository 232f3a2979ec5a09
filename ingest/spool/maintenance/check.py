"""Whether a spool is sound, and what to do if it is not. Blocking."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ingest.contract.eventlog.logfile import LogFileError
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.ownership import Ownership
from ingest.spool.files.reader import SpoolReader
from ingest.spool.files.rebuild import rebuild
from ingest.spool.files.reserve import RESERVE_NAME, Reserve
from ingest.spool.files.rows import HeldToken
from ingest.spool.files.store import FILE_NAME


class Verdict(Struct, frozen=True, kw_only=True):
    """What was found: `sound` events, ids of `damaged` records and tokens whose checksum is wrong,
    `unreadable` rows, damaged ones `moved` out of the way earlier, and `flaws` that SQLite itself
    finds in the file."""

    sound: int = 0
    damaged_records: Sequence[int] = ()
    damaged_tokens: Sequence[int] = ()
    unreadable: int = 0
    moved: int = 0
    flaws: Sequence[str] = ()

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to repair."""
        damaged = self.damaged_records or self.damaged_tokens
        return not (damaged or self.unreadable or self.moved or self.flaws)


class Repair(Struct, frozen=True, kw_only=True):
    """What came of a repair: events `kept`, and `lost` ones as far as anyone can tell."""

    kept: int
    lost: int


def examine(path: Path) -> Verdict:
    """Reads a whole spool file, row by row."""
    sound, records, tokens = 0, list[int](), list[int]()
    try:
        with closing(SpoolReader.open(path)) as reader:
            for held in reader.items():
                if not held.damaged:
                    sound += 1
                elif isinstance(held, HeldToken):
                    tokens.append(held.id)
                else:
                    records.append(held.stored.offset)
            return Verdict(
                sound=sound,
                damaged_records=records,
                damaged_tokens=tokens,
                unreadable=reader.unreadable,
                moved=reader.moved(),
                flaws=reader.integrity(),
            )
    except LogFileError as error:
        return Verdict(flaws=[str(error)])


def repair(directory_path: Path) -> tuple[Verdict, Repair | None]:
    """Examines a spool that nobody owns; unless it is clean, what can be read goes into a new file.

    The old file is renamed. Raises LogFileError if another process owns it, OSError where the disk
    refuses.
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
        lost = rebuild(path)
        opening = directory.open_file()
        directory.file.close()
        found = opening.contents
        kept = sum(each.records for each in found.records) + sum(
            each.tokens for each in found.tokens
        )
        return verdict, Repair(kept=kept, lost=lost + opening.unreadable)
    finally:
        ownership.close()
