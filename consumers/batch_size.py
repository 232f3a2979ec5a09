"""How large a batch gets before it is written: small where little waits, large where much does.

What writing costs per batch is shared by more rows then, and nobody waits longer for it: rows that
are behind a backlog are late anyway.
"""

from dataclasses import dataclass

LAG_PER_INTERVAL = 1_000
"""Records unread for which a batch waits one flush interval more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """A batch is due once its first record has waited, and full at `max_rows` or `max_bytes`.

    The wait is `flush_interval_s` where nothing else is to be read, and grows with what is, up to
    `longest_interval_s`. `max_bytes` counts the records' values.
    """

    flush_interval_s: float = 0.5
    longest_interval_s: float = 5.0
    max_rows: int = 25_000
    max_bytes: int = 24 * 1024 * 1024

    def interval_s(self, *, lag_records: int) -> float:
        """How long the first record of a batch waits while so many are unread."""
        grown_s = self.flush_interval_s * (1 + lag_records / LAG_PER_INTERVAL)
        return max(self.flush_interval_s, min(grown_s, self.longest_interval_s))
