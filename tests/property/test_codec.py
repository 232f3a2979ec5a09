"""What is encoded is decoded as the same envelope, and the official package reads it too."""

from typing import Any

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract.catalogue import catalogue
from ingest.contract.codec import Undecodable, decode, encode
from ingest.contract.record import Record
from tests.property.json_values import REGULAR_OBJECTS
from tests.support.builders import envelope

_TYPES = st.sampled_from(["course_created", "neu_größe", "quizzes.item_created", "x" * 200])


@given(metadata=REGULAR_OBJECTS, body=REGULAR_OBJECTS, event_type=_TYPES)
def test_envelope_survives_the_round_trip(
    metadata: dict[str, Any], body: dict[str, Any], event_type: str
) -> None:
    needed = {**envelope().metadata, "event_type": event_type, "issues": ["body.a"]}
    ours = envelope({**metadata, **needed}, body)
    record = encode(ours, prefix="p")
    assert decode(record) == ours
    theirs = from_binary(
        KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value), JSONFormat()
    )
    assert theirs.get_id() == ours.event_id


_ENTRIES = st.sampled_from(sorted(catalogue(), key=lambda entry: entry.name))


@given(entry=_ENTRIES, entity=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_one_entity_has_one_key_in_all_its_events(entry: Any, entity: str) -> None:
    body: Any = entity
    for step in reversed(entry.key):
        body = {step: body}
    named = envelope({"source": entry.source, "event_type": entry.name}, body if entry.key else {})
    keys = {encode(named, prefix="p").key for _ in range(2)}
    assert len(keys) == 1
    if entry.key and entity:
        assert keys.pop().endswith(f":{entity}".encode())


@given(value=st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_undecodable(value: bytes) -> None:
    try:
        decode(Record(topic="t", key=b"", value=value))
    except Undecodable:
        return
    raise AssertionError("so few random bytes make no envelope")
