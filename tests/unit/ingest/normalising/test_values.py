"""How one JSON value becomes its declared type, and what happens to the rest."""

import math
from typing import Any

import pytest

from ingest.contract.catalogue import FieldType
from ingest.normalising.issues import Issues
from ingest.normalising.values import (
    Declared,
    by_shape,
    field,
    fields,
    timestamp,
    visible,
)
from ingest.values import HugeNumber

_INT64_MAX = 2**63 - 1


def _coerced(declared: FieldType | None, value: Any, name: str = "x") -> tuple[Any, Issues]:
    issues: Issues = []
    return field(declared, name, value, f"body.{name}", issues), issues


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("id", "7", "7"),
        ("id", "", ""),
        ("id", "sis:größe", "sis:größe"),
        ("id", 7, "7"),
        ("id", 9_010_000_000_000_123, "9010000000000123"),
        ("id", 10**30, "1" + "0" * 30),
        ("ids", [], []),
        ("ids", ["1", 2, None], ["1", "2", None]),
        ("string", "007", "007"),
        ("integer", 7, 7),
        ("integer", "7", 7),
        ("integer", "-12", -12),
        ("integer", 7.0, 7),
        ("integer", _INT64_MAX, _INT64_MAX),
        ("integer", str(-(2**63)), -(2**63)),
        ("number", 7, 7),
        ("number", 0.1, 0.1),
        ("number", "7", 7),
        ("number", "92.50", 92.5),
        ("number", "-0.1", -0.1),
        ("number", 1e300, 1e300),
        ("boolean", True, True),
        ("boolean", False, False),
        ("timestamp", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("object", {"a": 1}, {"a": 1}),
        ("object", {"a_id": 1}, {"a_id": "1"}),
        ("array", [1, "a", None], [1, "a", None]),
    ],
)
def test_value_that_fits_takes_its_declared_type(
    declared: FieldType, value: Any, expected: Any
) -> None:
    result, issues = _coerced(declared, value)
    assert (result, type(result)) == (expected, type(expected))
    assert issues == []


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("id", True),
        ("id", 1.5),
        ("id", {"id": "1"}),
        ("id", ["1"]),
        ("ids", "1"),
        ("ids", ["1", True]),
        ("ids", [["1"]]),
        ("ids", {"a": "1"}),
        ("string", 7),
        ("string", False),
        ("string", ["a"]),
        ("string", {"a": 1}),
        ("integer", ""),
        ("integer", "7.0"),
        ("integer", "seven"),
        ("integer", "\u0667"),
        ("integer", " 7"),
        ("integer", "9223372036854775808"),
        ("integer", 7.5),
        ("integer", 1e300),
        ("integer", True),
        ("number", ""),
        ("number", "A-"),
        ("number", "1e5"),
        ("number", "0.12345678901234567890"),
        ("number", "123456789012345.6789"),
        ("number", "\u0667"),
        ("number", True),
        ("number", {"a": 1}),
        ("boolean", "true"),
        ("boolean", 1),
        ("boolean", 0),
        ("timestamp", "soon"),
        ("timestamp", ""),
        ("timestamp", 1_790_000_000),
        ("object", [1]),
        ("object", "text"),
        ("array", {"a": 1}),
        ("array", "text"),
    ],
)
def test_value_that_does_not_fit_stays_as_it_came_and_is_named(
    declared: FieldType, value: Any
) -> None:
    result, issues = _coerced(declared, value)
    assert (result, type(result)) == (value, type(value))
    assert issues == ["body.x"]


@pytest.mark.parametrize(
    "declared",
    ["id", "ids", "string", "integer", "number", "boolean", "timestamp", "object", "array", None],
)
def test_null_fits_every_type(declared: FieldType | None) -> None:
    assert _coerced(declared, None) == (None, [])


