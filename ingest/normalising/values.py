"""How a JSON value becomes its declared type; what cannot stays as it came and is named."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from ingest.contract.catalogue import FieldType, catalogue
from ingest.contract.envelope import Source
from ingest.normalising.free_names import FreeNames
from ingest.normalising.issues import Issues, Path, note, path_text
from ingest.values import HugeNumber

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_CONTAINERS = (dict, list)
_CHANGELESS: frozenset[type] = frozenset({str, bool, float, type(None)})
_VISIBLE: frozenset[type] = frozenset({int, bool, type(None)})
_PLAIN_TEXT: frozenset[FieldType] = frozenset({"string", "id"})
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))? ?(Z|UTC|[+-]\d\d:?\d\d)", re.ASCII
)
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def timestamp(text: str) -> str | None:
    """A time as RFC 3339 in UTC with milliseconds, or None where it is none or names no zone.

    Digits beyond milliseconds are kept where they are not zero. Canvas writes `Z` with and without
    fractions, numeric offsets, and Ruby's `2026-01-02 03:04:05 -0600`.
    """
    # as Canvas writes most of them; a date with a week in it has its second hyphen elsewhere
    if len(text) == 24 and text[7] == "-" and text[10] == "T" and text[19::4] == ".Z":
        try:
            datetime.fromisoformat(text)
        except ValueError:
            return None
        return text
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    date, clock, fraction, zone = match.groups()
    try:
        moment = f"{date}T{clock}"
        parsed = datetime.fromisoformat(moment)
        if zone not in ("Z", "UTC"):
            offset = datetime.strptime(zone, "%z").tzinfo
            moment = parsed.replace(tzinfo=offset).astimezone(UTC).isoformat()[:-6]
    except (ValueError, OverflowError):
        return None
    digits = (fraction or "").rstrip("0").ljust(3, "0")
    return f"{moment}.{digits}Z"


def visible(value: Any, path: Path, issues: Issues) -> Any:
    """A copy in which everything that stores refuse has become text that shows what it was.

    Lone surrogates and NUL turn into their JSON escapes, NaN and infinities into their names.
    """
    if isinstance(value, dict):
        return _visible_members(value, path, issues)
    if isinstance(value, list):
        if _VISIBLE.issuperset(map(type, value)):
            return value
        return [visible(child, (path, n), issues) for n, child in enumerate(value)]
    if isinstance(value, HugeNumber):
        note(issues, path)
        return str(value)
    if isinstance(value, str):
        return _visible_text(value, path, issues)
    if isinstance(value, float) and not math.isfinite(value):
        note(issues, path)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class Declared:
    """The types of an object's members."""

    __slots__ = ("coerced", "types")

    def __init__(self, types: Mapping[str, FieldType]) -> None:
        self.types = types
        # the others' texts stay as they are
        self.coerced = frozenset(n for n, kind in types.items() if kind not in _PLAIN_TEXT)


UNDECLARED = Declared({})


@cache
def body_types() -> Mapping[tuple[Source, str], Declared]:
    """The types of all known bodies, by source and event type."""
    return {(entry.source, entry.name): Declared(entry.fields) for entry in catalogue()}


def fields(
    declared: Declared, signed: Mapping[str, Any], at: str, issues: Issues
) -> dict[str, Any]:
    """All members of an object whose path is `at`, each by its declared type where it has one."""
    result = dict(signed)
    types, coerced = declared.types, declared.coerced
    for name, value in signed.items():
        # most values are texts that stay, or null
        if type(value) is str:
            if name not in coerced:
                continue
        elif value is None:
            continue
        kind = types.get(name)
        if kind is not None:
            fitting = _COERCIONS[kind](value)
            # most others fit and hold nothing: no path
            if fitting is not _MISFIT and type(fitting) not in _CONTAINERS:
                result[name] = fitting
                continue
        result[name] = field(kind, name, value, (at, name), issues)
    return result


