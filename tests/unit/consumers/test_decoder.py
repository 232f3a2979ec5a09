"""Records to envelopes."""

import pytest

from consumers.decoder import read_envelope
from consumers.errors import Poison
from ingest.contract.record import Record
from tests.unit.consumers.builders import event_record, live_event, record_of, stored_as


def test_an_envelope_comes_back_as_it_was_written() -> None:
    envelope = live_event(1, body={"points": 2.5, "big": 2**63 - 1, "nested": {"a": [None, True]}})
    assert read_envelope(stored_as(record_of(envelope), 0)) == envelope


def test_a_damaged_record_is_poison_even_if_it_could_be_read() -> None:
    with pytest.raises(Poison) as poison:
        read_envelope(stored_as(event_record(1), 0, damaged=True))
    assert poison.value.reason == "damaged"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"metadata": {}, "body": {}}',
        b'{"metadata": {"event_id": 5, "event_type": "a", "source": "pns"}, "body": {}}',
        b'{"metadata": {"event_id": "a", "event_type": "a", "source": "pns"}, "body": []}',
        b'{"metadata": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_envelope_is_poison(value: bytes) -> None:
    record = Record(topic="t", key=b"", value=value)
    with pytest.raises(Poison) as poison:
        read_envelope(stored_as(record, 0))
    assert poison.value.reason == "not_an_envelope"
