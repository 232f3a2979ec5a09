"""What single steps cost, in microseconds of processor time, without any input or output."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import median
from typing import TypeVar

from consumers.projections import all_tables
from ingest.app import quieten_garbage_collector
from ingest.contract.catalogue import catalogue
from ingest.contract.codec import decode, encode
from ingest.contract.record import Record
from ingest.normalising import normalise
from ingest.observing.drift import Drift
from ingest.values import Claims
from tests.contract.golden import verified
from tests.emulator.school import LiveEvent, School, timed

EVENT = "submission_created"
_BATCH = 400
_WARM_UP = 200
_MANY = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: `aim_us` is what it may cost; `worker` says whose path it is on."""

    name: str
    aim_us: float | None
    worker: bool
    run: Callable[[], object]


def steps() -> list[Step]:
    """All steps, each with some dozens of events that take turns."""
    school = School.from_seed(3)
    plain = [_claims(school.live_event(n, name=EVENT)) for n in range(_MANY)]
    caliper = [_claims(school.caliper_event(n, name=EVENT)) for n in range(_MANY)]
    envelopes = [normalise(claims) for claims in plain]
    records = [encode(envelope, prefix="canvas") for envelope in envelopes]
    see, project = Drift().see, all_tables(catalogue())
    return [
        _step("normalise and encode, Canvas format", 25, _written, plain),
        _step("normalise and encode, Caliper", 60, _written, caliper),
        _step("note drift", None, see, envelopes),
        _step("decode", 15, decode, records, worker=True),
        _step("rows", None, lambda one: list(project(one)), envelopes, worker=True),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Microseconds of one step: in the round that others disturbed least, and in the median."""

    best_us: float
    median_us: float


def measure(rounds: int) -> Mapping[str, Cost]:
    """The cost of each step, over rounds in which all steps take turns."""
    measured = steps()
    quieten_garbage_collector()
    for step in measured:
        for _ in range(_WARM_UP):
            step.run()
    taken: dict[str, list[float]] = {step.name: [] for step in measured}
    for _ in range(rounds):
        for step in measured:
            taken[step.name].append(_us(step.run))
    return {name: Cost(best_us=min(t), median_us=median(t)) for name, t in taken.items()}


def table(costs: Mapping[str, Cost], receiver_us: float) -> list[str]:
    """Lines to print: each step's cost, what it may cost, its share of a receiver's whole path."""
    lines = ["| step | us of CPU, best | median | aim | of the receiver's path |"]
    lines.append("|---|---:|---:|---:|---:|")
    for step in steps():
        cost = costs[step.name]
        aim = "" if step.aim_us is None else f"{step.aim_us:.0f}"
        share = "in the worker" if step.worker else f"{cost.median_us / receiver_us:.1%}"
        figures = f"{cost.best_us:.1f} | {cost.median_us:.1f}"
        lines.append(f"| {step.name} | {figures} | {aim} | {share} |")
    return lines


def _us(run: Callable[[], object]) -> float:
    began = time.process_time_ns()
    for _ in range(_BATCH):
        run()
    return (time.process_time_ns() - began) / _BATCH / 1000


def _step(
    name: str,
    aim_us: float | None,
    call: Callable[[T], object],
    values: Sequence[T],
    *,
    worker: bool = False,
) -> Step:
    turns = cycle(values)
    return Step(name=name, aim_us=aim_us, worker=worker, run=lambda: call(next(turns)))


def _written(claims: Claims) -> Record:
    return encode(normalise(claims), prefix="canvas")


def _claims(event: LiveEvent) -> Claims:
    return verified(timed(event.claims, 1_790_000_000))
