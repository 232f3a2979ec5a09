"""JSON values to what columns hold."""

import json
from datetime import datetime
from typing import Any

import orjson

from ingest.contract.moments import moment
from ingest.contract.tables import ColumnType

_INT64 = range(-(2**63), 2**63)


class Misfit(Exception):
    """The value cannot be held by a column of this type."""


def fit(value: Any, column: ColumnType) -> Any:
    """What a column of this type holds for a JSON value; null stays None. Raises Misfit."""
    if value is None:
        return None
    match column:
        case "TEXT":
            return _text(value)
        case "BIGINT":
            return _bigint(value)
        case "DOUBLE":
            return _double(value)
        case "BOOLEAN":
            return _boolean(value)
        case "TIMESTAMPTZ":
            return _moment(value)
        case "JSON":
            return as_json(value)


def fit_or_null(value: Any, column: ColumnType) -> Any:
    """As `fit`, with None for what cannot be held."""
    try:
        return fit(value, column)
    except Misfit:
        return None


def text_or_null(value: Any) -> str | None:
    """As `fit_or_null` for a column of type TEXT, and quick for what is text already."""
    if value is None or isinstance(value, str):
        return value
    text: str | None = fit_or_null(value, "TEXT")
    return text


def fit_again(value: Any, was: ColumnType, now: ColumnType) -> Any:
    """What a column of type `now` holds for what was fit for one of type `was`. Raises Misfit."""
    if value is None or was == now:
        return value
    return fit(_unfit(value, was), now)


def natural_type(value: Any) -> ColumnType:
    """The type of a column that is made for a value of no declared type, which is not null."""
    match value:
        case bool():
            return "BOOLEAN"
        case int() | float():
            return "DOUBLE"  # the first of its kind may be whole by chance
        case str():
            return "TEXT"
    return "JSON"


def as_text_again(value: Any, was: ColumnType) -> str:
    """As `as_text`, of what was fit for a column of type `was`."""
    return as_text(_unfit(value, was))


def as_text(value: Any) -> str:
    """Any JSON value as text: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """Any JSON value as compact JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, which orjson does not write
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _unfit(value: Any, was: ColumnType) -> Any:
    """The JSON value that was fit for a column of type `was`."""
    if isinstance(value, datetime):
        return value.isoformat()
    return orjson.loads(value) if was == "JSON" else value


def _text(value: Any) -> str:
    # ids have come as numbers too; as text they still join
    if isinstance(value, str | int | float):
        return as_text(value)
    raise Misfit


def _bigint(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise Misfit
    if int(value) not in _INT64:
        raise Misfit
    return int(value)


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit
    try:
        number = float(value)
    except OverflowError:
        raise Misfit from None
    if number != value:
        raise Misfit
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misfit
    return value


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise Misfit
    try:
        return moment(value)
    except ValueError:
        raise Misfit from None
