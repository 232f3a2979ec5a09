"""What the commands say: how far they are, on stderr, and what came of it, on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping

import click

from tests.emulator.budget import LIMITS, BudgetReport
from tests.emulator.oracle import Oracle
from tests.emulator.report import LaneReport, Report

_MAX_NAMES = 8


def progress(what: str) -> Callable[[int, int], None]:
    """Says how far it is, once a second on a terminal's one line, every ten seconds elsewhere."""
    say = _now_and_then()
    return lambda done, planned: say(lambda: f"{what}: {done} of {planned} sent")


def stream_progress(oracle: Oracle) -> Callable[[int, int], None]:
    """The same for a stream, which has no end to measure by."""
    say = _now_and_then()

    def sentence() -> str:
        counts = oracle.counts()
        return (
            f"{counts.sent} events, {counts.accepted} accepted,"
            f" {counts.undecided} to be tried again, {counts.lost} lost"
        )

    return lambda done, planned: say(sentence)


def _now_and_then() -> Callable[[Callable[[], str]], None]:
    on_terminal = sys.stderr.isatty()
    gap_s = 1.0 if on_terminal else 10.0
    last_s = time.monotonic()

    def say(sentence: Callable[[], str]) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= gap_s:
            last_s = time.monotonic()
            click.echo(f"\r{sentence()}", err=True, nl=not on_terminal)

    return say


def print_reports(reports: tuple[Report, ...], *, as_json: bool) -> None:
    """The reports on stdout, examples of what went wrong on stderr."""
    if as_json:
        click.echo(json.dumps([report.to_json() for report in reports]))
        return
    for report in reports:
        click.echo(
            f"{report.accepted} of {report.events} accepted, {report.repeats} repeats, "
            f"{report.forgeries} forgeries ({report.misjudged_forgeries} misjudged), "
            f"{report.duration_s} s, p99 {report.latency_ms.get('p99', 0)} ms, "
            f"longest {report.latency_ms.get('max', 0)} ms"
        )
        for lane, of_lane in report.lanes.items():
            click.echo(f"  {lane}: {_lane(of_lane)}")
        for example in report.examples:
            click.echo(f"  {example}", err=True)
    if reports:
        click.echo(_budget(reports[-1].budget))


def _lane(lane: LaneReport) -> str:
    sentence = f"{lane.events} sent, {lane.accepted} accepted, {lane.lost} lost for good"
    return f"{sentence} ({_names(lane.lost_by_name)})" if lane.lost else sentence


def _names(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count}" for name, count in most[:_MAX_NAMES]]
    more = len(most) - len(shown)
    return ", ".join([*shown, f"{more} more types"] if more else shown)


def _budget(budget: BudgetReport) -> str:
    spent = ", ".join(f"{budget.used[kind]} of {LIMITS[kind]} {kind}s" for kind in LIMITS)
    verdict = "would have been" if budget.deactivated else "stays"
    end = "deactivated" if budget.deactivated else "active"
    return f"Canvas's budget: {spent} in 24 h; the subscription {verdict} {end}"
