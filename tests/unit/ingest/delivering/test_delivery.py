"""Delivery: a receipt only once the log has the record."""

import asyncio

import pytest

from ingest.contract.record import Record
from ingest.delivering.delivery import Delivery
from ingest.errors import NotDurable, Overloaded, Unavailable
from ingest.handover import Receipt

_RECORD = Record(topic="t", key=b"k", value=b"{}")


class _Log:
    def __init__(self, failure: Unavailable | None = None) -> None:
        self.durable = asyncio.Event()
        self.taken: list[Record] = []
        self._failure = failure

    async def append(self, record: Record) -> None:
        self.taken.append(record)
        await self.durable.wait()
        if self._failure is not None:
            raise self._failure

    async def health(self) -> tuple[bool, str]:
        return True, "fine"

    async def close(self) -> None:
        pass


async def test_receipt_waits_for_the_log() -> None:
    log = _Log()
    delivering = asyncio.create_task(
        Delivery(log).deliver(_RECORD, outcome="quarantined", event_id=None, reason="expired")
    )
    await asyncio.sleep(0)
    assert log.taken == [_RECORD]
    assert not delivering.done()
    log.durable.set()
    assert await delivering == Receipt(outcome="quarantined", event_id=None, reason="expired")


@pytest.mark.parametrize("failure", [NotDurable("disk"), Overloaded("queue")])
async def test_failure_of_the_log_gives_no_receipt(failure: Unavailable) -> None:
    log = _Log(failure)
    log.durable.set()
    with pytest.raises(type(failure)):
        await Delivery(log).deliver(_RECORD, outcome="published", event_id="e")
