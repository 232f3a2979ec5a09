"""Envelopes as records, read back by us and by the CloudEvents project's own package."""

import subprocess
import sys
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from ingest.contract.codec import Undecodable, decode, encode
from ingest.contract.record import Record, StoredRecord
from tests.support.builders import CLIENT, LIVE_EVENTS_ISSUER, PLATFORM, TENANT, envelope

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_NOTICE = {
    "source": "pns",
    "format": "pns",
    "event_type": "LtiContextCopyNotice",
    "issuer": PLATFORM,
    "client_id": CLIENT,
    "root_account_uuid": None,
    "user_id": None,
}


def test_headers_are_those_of_the_contract() -> None:
    record = encode(envelope(), prefix="p", traceparent=_TRACE)
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"7e" * 32,
        "ce_source": LIVE_EVENTS_ISSUER.encode(),
        "ce_type": b"com.instructure.canvas.course_created",
        "ce_time": b"2026-09-21T14:13:15.250Z",
        "ce_subject": b"3012",
        "ce_dataschema": b"urn:forebay:schema:live-events.course-created.v1",
        "content-type": b"application/json",
        "ce_tenant": TENANT.encode(),
        "ce_receivedtime": b"2026-09-21T14:13:20.000Z",
        "traceparent": _TRACE.encode(),
    }


def test_no_header_comes_twice() -> None:
    names = [name for name, _ in encode(envelope(), prefix="p", traceparent=_TRACE).headers]
    assert len(names) == len(set(names))


def test_notice_is_named_after_its_standard() -> None:
    record = encode(envelope(_NOTICE, {}), prefix="p")
    headers = dict(record.headers)
    assert headers["ce_type"] == b"org.imsglobal.lti.pns.LtiContextCopyNotice"
    assert headers["ce_source"] == PLATFORM.encode()
    assert record.topic == "p.pns.lti-context-copy-notice.v1"


@pytest.mark.parametrize(
    ("metadata", "body", "absent"),
    [
        ({"event_time": None}, {}, "ce_time"),
        ({"event_time": "yesterday", "issues": ["metadata.event_time"]}, {}, "ce_time"),
        ({"event_time": 5, "issues": ["metadata.event_time"]}, {}, "ce_time"),
        ({}, {"course_id": None}, "ce_subject"),
        ({}, {}, "ce_subject"),
        ({"event_type": "course_evaporated"}, {"course_id": "3012"}, "ce_subject"),
        ({}, {}, "traceparent"),
    ],
)
def test_what_is_unknown_has_no_header(
    metadata: dict[str, Any], body: dict[str, Any], absent: str
) -> None:
    assert absent not in dict(encode(envelope(metadata, body), prefix="p").headers)


def test_null_event_time_is_encoded_without_a_time() -> None:
    null_time = envelope()
    null_time = type(null_time)({**null_time.metadata, "event_time": None}, null_time.body)
    assert "ce_time" not in dict(encode(null_time, prefix="p").headers)


def test_issue_with_another_field_keeps_the_time() -> None:
    record = encode(envelope({"issues": ["body.name"]}), prefix="p")
    assert "ce_time" in dict(record.headers)


@pytest.mark.parametrize(
    ("metadata", "body"),
    [
        ({}, None),
        ({"event_type": "quizzes.item_created"}, {"id": "1"}),
        ({"event_type": "neu_größe"}, {}),
        ({"event_time": None}, {}),
        (_NOTICE, {"context": {"id": "c-1"}}),
    ],
)
def test_official_package_reads_our_records(
    metadata: dict[str, Any], body: dict[str, Any] | None
) -> None:
    ours = envelope(metadata, body)
    record = encode(ours, prefix="p", traceparent=_TRACE)
    theirs = from_binary(
        KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value), JSONFormat()
    )
    assert theirs.get_id() == ours.event_id
    assert theirs.get_source() == ours.metadata["issuer"]
    assert theirs.get_type().endswith(f".{ours.event_type}")
    assert theirs.get_datacontenttype() == "application/json"
    assert theirs.get_extension("tenant") == TENANT
    assert theirs.get_extension("receivedtime") == ours.metadata["received_at"]
    assert theirs.get_data() == {"metadata": ours.metadata, "body": ours.body}
    if "event_time" in ours.metadata:
        time = theirs.get_time()
        assert time is not None
        assert time.isoformat(timespec="milliseconds") == "2026-09-21T14:13:15.250+00:00"


def test_record_reads_back_as_the_same_envelope() -> None:
    ours = envelope({"issues": ["body.x"]}, {"x": [1.5, None, {"y": "ü"}], "n": 2**63 - 1})
    assert decode(encode(ours, prefix="p")) == ours


def test_stored_record_reads_back_too() -> None:
    record = encode(envelope(), prefix="p")
    stored = StoredRecord(
        topic=record.topic,
        partition=1,
        offset=9,
        timestamp_ms=0,
        key=record.key,
        value=record.value,
    )
    assert decode(stored) == envelope()


def test_integers_beyond_64_bits_stay_exact() -> None:
    value = orjson.dumps({"metadata": envelope().metadata, "body": {}})
    value = value.replace(b'"body":{}', b'"body":{"n":123456789012345678901234567890}')
    assert decode(_record(value)).body["n"] == 123456789012345678901234567890


def test_envelope_of_a_later_release_with_more_members_is_read() -> None:
    value = orjson.dumps({"metadata": envelope().metadata, "body": {}, "trailer": 1})
    assert decode(_record(value)).body == {}


def _metadata(**members: Any) -> bytes:
    return orjson.dumps({"metadata": {**envelope().metadata, **members}, "body": {}})


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00\x01",
        b"not JSON secret",
        b'{"metadata":',
        b'{"metadata":{"event_id":"\xff"},"body":{}}',
        b"[" * 3000,
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"metadata":{}}',
        b'{"metadata":[],"body":{}}',
        b'{"metadata":{},"body":null}',
        _metadata(event_id=None),
        _metadata(event_id=7),
        _metadata(event_type=None),
        _metadata(source=3),
        _metadata(source="carrier-pigeon"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_value_that_is_no_envelope_is_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(_record(value))
    assert "secret" not in str(caught.value)


def _record(value: bytes) -> Record:
    return Record(topic="t", key=b"k", value=value)


def test_reading_a_record_needs_no_server_nor_client_library() -> None:
    script = (
        "import sys\n"
        "absent = 'aiohttp aiokafka cryptography jwt uvloop duckdb pyarrow'.split()\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "from ingest.contract.codec import decode\n"
        "from ingest.contract.record import Record\n"
        "record = Record(topic='t', key=b'k', value=sys.stdin.buffer.read())\n"
        "print(decode(record).event_id)\n"
    )
    value = encode(envelope(), prefix="p").value
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, input=value, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip() == envelope().event_id
