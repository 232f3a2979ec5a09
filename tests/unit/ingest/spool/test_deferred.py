"""How much of what nobody has verified is kept, and whose; on a real spool."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.contract.envelope import Source
from ingest.errors import NoKeys, NotDurable, Uncheckable
from ingest.observing.metrics import Metrics
from ingest.settings import SpoolSettings
from ingest.spool import deferred as deferred_module
from ingest.spool.deferred import WAITING_PER_REQUEST, WAITING_PER_S, Deferred, Together
from ingest.storage.token_bucket import TokenBucket
from ingest.values import SignedRequest
from tests.support.clock import Clock
from tests.unit.ingest.publishing.fakes import LIMITS, SpoolBench, open_spool, token

_LANE = 800_000


class _Lane:
    """A deferred lane by a clock of ours."""

    def __init__(self, bench: SpoolBench, clock: Clock, max_bytes: int) -> None:
        self.bench = bench
        self.clock = clock
        self.deferred = Deferred(bench.spool, max_bytes=max_bytes)

    async def taken(
        self,
        count: int,
        source: Source = "live-events",
        *,
        tenant: str = "north",
        size_bytes: int = 999,
    ) -> int:
        """How many of so many tokens are kept while the key source fails."""
        tokens = [token(0, source, size_bytes=size_bytes) for _ in range(count)]
        outcomes = [await self._kept(each, Uncheckable(tenant=tenant)) for each in tokens]
        return outcomes.count(True)

    async def placed(self, count: int, together: Together) -> int:
        """How many of so many notices of one request are kept while keys can be had."""
        why = Uncheckable(tenant="north", keys_fail=False)
        outcomes = [await self._kept(token(0, "pns"), why, together) for _ in range(count)]
        return outcomes.count(True)

    async def _kept(
        self, request: SignedRequest, why: Uncheckable, together: Together | None = None
    ) -> bool:
        # only in an outage is the refusal of one that may be genuine
        refusal = NotDurable if why.keys_fail else NoKeys
        with contextlib.suppress(refusal):
            receipt = await self.deferred.keep(request, why, together or Together())
            return receipt.outcome == "deferred"
        return False


@contextlib.asynccontextmanager
async def _lane(
    place: Path, monkeypatch: pytest.MonkeyPatch, *, max_bytes: int = _LANE
) -> AsyncIterator[_Lane]:
    clock = Clock()

    def bucket(*, burst: float, per_s: float) -> TokenBucket:
        return TokenBucket(burst=burst, per_s=per_s, clock=clock)

    monkeypatch.setattr(deferred_module, "TokenBucket", bucket)
    async with open_spool(place / "spool", LIMITS, Metrics().ledger) as bench:
        yield _Lane(bench, clock, max_bytes)


async def test_each_tenant_has_a_share_that_no_other_can_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _lane(tmp_path, monkeypatch) as lane:
        assert await lane.taken(300) == 100  # an eighth of the lane
        assert await lane.taken(20, tenant="south") == 20


async def test_flood_of_events_takes_nothing_from_the_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _lane(tmp_path, monkeypatch) as lane:
        assert await lane.taken(300) == 100
        assert await lane.taken(20, "pns") == 20


async def test_share_fills_again_as_time_goes_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _lane(tmp_path, monkeypatch) as lane:
        await lane.taken(100)
        taken = []
        for minutes in (0, 1, 3, 600):
            lane.clock.now_s += minutes * 60
            taken.append(await lane.taken(200))
        assert taken == [0, 13, 40, 100]  # the whole lane, 800 of them, in an hour


async def test_two_hundred_events_a_second_are_all_kept_for_two_minutes_by_default() -> None:
    clock, lane_bytes = Clock(), SpoolSettings().deferred_max_bytes
    share = TokenBucket(
        burst=lane_bytes * deferred_module.BURST_SHARE,
        per_s=lane_bytes / deferred_module.REFILL_S,
        clock=clock,
    )
    for _ in range(120):
        assert all(share.take(2_800) for _ in range(200))
        clock.advance(1)


async def test_few_notices_wait_for_keys_that_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _lane(tmp_path, monkeypatch) as lane:
        together = Together()
        assert await lane.placed(100, together) == WAITING_PER_REQUEST
        assert await lane.placed(100, Together()) == WAITING_PER_S - WAITING_PER_REQUEST
        lane.clock.advance(1)
        assert await lane.placed(10, together) == 0
        assert await lane.placed(10, Together()) == 10


async def test_notices_that_wait_are_bounded_in_all_until_they_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred_module, "WAITING_IN_ALL", 30)
    placed: Counter[int] = Counter()
    async with _lane(tmp_path, monkeypatch) as lane:
        for second in range(4):
            placed[second] = await lane.placed(12, Together())
            lane.clock.advance(1)
        held = await lane.bench.spool.read_tokens(after=0, limit=5)
        await lane.bench.spool.forget_tokens(held, when_gone=lambda gone: None)
        placed[4] = await lane.placed(12, Together())
    assert list(placed.values()) == [12, 12, 6, 0, 5]
