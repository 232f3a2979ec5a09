"""What the wiring works out by itself from several settings."""

from collections.abc import Iterator

import pytest

from ingest import wiring
from ingest.settings import QuarantineSettings, Settings
from ingest.shared.sections import EventlogSettings, KafkaSettings

_MIB = 1024**2


class _Room:
    """What a bucket is made with, in bytes, and bytes a second."""

    def __init__(self, *, burst: float, per_s: float) -> None:
        self.burst = burst
        self.per_s = per_s


@pytest.fixture(autouse=True)
def _shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "TokenBucket", _Room)


def _room(quarantine: QuarantineSettings, log: EventlogSettings, *, kafka: bool) -> _Room:
    servers = "127.0.0.1:1" if kafka else None
    settings = Settings(
        quarantine=quarantine, eventlog=log, kafka=KafkaSettings(bootstrap_servers=servers)
    )
    room = wiring._quarantine_room(settings)
    assert isinstance(room, _Room)
    return room


def _logs() -> Iterator[EventlogSettings]:
    for max_bytes in (64 * _MIB, 1024 * _MIB, 10 * 1024 * _MIB, 2**50):
        for hours in (0.5, 24, 168, 10_000):
            yield EventlogSettings(max_bytes=max_bytes, retention_hours=hours)


def test_quarantine_leaves_half_of_the_embedded_log_to_events() -> None:
    for log in _logs():
        for bytes_an_hour in (4 * _MIB, 64 * _MIB, 2**40):
            quarantine = QuarantineSettings(max_bytes_per_hour=bytes_an_hour)
            room = _room(quarantine, log, kafka=False)
            most = room.burst + room.per_s * log.retention_hours * 3600
            assert most <= log.max_bytes / 2, (log, bytes_an_hour)
            assert room.burst <= bytes_an_hour
            assert room.per_s <= bytes_an_hour / 3600
            # the largest event finds room in it at all
            assert room.burst >= 4 * _MIB


def test_quarantine_in_kafka_has_its_bytes_an_hour_and_no_other_bound() -> None:
    for log in _logs():
        room = _room(QuarantineSettings(), log, kafka=True)
        assert (room.burst, room.per_s * 3600) == (64 * _MIB, 64 * _MIB)
