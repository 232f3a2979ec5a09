"""Row 30: certificate and key of the public listener change one after the other, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.faults.certificates import Pair, shown, trusting_anybody
from tests.faults.crowd import Crowd
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.rows.expecting import expect_all_accepted
from tests.faults.site import Site
from tests.faults.verdict import Tally
from tests.faults.waiting import until

RATE: Final = 20.0
SHAKE_EVERY_S: Final = 0.1
NOTICED_WITHIN_S: Final = 40.0
"""The files are looked at every few seconds, and a renewal may take two looks."""

METRIC: Final = re.compile(r"^(forebay_[a-z_]*tls[a-z_]*)\{.*\} (\S+)$", re.MULTILINE)


async def pair_renewed_in_two_steps_and_unreadable(grounds: Grounds, seed: int) -> Tally:
    """The certificate comes before its key; later the key's file cannot be read."""
    first, second, third = Pair.made(), Pair.made(), Pair.made()
    async with grounds.site(seed, brokers=0) as plain, with_tls(plain, first) as (site, files):
        async with _handshakes(site) as shaken:
            await until(lambda: shaken.latest == first.der)
            files.certificate.write_bytes(second.certificate)
            await _alarm(site)
            _expect_only(site, shaken, first)
            files.key.write_bytes(second.key)
            await _served(site, shaken, second)
            shaken.forget()
            # nobody, root neither, reads a directory
            files.key.unlink()
            files.key.mkdir()
            files.certificate.write_bytes(third.certificate)
            await _alarm(site)
            _expect_only(site, shaken, second)
            files.key.rmdir()
            files.key.write_bytes(third.key)
            await _served(site, shaken, third)
            site.expect(not shaken.failed, f"{shaken.failed} handshakes failed")
        expect_all_accepted(site)
        await settle(site)
        return await judge(site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the pair is."""

    certificate: Path
    key: Path


@dataclass(slots=True, kw_only=True)
class Shaken:
    """What handshakes were shown, by certificate."""

    seen: Counter[bytes] = field(default_factory=Counter)
    latest: bytes | None = None
    failed: int = 0

    def take(self, certificate: bytes | None) -> None:
        """One handshake; None is one that failed."""
        self.latest = certificate
        if certificate is None:
            self.failed += 1
        else:
            self.seen[certificate] += 1

    def forget(self) -> None:
        """What was seen so far has been judged."""
        self.seen.clear()


@contextlib.asynccontextmanager
async def with_tls(site: Site, pair: Pair) -> AsyncIterator[tuple[Site, Files]]:
    """The site's receiver again, by HTTPS."""
    files = Files(certificate=site.directory / "tls.crt", key=site.directory / "tls.key")
    files.certificate.write_bytes(pair.certificate)
    files.key.write_bytes(pair.key)
    await site.receiver.kill()
    site.receiver.settings["FOREBAY_HTTP__TLS_CERT_FILE"] = str(files.certificate)
    site.receiver.settings["FOREBAY_HTTP__TLS_KEY_FILE"] = str(files.key)
    await site.receiver.start()
    yield replace(site, url=site.url.replace("http:", "https:")), files


@contextlib.asynccontextmanager
async def _handshakes(site: Site) -> AsyncIterator[Shaken]:
    """New connections all the while, some of them with an event."""
    shaken, ended = Shaken(), asyncio.Event()
    port = urlsplit(site.url).port
    assert port is not None

    async def shake() -> None:
        while not ended.is_set():
            shaken.take(await shown(port))
            crowd.hang_up()  # the next event comes by a new handshake
            await asyncio.sleep(SHAKE_EVERY_S)

    async with (
        Crowd(site.url, site.witness.record, tls=trusting_anybody()) as crowd,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(crowd.post(site.ahead.events(), rate=RATE, until=ended))
        group.create_task(shake())
        try:
            yield shaken
        finally:
            ended.set()


async def _alarm(site: Site) -> None:
    """Somebody is told: a line of level warning or error, and a counter that has risen."""
    before = _alarms(site)
    try:
        await until(lambda: _alarms(site) > before, timeout_s=NOTICED_WITHIN_S)
    except TimeoutError:
        site.expect(False, f"no alarm of the certificate in {NOTICED_WITHIN_S:g} s")
    counted = METRIC.findall((await site.metrics()).text)
    site.expect(any(float(value) for _, value in counted), f"metrics of TLS are {counted}")


def _alarms(site: Site) -> int:
    lines = site.receiver.logged("warning", "error")
    return sum("certificate" in line["event"] for line in lines)


async def _served(site: Site, shaken: Shaken, pair: Pair) -> None:
    try:
        await until(lambda: shaken.latest == pair.der, timeout_s=NOTICED_WITHIN_S)
    except TimeoutError:
        site.expect(False, f"the renewed pair is not served after {NOTICED_WITHIN_S:g} s")


def _expect_only(site: Site, shaken: Shaken, pair: Pair) -> None:
    site.expect(set(shaken.seen) == {pair.der}, f"handshakes saw {len(shaken.seen)} certificates")
