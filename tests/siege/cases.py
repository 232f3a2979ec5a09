"""The attacks as cases of the fault matrix: each with what it must not reach besides.

Rows 17 and 32.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final

from tests.emulator.key_server import LIVE_EVENTS_PATH, PLATFORM_PATH, Mode
from tests.faults.certificates import Pair
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.rows.expecting import repeated
from tests.faults.rows.tls import with_tls
from tests.faults.site import Site
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.siege import ammunition
from tests.siege.besieged import Felt, besieged

SECONDS: Final = 8.0
SCARCE: Final = 1_024
MAX_GROWTH_BYTES: Final = 50 * 1024**2
MAX_KEPT: Final = 50
KEY_SETS: Final = (LIVE_EVENTS_PATH, PLATFORM_PATH)
MAX_FETCHES: Final = 6
"""One per cooldown of three seconds, over the attack and what is around it."""


async def plain_bodies(grounds: Grounds, seed: int) -> Tally:
    """A refused body is let go of at once."""
    return await _grows_little(grounds, seed, "plain_bodies")


async def packed_bodies(grounds: Grounds, seed: int) -> Tally:
    """Nothing is inflated for a stranger."""
    return await _grows_little(grounds, seed, "packed_bodies")


async def bombs(grounds: Grounds, seed: int) -> Tally:
    """Some that would be a hundred megabytes each."""
    return await _plain(grounds, seed, "bombs")


async def bombs_at_once(grounds: Grounds, seed: int) -> Tally:
    """Many that are not complete yet."""
    return await _plain(grounds, seed, "bombs_at_once")


async def forged_notices(grounds: Grounds, seed: int) -> Tally:
    """While keys can be had, what nobody signed is kept within small bounds."""
    async with _site(grounds, seed) as site:
        felt = await besieged(
            site, "forged_notices", seconds=SECONDS, bodies=ammunition.forged_notices(site)
        )
        await _expect_few_fetches(site)
        await _expect_little_kept(site)
        return await _judged(site, felt)


async def forged_notices_without_keys(grounds: Grounds, seed: int) -> Tally:
    """While keys cannot be had, the genuine whose key is known do not feel it."""
    async with _site(grounds, seed) as site:
        await until(lambda: all(site.canvas.key_server.requests[path] for path in KEY_SETS))
        await site.canvas.key_server.misbehave(Mode.ERROR)
        felt = await besieged(
            site, "forged_notices", seconds=SECONDS, bodies=ammunition.forged_notices(site)
        )
        await site.canvas.key_server.behave()
        return await _judged(site, felt)


async def unknown_keys(grounds: Grounds, seed: int) -> Tally:
    """Neither keys nor Canvas's budget are at a stranger's disposal."""
    async with _site(grounds, seed) as site:
        felt = await besieged(
            site, "unknown_keys", seconds=SECONDS, bodies=ammunition.unknown_keys(site)
        )
        await _expect_few_fetches(site)
        return await _judged(site, felt)


async def slow_bodies(grounds: Grounds, seed: int) -> Tally:
    """A body that is half here takes nobody's place."""
    return await _plain(grounds, seed, "slow_bodies")


async def slow_heads(grounds: Grounds, seed: int) -> Tally:
    """Nor does a head."""
    return await _plain(grounds, seed, "slow_heads")


async def idle_connections(grounds: Grounds, seed: int) -> Tally:
    """When all connections are taken, the idle ones go."""
    return await _plain(grounds, seed, "idle_connections")


async def few_descriptors(grounds: Grounds, seed: int) -> Tally:
    """Fewer descriptors than connections: what we need ourselves is kept free."""
    async with _site(grounds, seed) as site:
        site.receiver.descriptors = SCARCE
        await site.receiver.restart()
        felt = await besieged(site, "silent_connections", seconds=SECONDS)
        return await _judged(site, felt)


