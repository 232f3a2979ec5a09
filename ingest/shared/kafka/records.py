"""Kafka's records as ours."""

from aiokafka import ConsumerRecord

from ingest.contract.record import StoredRecord


def stored(record: "ConsumerRecord[bytes, bytes]") -> StoredRecord:
    """The record as every log of ours gives it back."""
    return StoredRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key or b"",
        value=record.value or b"",
        headers=tuple((name, value or b"") for name, value in record.headers),
    )
