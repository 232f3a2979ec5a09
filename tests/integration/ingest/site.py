"""A running receiver with the Canvas that sends to it, and a look into its log and its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLogReader
from ingest.contract.record import StoredRecord
from tests.emulator.canvas import Canvas
from tests.emulator.school import School, timed
from tests.emulator.templates import NOTICE_CLAIM
from tests.integration.ingest.wire import Answer
from tests.support.processes import Program, free_port, receiver

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One receiver on `port`, whose files are under `directory`; `session` is a client for it.

    `refused` and `accepted` are for tests to note what they sent: texts that may be in no topic,
    and ids of events that must be.
    """

    canvas: Canvas
    program: Program
    directory: Path
    port: int
    session: aiohttp.ClientSession
    refused: set[bytes] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The public address."""
        return f"http://127.0.0.1:{self.port}"

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One POST, without a Content-Type unless one is given."""
        async with self.session.post(
            self.url + path,
            data=io.BytesIO(body),
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as response:
            return await _read(response)

    async def admin(self, path: str) -> Answer:
        """One GET of the admin listener."""
        async with self.session.get(self.program.admin_url + path) as response:
            return await _read(response)

    async def metrics(self) -> Scrape:
        """One scrape."""
        return Scrape((await self.admin("/metrics")).body.decode())

    def live_event(self, number: int, *, name: str | None = None, **claims: Any) -> bytes:
        """A good token of a stream that the emulator sends nothing of; `claims` are put over."""
        event = self.canvas.school.live_event(number, name=name, stream="by hand")
        return self.signed({**event.claims, **claims})

    def signed(self, claims: Mapping[str, Any]) -> bytes:
        """Claims signed now with the genuine Live Events key."""
        key = self.canvas.keys.live_events.current
        return key.sign(timed(claims, int(time.time()))).encode()

    def signed_text(self, payload: bytes) -> bytes:
        """Any bytes at all, signed with the genuine Live Events key."""
        key = self.canvas.keys.live_events.current
        header = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        return key.sign_text(orjson.dumps(header), payload).encode()

    def notice(self, number: int, **claims: Any) -> bytes:
        """A good notice token; `claims` are put over, and None removes one."""
        notice = self.canvas.school.notice(number, "LtiContextCopyNotice", stream="by hand")
        whole = {n: v for n, v in {**notice.claims, **claims}.items() if v is not None}
        key = self.canvas.keys.platform.current
        return key.sign(timed(whole, int(time.time()))).encode()

    def launch(self, number: int) -> bytes:
        """A token as a platform signs it for a launch: all but the notice claim."""
        return self.notice(number, **{NOTICE_CLAIM: None})

    def log(self) -> list[StoredRecord]:
        """Every record of the embedded log."""
        return read_log(self.directory)


class Scrape:
    """The metrics of one moment."""

    def __init__(self, text: str) -> None:
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

    def settled(self) -> Counter[tuple[str, str]]:
        """Events settled, by outcome and reason."""
        found: Counter[tuple[str, str]] = Counter()
        for sample in self._samples:
            if sample.name == "forebay_events_settled_total":
                found[sample.labels["outcome"], sample.labels["reason"]] += int(sample.value)
        return found

    def imbalance(self, source: str) -> float:
        """Events of a source that the ledger has no place for; 0 in a ledger that balances."""
        return (
            self.value("forebay_events_received_total", source=source)
            + self.value("forebay_events_recovered_total", source=source)
            - self.value("forebay_events_settled_total", source=source)
            - self.value("forebay_events_held", source=source)
        )


def notices(tokens: Sequence[bytes | None]) -> bytes:
    """The body of a POST of notices; None stands for one without a token."""
    return orjson.dumps(
        {"notices": [{} if token is None else {"jwt": token.decode()} for token in tokens]}
    )


def read_log(directory: Path) -> list[StoredRecord]:
    """Every record of the embedded log of the receiver in this directory."""
    reader = EventLogReader.open(directory / "data" / FILE_NAME)
    try:
        records: list[StoredRecord] = []
        while found := reader.read(records[-1].offset + 1 if records else 1):
            records += found
        return records
    finally:
        reader.close()


@contextlib.asynccontextmanager
async def running_site(
    directory: Path,
    *,
    seed: int = 1,
    settings: Mapping[str, str] | None = None,
    wait_until_ready: bool = True,
) -> AsyncIterator[Site]:
    """A receiver that is stopped at the end, and must then end well."""
    port = free_port()
    async with Canvas(school=School.from_seed(seed)) as canvas, aiohttp.ClientSession() as session:
        program = receiver(
            directory,
            port=port,
            tenants_toml=canvas.tenants_toml(),
            settings={**canvas.receiver_environment(), **(settings or {})},
        )
        await asyncio.to_thread(program.start if wait_until_ready else program.launch)
        site = Site(canvas=canvas, program=program, directory=directory, port=port, session=session)
        try:
            yield site
        except BaseException:
            await asyncio.to_thread(program.kill)
            raise
        assert await asyncio.to_thread(program.stop) == 0, program.log_file.read_text()


async def eventually(
    check: Callable[[], Awaitable[bool]], *, timeout_s: float = DEADLINE_S
) -> None:
    """Awaits `check()` again and again until it says yes."""
    async with asyncio.timeout(timeout_s):
        while True:
            if await check():
                return
            await asyncio.sleep(0.05)


async def _read(response: aiohttp.ClientResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status, headers=headers, body=await response.read())
