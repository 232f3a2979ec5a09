"""What is appended to a log and what is read back from one."""

from msgspec import Struct


class Record(Struct, frozen=True, kw_only=True):
    """One record on its way into a log. `headers` keep their order; their values are UTF-8 text."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        """What key, value and headers take, near enough to how Kafka counts."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key) + len(self.value) + headers


class StoredRecord(Struct, frozen=True, kw_only=True):
    """One record as a log gave it back.

    `offset` grows within (topic, partition) and is never reused; it may skip. `timestamp_ms` is
    when the log took it, in Unix milliseconds. A `damaged` record failed the log's own checksum.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    damaged: bool = False
