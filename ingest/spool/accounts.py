"""What the spool holds, counted in step with the ledger."""

from collections.abc import Callable, Iterable

from ingest.observing.ledger import Ledger
from ingest.spool.files.rows import Contents, Held, HeldToken, Item, NewRecord
from ingest.spool.files.store import HeldItem
from ingest.spool.usage import SpoolUsage
from ingest.values import EventState


class Accounts:
    """Counts what comes and goes. What callers brought in and took out they tell the ledger."""

    def __init__(self, contents: Contents, unreadable: int, ledger: Ledger) -> None:
        """`unreadable` events were lost before anyone could count them in."""
        self.usage = SpoolUsage(contents)
        self._ledger = ledger
        for (state, source), events in self.usage.by_state().items():
            ledger.found(state, source, events)
        ledger.lost("damaged", unreadable)

    def took(self, items: Iterable[Item]) -> None:
        """They are durable."""
        for item in items:
            if isinstance(item, NewRecord):
                self.usage.add_records(item.record.topic, item.source, 1, item.size_bytes)
            else:
                self.usage.add_tokens(item.source, 1, len(item.token))

    def orphaned(self, item: Item) -> None:
        """It is durable though its 503 has been given; so it goes its way all the same."""
        self._ledger.found(state_of(item), item.source, 1)

    def gone(self, part: Iterable[HeldItem], when_gone: Callable[[HeldItem], None]) -> None:
        """They are no longer in the file."""
        for held in part:
            if isinstance(held, HeldToken):
                self.usage.add_tokens(held.source, -1, -held.size_bytes)
            else:
                self.usage.add_records(held.stored.topic, held.source, -1, -held.size_bytes)
            when_gone(held)

    def come_again(self, part: Iterable[HeldItem], when_gone: Callable[[HeldItem], None]) -> None:
        """The file was rebuilt since they were read: there they have other ids, and are met again.

        A record is counted out when it is gone; a token has been, before it was to be forgotten.
        """
        for held in part:
            if isinstance(held, HeldToken):
                self._ledger.found(state_of(held), held.source, 1)
                when_gone(held)

    def recount(self, contents: Contents) -> None:
        """What is gone without having been forgotten is lost, and counted out."""
        before, self.usage = self.usage, SpoolUsage(contents)
        for (state, source), events in (before.by_state() - self.usage.by_state()).items():
            for _ in range(events):
                self._ledger.left(state, source, "not_durable", "damaged")


def state_of(item: Item | Held | HeldToken) -> EventState:
    """The ledger's state of what the spool holds."""
    return "spool" if isinstance(item, NewRecord | Held) else "deferred"
