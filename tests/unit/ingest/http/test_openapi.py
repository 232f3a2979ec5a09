"""The description of the public API."""

import json

from openapi_spec_validator import validate

from ingest.contract.envelope import SOURCES
from ingest.errors import REFUSALS, MethodNotAllowed, NotFound
from ingest.http.openapi import document


def test_document_is_valid_openapi() -> None:
    validate(json.loads(json.dumps(document())))


def test_both_endpoints_are_described() -> None:
    paths = document()["paths"]
    assert set(paths) == {f"/{source}{end}" for source in SOURCES for end in ("", "/{slug}")}
    assert all(set(path) - {"parameters"} == {"post"} for path in paths.values())


def test_every_reason_is_listed() -> None:
    listed = document()["components"]["schemas"]["Problem"]["properties"]["reason"]["enum"]
    assert sorted(listed) == sorted(kind.reason for kind in REFUSALS)


def test_every_status_of_a_post_is_described_with_its_reasons() -> None:
    answered = [kind for kind in REFUSALS if kind not in (NotFound, MethodNotAllowed)]
    for path in document()["paths"].values():
        responses = path["post"]["responses"]
        assert set(responses) == {"202", *(str(kind.status) for kind in answered)}
        for kind in answered:
            assert f"`{kind.reason}`" in responses[str(kind.status)]["description"]


def test_retry_after_is_described_for_503_only() -> None:
    responses = document()["paths"]["/pns"]["post"]["responses"]
    assert [status for status, answer in responses.items() if "headers" in answer] == ["503"]
