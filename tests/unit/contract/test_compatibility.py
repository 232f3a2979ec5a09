"""Which changes of the contract break those who built on it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from ingest.contract.describe.compatibility import breaks
from ingest.contract.describe.schemas import schemas

_NAME = "live-events.submission-created.v1"
Change = Callable[[dict[str, Any]], object]


def _fields(schema: dict[str, Any], part: str = "body") -> dict[str, Any]:
    fields: dict[str, Any] = schema["$defs"][part]["properties"]
    return fields


def _changed(change: Change) -> dict[str, Any]:
    schema = copy.deepcopy(schemas()[_NAME])
    change(schema)
    return {_NAME: schema}


_TODAY = {_NAME: schemas()[_NAME]}


def test_contract_is_compatible_with_itself() -> None:
    assert breaks(schemas(), schemas()) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s: _fields(s).pop("score"), "body.score is gone"),
        (lambda s: _fields(s, "metadata").pop("url"), "metadata.url is gone"),
        (
            lambda s: _fields(s)["score"].update(type=["string", "null"]),
            "body.score was number | null, is string | null",
        ),
        (
            lambda s: _fields(s)["submitted_at"].pop("format"),
            "body.submitted_at was string date-time | null, is string | null",
        ),
        (
            lambda s: _fields(s, "metadata")["issues"].pop("items"),
            "metadata.issues was array of (string), is array",
        ),
        (
            lambda s: _fields(s, "metadata")["tenant"].update(type=["string", "null"]),
            "metadata.tenant was string, is string | null",
        ),
        (
            lambda s: s["$defs"]["metadata"]["required"].remove("tenant"),
            "metadata.tenant is no longer always there",
        ),
    ],
)
def test_what_subscribers_could_stumble_over_is_named(change: Change, line: str) -> None:
    assert breaks(_TODAY, _changed(change)) == [f"{_NAME}: {line}"]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: _fields(s).update(new={"type": ["string", "null"]}),
        lambda s: _fields(s, "metadata").update(new={"type": "string"}),
        lambda s: s["$defs"]["metadata"]["required"].append("trigger"),
        lambda s: _fields(s)["score"].update(description="Other words."),
        lambda s: s.update(description="Other words."),
        lambda s: _fields(s, "metadata")["format"]["enum"].append("smoke"),
    ],
)
def test_additions_and_other_words_are_fine(change: Change) -> None:
    assert breaks(_TODAY, _changed(change)) == []


def test_topic_that_is_gone_is_named_once() -> None:
    assert breaks(_TODAY, {}) == [f"{_NAME}: the topic is gone"]


def test_new_topic_is_fine() -> None:
    assert breaks({}, _TODAY) == []
