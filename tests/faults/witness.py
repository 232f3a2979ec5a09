"""The emulator's oracle, which here also remembers what may be trusted and who was refused."""

from __future__ import annotations

from collections import Counter

from tests.emulator.deliveries import Delivery
from tests.emulator.oracle import Oracle


class Witness(Oracle):
    """Knows every delivery of one site."""

    def __init__(self) -> None:
        super().__init__()
        self.said: Counter[tuple[int | None, str | None]] = Counter()
        """Answers by status and what they said: the reason of a refusal, else the outcome."""

        self.refused_genuine: Counter[str] = Counter()
        """Genuine events that were answered 4xx, by reason: Canvas would lose each of them."""

        self.deliveries: list[Delivery] = []
        """Every delivery, in the order of the answers."""

        self._forgeries: set[str] = set()
        self._vouched: set[str] = set()

    def record(self, delivery: Delivery) -> None:
        """Takes down one delivery."""
        super().record(delivery)
        self.deliveries.append(delivery)
        # the outcome of a refused notice is "rejected", and its reason says more
        refused = delivery.outcome in (None, "rejected", "not_durable")
        self.said[delivery.status, delivery.reason if refused else delivery.outcome] += 1
        if delivery.role == "forgery":
            if delivery.content_key is not None:
                self._forgeries.add(delivery.content_key)
        elif delivery.status is not None and 400 <= delivery.status < 500:
            self.refused_genuine[delivery.reason or "none"] += 1

    def vouch_for(self, event_ids: set[str]) -> None:
        """These are in the topics because the case put them there, past the receiver."""
        self._vouched |= event_ids

    @property
    def may_be_trusted(self) -> frozenset[str]:
        """Event ids that may be in a trusted place: the genuine ones, answered 2xx or not."""
        return (self._known_ids() | self._vouched) - self._forgeries

    @property
    def promised(self) -> frozenset[str]:
        """Event ids that were answered 2xx, by whatever lane."""
        return frozenset(
            entry.event_id or key for key, entry in self.entries.items() if entry.accepted
        )

    @property
    def genuine(self) -> int:
        """How many distinct events were sent that nobody forged."""
        return len(self.entries.keys() - self._forgeries)

    @property
    def worthy(self) -> int:
        """How many distinct events were sent that deserve a 2xx, or got one all the same."""
        return len((self.entries.keys() - self._forgeries) | self.accepted)

    def _known_ids(self) -> frozenset[str]:
        return frozenset(entry.event_id or key for key, entry in self.entries.items())
