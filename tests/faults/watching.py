"""Looks at both programs while a case runs: does the ledger balance, does memory stay bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.verdict import Violation

INTERVAL_S: Final = 0.5
SOURCES: Final = ("live-events", "pns")
RECEIVER_MAX_BYTES: Final = 300 * 1024**2
WORKER_MAX_BYTES: Final = 600 * 1024**2
PERSONAL: Final = re.compile(r"staff-501|T-501|203\.0\.113\.\d|eyJ[\w-]{8}")
"""What the emulator's events name people by, and how every token begins (base64 of `{"`)."""

_TIMEOUT = aiohttp.ClientTimeout(total=2)
_MAX_NOTES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The ledger of one receiver at one moment; `settled` by outcome and reason."""

    received: Mapping[str, int]
    recovered: Mapping[str, int]
    settled: Mapping[tuple[str, str, str], int]
    held: Mapping[tuple[str, str], int]

    def imbalance(self, source: str) -> int:
        """Events of a source that the ledger has no place for; 0 where it balances."""
        entered = self.received.get(source, 0) + self.recovered.get(source, 0)
        settled = sum(count for (of, _, _), count in self.settled.items() if of == source)
        held = sum(count for (of, _), count in self.held.items() if of == source)
        return entered - settled - held

    def lane(self, name: str) -> int:
        """Events of all sources that wait in a lane."""
        return sum(count for (_, lane), count in self.held.items() if lane == name)

    def outcome(self, outcome: str, reason: str | None = None) -> int:
        """Events of all sources that were settled so."""
        return sum(
            count
            for (_, said, why), count in self.settled.items()
            if said == outcome and reason in (None, why)
        )


class Scrape:
    """One text of metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def ledger(self) -> Ledger:
        """The receiver's ledger."""
        settled: dict[tuple[str, str, str], int] = {}
        held: dict[tuple[str, str], int] = {}
        for sample in self._samples:
            labels = sample.labels
            if sample.name == "forebay_events_settled_total":
                key = (labels["source"], labels["outcome"], labels["reason"])
                settled[key] = settled.get(key, 0) + int(sample.value)
            elif sample.name == "forebay_events_held":
                place = (labels["source"], labels["lane"])
                held[place] = held.get(place, 0) + int(sample.value)
        return Ledger(
            received=self._by_source("forebay_events_received_total"),
            recovered=self._by_source("forebay_events_recovered_total"),
            settled=settled,
            held=held,
        )

    def _by_source(self, name: str) -> dict[str, int]:
        return {source: int(self.value(name, source=source)) for source in SOURCES}


async def scrape(session: aiohttp.ClientSession, admin_url: str) -> Scrape:
    """The metrics now. Raises aiohttp.ClientError or TimeoutError while nobody answers."""
    async with session.get(f"{admin_url}/metrics", timeout=_TIMEOUT) as response:
        return Scrape(await response.text())


class Watcher:
    """Scrapes both programs twice a second, for as long as its task runs."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        receiver_url: str,
        worker_url: str,
    ) -> None:
        self._session = session
        self._urls = {"receiver": receiver_url, "worker": worker_url}
        self._violations: list[Violation] = []
        self.scrapes = 0
        self.max_bytes = {"receiver": 0, "worker": 0}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Once. A program that does not answer is being broken on purpose."""
        for program, url in self._urls.items():
            try:
                seen = await scrape(self._session, url)
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
            self.scrapes += 1
            self._judge(program, seen)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What did not hold."""
        limits = {"receiver": RECEIVER_MAX_BYTES, "worker": WORKER_MAX_BYTES}
        swollen = [
            Violation(invariant="I7", seen=f"the {program} took {self.max_bytes[program]} bytes")
            for program, limit in limits.items()
            if self.max_bytes[program] > limit
        ]
        return (*self._violations[:_MAX_NOTES], *swollen)

    def _judge(self, program: str, seen: Scrape) -> None:
        resident = int(seen.value("process_resident_memory_bytes"))
        self.max_bytes[program] = max(self.max_bytes[program], resident)
        if found := PERSONAL.search(seen.text):
            self._note("I8", f"{program}'s metrics hold {found[0]!r}")
        if program == "receiver":
            ledger = seen.ledger()
            for source in SOURCES:
                if ledger.imbalance(source):
                    self._note("I4", f"{ledger.imbalance(source)} of {source}: {ledger}")

    def _note(self, invariant: str, seen: str) -> None:
        self._violations.append(Violation(invariant=invariant, seen=seen))
