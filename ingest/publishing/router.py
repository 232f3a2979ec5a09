"""Which way a record goes now: to the log, or into the spool. Knows what the log refused lately."""

import time
from collections.abc import Callable

import structlog

from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded, TopicRefused
from ingest.publishing.circuit_breaker import CircuitBreaker, State
from ingest.publishing.log import Log

log = structlog.get_logger(__name__)

_TRY_PARKED_EVERY_S = 5.0


class Router:
    """The breaker for the log as a whole, and the topics that are parked by themselves."""

    def __init__(
        self, breaker: CircuitBreaker | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._breaker = breaker or CircuitBreaker()
        self._clock = clock
        self._parked: dict[str, float] = {}

    async def publish(self, durable_log: Log, record: Record, *, may_probe: bool) -> bool:
        """Whether the log has the record. Without `may_probe` it is asked only while all is well.

        If not, it may have it all the same: a repeat does no harm. Raises RecordTooLarge.
        """
        if not self.admits(record.topic, may_probe=may_probe):
            return False
        try:
            await durable_log.append(record)
        except TopicRefused as refusal:
            self.refused(record.topic, str(refusal))
        except Overloaded:
            self.gave_up()
        except NotDurable:
            self.failed()
        except BaseException:
            self.gave_up()
            raise
        else:
            self.delivered(record.topic)
            return True
        return False

    def admits(self, topic: str, *, may_probe: bool) -> bool:
        """Whether one record may go to the log now.

        Whoever is admitted reports `delivered`, `refused`, `failed` or `gave_up`.
        """
        if not may_probe and self.state != "closed":
            return False
        if topic in self._parked and not self._is_due(topic):
            return False
        return self._breaker.admits(self._clock())

    @property
    def state(self) -> State:
        """The breaker's."""
        return self._breaker.state(self._clock())

    @property
    def parked(self) -> frozenset[str]:
        """Topics that refuse what others would take."""
        return frozenset(self._parked)

    def waiting(self) -> frozenset[str]:
        """Parked topics that are not to be tried now."""
        now_s = self._clock()
        return frozenset(topic for topic, due_s in self._parked.items() if now_s < due_s)

    def delivered(self, topic: str) -> None:
        """The log took a record."""
        if self._breaker.state(self._clock()) != "closed":
            log.info("the log takes records again")
        self._breaker.succeeded(self._clock())
        if self._parked.pop(topic, None) is not None:
            log.info("a topic takes records again", topic=topic)

    def refused(self, topic: str, cause: str) -> None:
        """The log works, but this topic takes nothing."""
        self._breaker.succeeded(self._clock())
        if topic not in self._parked:
            log.error("a topic takes no records, its events wait in the spool", cause=cause)
        self._parked[topic] = self._clock() + _TRY_PARKED_EVERY_S

    def failed(self) -> None:
        """The log gave no answer, or no good one."""
        self._breaker.failed(self._clock())

    def gave_up(self) -> None:
        """Nothing was asked of the log after all."""
        self._breaker.gave_up()

    def _is_due(self, topic: str) -> bool:
        """Whether a parked topic may be tried; who asks is the one who tries."""
        if self._clock() < self._parked[topic]:
            return False
        self._parked[topic] = self._clock() + _TRY_PARKED_EVERY_S
        return True