@pytest.mark.parametrize("declared", ["integer", "number", "string", "boolean", None])
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**100])
def test_integer_beyond_int64_becomes_text_and_is_named_once(
    declared: FieldType | None, value: int
) -> None:
    assert _coerced(declared, value) == (str(value), ["body.x"])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("id", 5, "5"),
        ("user_id", 5, "5"),
        ("user_id", "5", "5"),
        ("user_ids", [5, "6"], ["5", "6"]),
        ("user_ids", 5, 5),
        ("identity", 5, 5),
        ("void", 5, 5),
        ("ids", [5], [5]),
        (
            "thing",
            {"id": 5, "list": [{"x_id": 6}], "n": 7},
            {"id": "5", "list": [{"x_id": "6"}], "n": 7},
        ),
        ("user_id", True, True),
        ("user_id", {"id": 1}, {"id": "1"}),
    ],
)
def test_undeclared_ids_are_known_by_their_names(name: str, value: Any, expected: Any) -> None:
    result, issues = _coerced(None, value, name)
    assert (result, type(result)) == (expected, type(expected))
    assert issues == []


def test_numbers_inside_are_named_by_their_whole_path() -> None:
    issues: Issues = []
    value = by_shape({"a": [1, {"b": 2**64}], "c_id": 2**70}, "body.x", issues)
    assert value == {"a": [1, {"b": str(2**64)}], "c_id": str(2**70)}
    assert issues == ["body.x.a[1].b"]


def test_fields_of_an_object_are_coerced_one_by_one() -> None:
    issues: Issues = []
    declared = Declared({"points": "number", "at": "timestamp"})
    signed = {"points": "4.5", "at": "never", "course_id": 3, "title": "x"}
    assert fields(declared, signed, "body", issues) == {
        "points": 4.5,
        "at": "never",
        "course_id": "3",
        "title": "x",
    }
    assert issues == ["body.at"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100Z"),
        ("2026-01-02T03:04:05.123Z", "2026-01-02T03:04:05.123Z"),
        ("2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05.123000Z", "2026-01-02T03:04:05.123Z"),
        ("2026-01-02T03:04:05-06:00", "2026-01-02T09:04:05.000Z"),
        ("2026-01-02T03:04:05.5+05:45", "2026-01-01T21:19:05.500Z"),
        ("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00.000Z"),
        ("2026-01-02 03:04:05 -0600", "2026-01-02T09:04:05.000Z"),
        ("2026-01-02 03:04:05 UTC", "2026-01-02T03:04:05.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("2024-02-29T12:00:00+00:00", "2024-02-29T12:00:00.000Z"),
    ],
)
def test_time_becomes_utc_with_milliseconds(text: str, expected: str) -> None:
    assert timestamp(text) == expected
    assert timestamp(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "019-11-01T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-13-01T03:04:05Z",
        "2026-01-02T25:04:05Z",
        "2026-01-02T03:04:05+25:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-01-02T03:04:05z ",
        "2026-01-02T03:04:05Z\n",
        "٢٠٢٦-01-02T03:04:05Z",
        "2026-01-02T03:04:05.1234567890Z",
        "2026-01-02T03:04:05 Europe/Berlin",
        "1790000000",
    ],
)
def test_what_is_no_moment_is_none(text: str) -> None:
    assert timestamp(text) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x00b", "a\\u0000b"),
        ("\ud800", "\\ud800"),
        ("\udfff", "\\udfff"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (HugeNumber("1e400"), "1e400"),
    ],
)
def test_what_stores_refuse_becomes_text_and_is_named(value: Any, shown: str) -> None:
    issues: Issues = []
    assert visible({"a": [0, value]}, "body", issues) == {"a": [0, shown]}
    assert issues == ["body.a[1]"]
    assert type(visible(value, "body", [])) is str


def test_name_that_stores_refuse_is_shown_too() -> None:
    issues: Issues = []
    assert visible({"a\x00": 1}, "body", issues) == {"a\\u0000": 1}
    assert issues == ["body.a\\u0000"]


@pytest.mark.parametrize("value", ["🌊", "\\u0000", 1.5, 2**70, True, None, {}, [], {"a": [{}]}])
def test_what_stores_take_is_left_alone(value: Any) -> None:
    issues: Issues = []
    assert visible(value, "body", issues) == value
    assert issues == []


def test_names_that_become_alike_keep_both_values() -> None:
    shown = visible({"\x00": 1, "\\u0000": 2}, "body", [])
    assert sorted(shown.values()) == [1, 2]