def field(declared: FieldType | None, name: str, value: Any, path: Path, issues: Issues) -> Any:
    """A field's value as its declared type, or by its name and shape where none is declared."""
    if value is None:
        return None
    if declared is None:
        return _member(name, value, path, issues)
    result = _COERCIONS[declared](value)
    if result is _MISFIT:
        issues.append(path_text(path))
        return by_shape(value, path, [])
    return by_shape(result, path, issues) if isinstance(result, _CONTAINERS) else result


def by_shape(value: Any, path: Path, issues: Issues) -> Any:
    """A value of no declared type: ids inside it become text, numbers beyond int64 too."""
    if isinstance(value, dict):
        return {
            # as in `fields`: a text is itself under any name
            name: child if type(child) is str else _member(name, child, (path, name), issues)
            for name, child in value.items()
        }
    if isinstance(value, list):
        if _all_stay(value):
            return value
        return [
            child if type(child) in _CHANGELESS else by_shape(child, (path, n), issues)
            for n, child in enumerate(value)
        ]
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        note(issues, path)
        return str(value)
    return value


def _all_stay(values: list[Any]) -> bool:
    types = set(map(type, values))
    if types == {int}:
        least, greatest = int(min(values)), int(max(values))
        return least >= INT64_MIN and greatest <= INT64_MAX
    return types <= _CHANGELESS


def _member(name: str, value: Any, path: Path, issues: Issues) -> Any:
    if type(value) in _CHANGELESS:
        return value
    # ids by name, as canvas-lms finds them (gems/stringify_ids)
    if name == "id" or name.endswith("_id"):
        return _id_or_as_is(value, path, issues)
    if name.endswith("_ids") and isinstance(value, list):
        if (ids := _ids(value)) is not _MISFIT:
            return ids
        return [_id_or_as_is(child, (path, n), issues) for n, child in enumerate(value)]
    return by_shape(value, path, issues)


def _id_or_as_is(value: Any, path: Path, issues: Issues) -> Any:
    result = _id(value)
    return by_shape(value, path, issues) if result is _MISFIT else result


class _Misfit:
    """Marks a value that does not fit its declared type."""


_MISFIT = _Misfit()


def _id(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _MISFIT


def _ids(value: Any) -> Any:
    if not isinstance(value, list):
        return _MISFIT
    if set(map(type, value)) == {int}:
        return list(map(str, value))
    ids = [child if child is None else _id(child) for child in value]
    return _MISFIT if _MISFIT in ids else ids


def _string(value: Any) -> Any:
    return value if isinstance(value, str) else _MISFIT


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return _MISFIT
    return value if INT64_MIN <= value <= INT64_MAX else _MISFIT


def _number(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = _exact_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _MISFIT
    fits = isinstance(value, float) or INT64_MIN <= value <= INT64_MAX
    return value if fits else _MISFIT


def _exact_number(text: str) -> int | float | str:
    if "." not in text:
        return int(text)
    try:
        number = float(text)
        return number if Decimal(repr(number)) == Decimal(text) else text
    except InvalidOperation:
        return text


def _boolean(value: Any) -> Any:
    return value if isinstance(value, bool) else _MISFIT


def _timestamp(value: Any) -> Any:
    if not isinstance(value, str):
        return _MISFIT
    return timestamp(value) or _MISFIT


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else _MISFIT


def _array(value: Any) -> Any:
    return value if isinstance(value, list) else _MISFIT


_COERCIONS: Mapping[FieldType, Callable[[Any], Any]] = {
    "id": _id,
    "ids": _ids,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "object": _object,
    "array": _array,
}


def _visible_members(members: Mapping[str, Any], path: Path, issues: Issues) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    names = FreeNames()
    escaped = [(name, _escaped(name)) for name in members]
    # names that need no change keep theirs, whatever others turn into
    for name, wanted in sorted(escaped, key=lambda pair: pair[0] != pair[1]):
        free = names.give(wanted)
        if free != name:
            note(issues, (path, free))
        shown[free] = visible(members[name], (path, free), issues)
    return shown


def _visible_text(text: str, path: Path, issues: Issues) -> str:
    shown = _escaped(text)
    if shown != text:
        note(issues, path)
    return shown


def _escaped(text: str) -> str:
    return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
