"""What cases expect of the spool beyond the invariants."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.faults.kept import Topics
from tests.faults.site import Site
from tests.faults.waiting import until

SMALL_SPOOL_BYTES: Final = 256 * 1024
SHRINK_TIMEOUT_S: Final = 15.0
LONGEST_ANSWER_S: Final = 10.0


def spool_file_bytes(site: Site) -> int:
    """What the spool's file and its write-ahead log take on the disk, without the reserve."""
    return sum(path.stat().st_size for path in _spool_files(site))


async def expect_small_spool(site: Site, *, peak_bytes: int) -> None:
    """It had grown to `peak_bytes`, is empty, and becomes small again."""
    site.expect(peak_bytes > SMALL_SPOOL_BYTES, f"the spool grew to {peak_bytes} bytes only")
    try:
        await until(lambda: spool_file_bytes(site) <= SMALL_SPOOL_BYTES, timeout_s=SHRINK_TIMEOUT_S)
    except TimeoutError:
        left = spool_file_bytes(site)
        site.expect(False, f"the spool's file still takes {left} of {peak_bytes} bytes")


def expect_spooled(site: Site) -> None:
    """The fault was felt: some answers said so."""
    site.expect(site.witness.said[202, "spooled"], f"nothing was spooled: {_said(site)}")


def expect_all_accepted(site: Site) -> None:
    """Whatever was sent got its 2xx, at the first try or a later one."""
    missing = len(site.witness.not_accepted)
    site.expect(not missing, f"{missing} events were not accepted: {_said(site)}")


def expect_within_budget(site: Site) -> None:
    """No answer took as long as Canvas may be kept waiting by us."""
    longest_s = site.witness.longest_request_s
    site.expect(longest_s < LONGEST_ANSWER_S, f"a request was open for {longest_s:.1f} s")


def repeated(topics: Topics) -> int:
    """How many records of trusted topics are repeats."""
    trusted = topics.trusted
    return len(trusted) - len({record.event_id for record in trusted})


def _said(site: Site) -> dict[tuple[int | None, str | None], int]:
    return dict(site.witness.said)


def _spool_files(site: Site) -> list[Path]:
    names = ("spool.sqlite3", "spool.sqlite3-wal")
    places = (site.directory / "data" / "spool" / name for name in names)
    return [place for place in places if place.exists()]
