"""The table of faults: what is broken, by which cases, or what of the project will bring them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.grounds import Grounds
from tests.faults.rows import outages, repeats, shapes, tokens, worker
from tests.faults.verdict import Tally

Run = Callable[[Grounds, int], Awaitable[Tally]]
"""Takes the grounds and a seed; raises where the case cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to break something. `quick` ones are part of `make test`."""

    name: str
    run: Run
    quick: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault. `pending` names what of the project will bring its cases, or more of them."""

    number: int
    fault: str
    cases: tuple[Case, ...] = ()
    pending: str = ""


def _quick(*runs: Run) -> tuple[Case, ...]:
    return tuple(Case(name=_name(run), run=run, quick=True) for run in runs)


def _long(*runs: Run) -> tuple[Case, ...]:
    return tuple(Case(name=_name(run), run=run, quick=False) for run in runs)


def _name(run: Run) -> str:
    return run.__name__  # type: ignore[attr-defined, no-any-return, unused-ignore]


ROWS: Final = (
    Row(
        number=9,
        fault="the receiver's pod is gone, or its node; its volume is left, or has two owners",
        pending="chart",
    ),
    Row(
        number=12,
        fault="ten thousand tokens with random key ids, and a new key in the middle of them",
        cases=_quick(tokens.random_kids),
    ),
    Row(
        number=13,
        fault="forged and misshapen tokens: algorithms, headers, key ids, signatures, nesting",
        cases=_quick(tokens.every_forgery, tokens.odd_headers),
    ),
    Row(
        number=14,
        fault="a true signature over another school's account, client or deployment",
        cases=_quick(tokens.other_schools),
    ),
    Row(
        number=15,
        fault="clocks ahead and behind, expiry at the edge of the leeway, the year 2038",
        cases=_quick(tokens.moved_clocks),
        pending="tenants: an alarm when clocks differ",
    ),
    Row(
        number=16,
        fault="one event a thousand times, by the same signature and by others",
        cases=_quick(repeats.one_event_a_thousand_times),
    ),
    Row(
        number=17,
        fault="HTTP that means harm: too large, too slow, too many headers, two lengths",
        pending="tenants",
    ),
    Row(
        number=18,
        fault="notices: none, one, a thousand, a bad one among good, two schools, one twice",
        cases=_quick(repeats.batches_of_notices),
    ),
    Row(
        number=19,
        fault="types, fields and values that nobody has announced, and claims that nobody can read",
        cases=_quick(shapes.shapes_without_notice),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta",
    ),
    Row(
        number=20,
        fault="one unreadable record in a batch of a thousand",
        cases=_quick(worker.poison_in_a_batch),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta",
    ),
    Row(
        number=21,
        fault="the worker killed at each of its steps, frozen, and joined by another",
        cases=(
            *_quick(worker.worker_killed_at_random),
            *_long(
                worker.worker_crash_points,
                worker.rebalance_in_mid_batch,
                worker.worker_frozen_past_its_session,
            ),
        ),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta",
    ),
    Row(
        number=22,
        fault="the store is down, slow, locked, full, altered, or fails over",
        pending="stores",
    ),
    Row(
        number=23,
        fault="the topics' retention is shorter than the worker's outage",
        pending="stores",
    ),
    Row(
        number=24,
        fault="a replay beside live traffic, killed half-way",
        pending="stores",
    ),
    Row(
        number=25,
        fault="the receiver is away, for less and for more than Canvas's own retries last",
        cases=(
            *_quick(outages.receiver_away_for_a_while),
            *_long(outages.receiver_away_for_too_long),
        ),
    ),
)
