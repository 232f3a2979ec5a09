"""What is published: every schema is one, examples follow theirs, and the copy is up to date."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator

from ingest.contract.catalogue import catalogue
from ingest.contract.codec import encode
from ingest.contract.describe.asyncapi import document
from ingest.contract.describe.published import example_name, examples, export, published, text
from ingest.contract.describe.schemas import schemas
from ingest.contract.envelope import Envelope
from ingest.contract.topics import ingest_topics, schema_id
from tests.contract.examples import SHIPPED, lines
from tests.support.each import each_case

COMMITTED = Path(__file__).parents[2] / "deploy" / "contract"
_SCHEMAS = schemas()
_EXAMPLES = {example_name(envelope): envelope for envelope in examples()}
_DIALECTS = [Draft202012Validator, Draft7Validator]


def _schema_of(envelope: Envelope) -> dict[str, Any]:
    name = schema_id(envelope.source, envelope.event_type).rpartition(":")[2]
    return _SCHEMAS[name]


def _value(envelope: Envelope) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(encode(envelope, prefix="p").value)
    return value


def test_committed_contract_is_what_is_generated() -> None:
    committed = {
        str(path.relative_to(COMMITTED)): path.read_text(encoding="utf-8")
        for path in COMMITTED.rglob("*")
        if path.is_file()
    }
    made = published(version("forebay"))
    assert sorted(committed) == sorted(made), "run `make contract`"
    assert [path for path in made if committed[path] != made[path]] == [], "run `make contract`"


def test_shipped_examples_are_the_golden_envelopes() -> None:
    assert SHIPPED.read_bytes() == lines(), "run `make contract`"


def test_export_writes_what_is_published(tmp_path: Path) -> None:
    assert export(tmp_path / "new", "1.2.3") == len(published("1.2.3"))
    for path, content in published("1.2.3").items():
        assert (tmp_path / "new" / path).read_text(encoding="utf-8") == content


def test_layout_changes_no_value() -> None:
    value = {"a": ["x" * 300, {"b": []}, {}], "ü": None, "c": {"d" * 300: [1.5, True]}}
    assert json.loads(text(value)) == value


def test_every_topic_has_a_schema_and_no_other() -> None:
    assert [f"canvas.{name}" for name in _SCHEMAS] == ingest_topics("canvas")


def test_every_schema_is_named_by_its_urn() -> None:
    ids = [schema["$id"] for schema in _SCHEMAS.values()]
    assert ids == [f"urn:forebay:schema:{name}" for name in _SCHEMAS]
    assert {schema_id(entry.source, entry.name) for entry in catalogue()} < set(ids)


@pytest.mark.parametrize("dialect", _DIALECTS)
def test_schema_is_valid_in_both_dialects(dialect: type[Validator]) -> None:
    with each_case() as case:
        for name, schema in _SCHEMAS.items():
            with case(name):
                dialect.check_schema(schema)


@pytest.mark.parametrize("dialect", _DIALECTS)
def test_example_follows_its_schema(dialect: type[Validator]) -> None:
    with each_case() as case:
        for name, envelope in _EXAMPLES.items():
            with case(name):
                dialect(_schema_of(envelope)).validate(_value(envelope))


def test_schema_promises_every_field_with_its_meaning() -> None:
    with each_case() as case:
        for entry in catalogue():
            schema = _SCHEMAS[schema_id(entry.source, entry.name).rpartition(":")[2]]
            promised = schema["$defs"]["body"]["properties"]
            with case(entry.name):
                assert list(promised) == list(entry.fields)
                assert all(len(field["description"]) > 3 for field in promised.values())
                assert all("null" in field["type"] for field in promised.values())


def _passes(change: dict[str, Any], *, body: dict[str, Any] | None = None) -> set[bool]:
    """Whether a changed example passes its schema, by either dialect."""
    value = _value(_EXAMPLES["live-events.grade-change"])
    value["metadata"] |= change
    value["body"] |= body or {}
    schema = _SCHEMAS["live-events.grade-change.v1"]
    return {dialect(schema).is_valid(value) for dialect in _DIALECTS}


@pytest.mark.parametrize(
    ("metadata", "body"),
    [
        ({}, {"score": "eleven"}),
        ({}, {"grading_complete": "yes"}),
        ({}, {"submission_id": 7}),
        ({"issues": ["body.grade"]}, {"score": "eleven"}),
        ({"issues": ["body.score.x"]}, {"score": "eleven"}),
        ({"hostname": 5}, {}),
        ({"event_time": "yesterday"}, {}),
        ({"hostname": 5, "issues": ["body.score"]}, {}),
        ({"event_id": "7e"}, {}),
        ({"event_id": 5, "issues": ["metadata.event_id"]}, {}),
        ({"event_type": "course_created"}, {}),
        ({"source": "pns"}, {}),
        ({"issues": "body.score"}, {"score": "eleven"}),
        ({"format": "caliper"}, {"actor": "somebody"}),
    ],
)
def test_value_of_another_type_fails_where_it_is_not_named(
    metadata: dict[str, Any], body: dict[str, Any]
) -> None:
    assert _passes(metadata, body=body) == {False}


@pytest.mark.parametrize(
    ("metadata", "body"),
    [
        ({}, {}),
        ({}, {"score": None, "submission_id": None}),
        ({}, {"never_heard_of": {"a": [1]}}),
        ({"never_heard_of": 5}, {}),
        ({"hostname": None, "event_time": None}, {}),
        ({"issues": ["body.score"]}, {"score": "eleven"}),
        ({"issues": ["body.score", "body.grade"]}, {"score": [], "grade": 5}),
        ({"event_time": "yesterday", "issues": ["metadata.event_time"]}, {}),
        ({"event_time": "2026-01-01T00:00:00.123456789Z"}, {}),
        ({"hostname": 5, "issues": ["metadata.hostname"]}, {}),
        ({"format": "caliper"}, {"score": "eleven"}),
        ({"format": "caliper", "issues": ["body.actor"]}, {"actor": "somebody"}),
    ],
)
def test_what_the_contract_allows_passes(metadata: dict[str, Any], body: dict[str, Any]) -> None:
    assert _passes(metadata, body=body) == {True}


def test_every_topic_is_a_channel_of_the_asyncapi_document() -> None:
    channels = document("1.2.3", schemas_at="schemas")["channels"].values()
    addresses = [channel["address"].replace("{prefix}", "campus") for channel in channels]
    assert addresses == ingest_topics("campus")


def test_asyncapi_document_refers_to_files_that_are_there() -> None:
    messages = json.loads((COMMITTED / "asyncapi.json").read_text())["components"]["messages"]
    assert all((COMMITTED / m["payload"]["$ref"]).is_file() for m in messages.values())


def test_headers_of_a_record_are_those_that_the_asyncapi_document_names() -> None:
    components = document("1", schemas_at="schemas")["components"]
    common = components["schemas"]["cloudEventHeaders"]
    with each_case() as case:
        for name, envelope in _EXAMPLES.items():
            schema = _schema_of(envelope)["$id"].rpartition(":")[2]
            own = components["messages"][schema]["headers"]["allOf"][1]
            record = encode(envelope, prefix="p", traceparent="00-0-0-01")
            headers = {header: value.decode() for header, value in record.headers}
            with case(name):
                assert headers.keys() <= common["properties"].keys()
                for expected in (common, own):
                    Draft202012Validator(expected).validate(headers)
