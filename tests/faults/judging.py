"""Waits until nothing is under way any more, then holds what is kept against what was promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import aiohttp

from tests.faults.kept import Tables, Topics
from tests.faults.site import Site
from tests.faults.verdict import Tally, Violation
from tests.faults.waiting import until
from tests.faults.watching import PERSONAL
from tests.faults.witness import Witness

SETTLE_TIMEOUT_S: Final = 90.0
LONGEST_REQUEST_S: Final = 12.0


async def settle_and_judge(site: Site) -> Tally:
    """Both, for cases that expect nothing of their own."""
    await settle(site)
    return await judge(site)


async def settle(site: Site, *, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
    """Waits until spool and deferred lane are empty and the tables complete."""
    site.seen.extend(await _unsettled(site, timeout_s))


async def judge(site: Site, *, told: int = 0) -> Tally:
    """The count of the whole case, once it has settled.

    Of the accepted events `told` are gone, and the receiver itself has counted them.
    """
    await site.watcher.look()
    await site.readiness.look()
    tally = count(site.witness, await site.topics(), await site.tables(), told=told)
    seen = (*site.seen, *site.watcher.violations, *site.readiness.violations, *_leaks(site))
    return replace(tally, violations=(*seen, *tally.violations), measured=tuple(site.measured))


def count(witness: Witness, topics: Topics, tables: Tables, *, told: int = 0) -> Tally:
    """Holds what is kept, when nothing is under way any more, against what was promised.

    `lost` are those beyond the `told` ones that the receiver has counted itself.
    """
    lost = witness.promised - tables.events.keys() - topics.quarantined
    return Tally(
        events=witness.worthy,
        acked=len(witness.promised),
        lost=max(0, len(lost) - told),
        untrusted=len(_trusted_ids(topics, tables) - witness.may_be_trusted),
        duplicate_rows=tables.duplicate_rows,
        longest_request_s=witness.longest_request_s,
        violations=(
            *_vanished(witness, topics, told),
            *_broken_promises(witness),
            *_untyped(witness, tables),
        ),
    )


async def _unsettled(site: Site, timeout_s: float) -> list[Violation]:
    """What did not come to rest; empty if all did."""

    async def nothing_is_held() -> bool:
        try:
            ledger = await site.ledger()
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            return False
        return not any(ledger.held.values())

    try:
        await until(nothing_is_held, timeout_s=timeout_s)
    except TimeoutError:
        return [Violation(invariant="I1", seen=f"still held: {await _held(site)}")]
    ends = (await site.topics()).ends

    async def tables_are_complete() -> bool:
        stored = await site.stored_offsets()
        return all(stored.get(place, 0) >= end for place, end in ends.items())

    try:
        await until(tables_are_complete, timeout_s=timeout_s)
    except TimeoutError:
        return [Violation(invariant="I3", seen=f"the worker did not catch up in {timeout_s:g} s")]
    return []


async def _held(site: Site) -> str:
    try:
        return str((await site.ledger()).held)
    except (aiohttp.ClientError, OSError) as error:
        return f"the receiver does not answer: {error!r}"


def _trusted_ids(topics: Topics, tables: Tables) -> set[str]:
    """Whatever is called an event in a trusted place; a record without an id by its key."""
    ids = {record.event_id or record.key for record in topics.trusted}
    return ids.union(*tables.event_ids.values())


def _vanished(witness: Witness, topics: Topics, told: int) -> Iterator[Violation]:
    """With spool and deferred lane empty, all that was promised must be in the log."""
    there = {record.event_id for record in topics.trusted} | topics.quarantined
    missing = witness.promised - there
    if len(missing) > told:
        yield Violation(invariant="I1", seen=f"{len(missing)} accepted events are in no topic")


def _broken_promises(witness: Witness) -> Iterator[Violation]:
    for delivery in witness.misjudged[:5]:
        said = f"{delivery.status} {delivery.reason or delivery.outcome or delivery.error}"
        wanted = " or ".join(f"{one.status} {one.says}" for one in delivery.expected)
        yield Violation(invariant="I2", seen=f"{delivery.name}: answered {said}, wanted {wanted}")
    if witness.strange_event_ids:
        yield Violation(invariant="I3", seen="answers name ids other than the content's")
    if witness.longest_request_s > LONGEST_REQUEST_S:
        yield Violation(
            invariant="I5", seen=f"a request was open for {witness.longest_request_s:.1f} s"
        )


def _untyped(witness: Witness, tables: Tables) -> Iterator[Violation]:
    """Events that the table of all types has and their own type's table has not."""
    for key, entry in witness.entries.items():
        event_id = entry.event_id or key
        own = tables.event_ids.get("".join(c if c.isalnum() else "_" for c in entry.name.lower()))
        if event_id in tables.events and own is not None and event_id not in own:
            yield Violation(invariant="I3", seen=f"an event is missing in the table {entry.name}")
            return


def _leaks(site: Site) -> Iterator[Violation]:
    for part in (site.receiver, site.worker):
        text = part.log_file.read_text(errors="replace") if part.log_file.exists() else ""
        if found := PERSONAL.search(text):
            yield Violation(invariant="I8", seen=f"{part.log_file.name} holds {found[0]!r}")
