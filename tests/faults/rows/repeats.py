"""Rows 16 and 18: what comes more than once, and notices by the batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from tests.emulator.deliveries import Outgoing, Parcel, Verdict
from tests.emulator.forgeries import FOREIGN
from tests.emulator.school import Notice, School, timed
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle, settle_and_judge
from tests.faults.site import Site, event_request, notices_request
from tests.faults.verdict import Tally

REPEATS: Final = 1_000
RESIGNED: Final = 50
AT_ONCE: Final = 16
LARGE_BATCH: Final = 1_000
TYPE: Final = "LtiContextCopyNotice"

BAD_AMONG_GOOD: Final = Verdict(status=202, says="bad_signature")
FOREIGN_AMONG_OURS: Final = Verdict(status=202, says="tenant_not_allowed")


async def one_event_a_thousand_times(grounds: Grounds, seed: int) -> Tally:
    """The same bytes again and again, then signed anew again and again; new processes half-way."""
    async with grounds.site(seed) as site:
        event = site.canvas.school.live_event(seed % 1_000, stream="repeated")
        same = [site.signed(event)] * REPEATS
        anew = [site.signed(event, age_s=age_s) for age_s in range(RESIGNED)]
        requests = [
            event_request(token, name=event.name, content_key=event.content_key())
            for token in (*same, *anew)
        ]
        half = len(requests) // 2
        await site.send(requests[:half], concurrency=AT_ONCE)
        await settle(site)  # so that the second half meets a row, and not the first in its batch
        await asyncio.gather(site.receiver.restart(), site.worker.term())
        await site.worker.start()
        await site.send(requests[half:], concurrency=AT_ONCE)
        await settle(site)
        records = len((await site.topics()).trusted)
        # of each process: the first, and those that came before it was durable
        site.expect(2 <= records <= 2 * AT_ONCE, f"{records} records for {len(requests)} answers")
        rows = (await site.tables()).events.total()
        site.expect(rows == 1, f"{rows} rows for one event")
        return await judge(site)


async def batches_of_notices(grounds: Grounds, seed: int) -> Tally:
    """None, one, a thousand; a bad one among good ones; two schools in one; one twice."""
    async with grounds.site(seed) as site:
        ours = site.canvas.school.notices(0, TYPE, LARGE_BATCH + 10)
        stranger = School.from_seed(seed + 1, name="stranger").notices(0, TYPE, 4)
        alone, twice, mixed, large = ours[:1], ours[1:2], ours[2:10], ours[10:]
        answered = await site.send(
            [
                _empty(),
                _request(site, alone, {}),
                _request(site, (*twice, *twice), {}),
                _request(site, mixed[:4], {1: BAD_AMONG_GOOD}, spoilt={1}),
                _request(
                    site,
                    (mixed[4], stranger[0], mixed[5], stranger[1]),
                    dict.fromkeys((1, 3), FOREIGN_AMONG_OURS),
                ),
                _request(site, stranger[2:], dict.fromkeys((0, 1), FOREIGN)),
                _request(site, large, {}),
            ]
        )
        statuses = {delivery.status for delivery in answered}
        site.expect(statuses == {202, 400, 403}, f"answers were {statuses}")
        refused = dict(site.witness.refused_genuine)
        site.expect(not refused, f"good ones were refused: {refused}")
        good = len(alone) + len(twice) + 3 + 2 + len(large)
        accepted = len(site.witness.promised)
        site.expect(accepted == good, f"{accepted} accepted of {good}")
        return await settle_and_judge(site)


def _empty() -> Outgoing:
    nobody = Parcel(
        role="forgery",
        name="empty",
        content_key=None,
        expected=(Verdict(status=400, says="malformed"),),
    )
    return notices_request([], [nobody])


def _request(
    site: Site,
    notices: Sequence[Notice],
    bad: dict[int, Verdict],
    *,
    spoilt: frozenset[int] | set[int] = frozenset(),
) -> Outgoing:
    """One POST; `bad` has the right answers to the notices at those places."""
    tokens, parcels = [], []
    for place, notice in enumerate(notices):
        token = site.signed_claims(timed(notice.claims, int(time.time())), lane="pns")
        tokens.append(token[:-4] + b"AAAA" if place in spoilt else token)
        verdict = bad.get(place)
        parcels.append(
            Parcel(
                role="forgery" if verdict else "genuine",
                name=notice.name,
                content_key=notice.content_key(),
                expected=(verdict,) if verdict else (),
            )
        )
    return notices_request(tokens, parcels)