async def unfinished_handshakes(grounds: Grounds, seed: int) -> Tally:
    """They are connections too."""
    async with _site(grounds, seed) as plain:
        plain.receiver.descriptors = SCARCE
        async with with_tls(plain, Pair.made()) as (site, _):
            felt = await besieged(site, "unfinished_handshakes", seconds=SECONDS)
        return await _judged(plain, felt)


async def unreadable_claims(grounds: Grounds, seed: int) -> Tally:
    """They are refused for good, and no keys of anybody are asked for."""
    async with _site(grounds, seed) as site:
        felt = await besieged(
            site, "unreadable_claims", seconds=SECONDS, bodies=ammunition.unreadable_claims(site)
        )
        said = felt.cost.answers
        site.expect(set(said) == {"400"}, f"they were answered {said}")
        await _expect_few_fetches(site)
        return await _judged(site, felt)


async def replays(grounds: Grounds, seed: int) -> Tally:
    """What was signed once fills neither the log nor quarantine."""
    async with _site(grounds, seed) as site:
        felt = await besieged(site, "replays", seconds=SECONDS, bodies=ammunition.replays(site))
        await _expect_little_kept(site)
        return await _judged(site, felt)


async def endless_heads(grounds: Grounds, seed: int) -> Tally:
    """A head has a bound in bytes, and all of them together have one."""
    return await _plain(grounds, seed, "endless_heads")


async def wide_events(grounds: Grounds, seed: int) -> Tally:
    """What a key of Canvas's has signed may still be mad."""
    async with _site(grounds, seed) as site:
        felt = await besieged(
            site, "wide_events", seconds=SECONDS, bodies=ammunition.wide_events(site)
        )
        return await _judged(site, felt)


async def smuggling(grounds: Grounds, seed: int) -> Tally:
    """Nothing that hides behind a request is one."""
    async with _site(grounds, seed) as site:
        felt = await besieged(site, "smuggling", seconds=SECONDS)
        said = felt.cost.answers
        site.expect({"400"} <= set(said) <= {"400", "415"}, f"they were answered {said}")
        return await _judged(site, felt)


async def garbage(grounds: Grounds, seed: int) -> Tally:
    """No HTTP, unknown paths, other methods."""
    return await _plain(grounds, seed, "garbage")


@contextlib.asynccontextmanager
async def _site(grounds: Grounds, seed: int) -> AsyncIterator[Site]:
    # the worker begins afterwards: it would take from what is measured
    async with grounds.site(seed, brokers=0, with_worker=False) as site:
        yield site


async def _plain(grounds: Grounds, seed: int, name: str) -> Tally:
    async with _site(grounds, seed) as site:
        felt = await besieged(site, name, seconds=SECONDS)
        return await _judged(site, felt)


async def _grows_little(grounds: Grounds, seed: int, name: str) -> Tally:
    async with _site(grounds, seed) as site:
        felt = await besieged(site, name, seconds=SECONDS)
        _expect_growth(site, felt)
        return await _judged(site, felt)


async def _judged(site: Site, felt: Felt) -> Tally:
    await site.worker.start()
    await settle(site)
    return replace(await judge(site), peak_bytes=felt.peaks.bytes)


def _expect_growth(site: Site, felt: Felt) -> None:
    grown = felt.peaks.after_bytes - felt.peaks.before_bytes
    site.expect(grown <= MAX_GROWTH_BYTES, f"it grew by {grown / 1e6:.0f} MB")


async def _expect_few_fetches(site: Site) -> None:
    requests: Mapping[str, int] = site.canvas.key_server.requests
    most = max(requests.values())
    site.expect(most <= MAX_FETCHES, f"keys were asked for {dict(requests)}")


async def _expect_little_kept(site: Site) -> None:
    """Beyond the genuine: repeats in topics, and records in quarantine."""
    topics = await site.topics()
    quarantine = sum(record.place[0].endswith("quarantine.v1") for record in topics.records)
    beyond = quarantine + repeated(topics)
    site.expect(beyond <= MAX_KEPT, f"{quarantine} are in quarantine, {beyond} in all too many")
