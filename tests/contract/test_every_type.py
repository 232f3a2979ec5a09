"""Every type of the catalogue, whole, empty and spoilt: nothing is lost on the way to its table.

What was signed is looked for again by a generic differ; topic, key, table and column are derived
here again from the catalogue, by the rules of the contract.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from consumers.projections import all_tables
from consumers.values import Row
from ingest.contract.caliper import Shape
from ingest.contract.catalogue import EventType, FieldType, catalogue
from ingest.contract.codec import decode, encode
from ingest.contract.envelope import Envelope
from ingest.contract.record import Record
from ingest.normalising import normalise
from ingest.values import Claims
from ingest.verifying.claims import check_form, format_of
from tests.contract import signed
from tests.support import builders
from tests.support.each import each_case
from tests.unit.ingest.normalising.lossless import lost, same

_LIVE_EVENTS = [entry for entry in catalogue() if entry.source == "live-events"]
_NOTICES = [entry for entry in catalogue() if entry.source == "pns"]
_SHAPES = [(entry, shape) for entry in catalogue() for shape in entry.caliper]
_project = all_tables(catalogue())


class _Trip:
    """One event from its claims to its rows. Fails where a signed leaf is not in the envelope."""

    def __init__(self, payload: dict[str, Any], entry: EventType) -> None:
        claims = _verified(payload, entry)
        check_form(claims)
        self.record: Record = encode(normalise(claims), prefix="campus")
        self.envelope: Envelope = decode(self.record)
        self.rows: Mapping[str, Row] = {row.table: row for row in _project(self.envelope)}
        assert lost(claims, self.envelope) == []

    @property
    def issues(self) -> list[str]:
        found: list[str] = self.envelope.metadata.get("issues", [])
        return found


def _verified(payload: dict[str, Any], entry: EventType) -> Claims:
    if entry.source == "pns":
        return builders.notice(payload)
    return builders.live_event(payload, format_=format_of(payload, entry.source))


def _topic(entry: EventType) -> str:
    return f"campus.{entry.source}.{_words(entry).replace('_', '-')}.v1"


def _table(entry: EventType) -> str:
    return re.sub("[^a-z0-9]", "_", _words(entry))


def _words(entry: EventType) -> str:
    name = entry.name
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower() if entry.source == "pns" else name


def _key(trip: _Trip, owner: str, entity: Any) -> bytes:
    is_id = isinstance(entity, str | int) and not isinstance(entity, bool) and entity != ""
    subject = str(entity) if is_id else None
    actor = trip.envelope.metadata.get("user_id")
    return f"{owner}:{subject or actor or trip.envelope.event_id}".encode()


def _entity(entry: EventType, body: Mapping[str, Any]) -> Any:
    value: Any = body if entry.key else None
    for step in entry.key:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _missing_from_row(
    row: Row, fields: Mapping[str, FieldType], body: Mapping[str, Any]
) -> set[str]:
    """Fields whose value is neither in their column nor, as text, in its overflow."""
    found: list[str] = []
    taken = {"event_id", "event_time", "received_at", "tenant", "format", "trigger"}
    taken |= {"actor_id", "actor_login"}
    if "context_type" not in fields:
        taken |= {"context_id"}
    for name, kind in fields.items():
        column = re.sub("[^a-z0-9_]", "_", name.lower())
        column = f"{column}__2" if column in taken else column
        if body.get(name) is None or _is_held(body[name], kind, row.values, column):
            found.append(name)
    return set(fields) - set(found)


def _is_held(value: Any, kind: FieldType, values: Mapping[str, Any], column: str) -> bool:
    held, overflow = values.get(column), values.get(f"{column}__text")
    if held is None:
        return overflow is not None and same(
            value, overflow if isinstance(value, str) else orjson.loads(overflow)
        )
    if overflow is not None:
        return False
    if kind in ("ids", "object", "array"):
        return same(value, orjson.loads(held))
    if kind == "timestamp":
        return same(value, held.isoformat().replace("+00:00", "Z"))
    # columns of text take numbers and truth values as text
    return same(value, held) or (isinstance(held, str) and same(value, orjson.loads(held)))


def _check(trip: _Trip, entry: EventType, owner: str, body: Mapping[str, Any]) -> None:
    assert trip.record.topic == _topic(entry)
    assert trip.record.key == _key(trip, owner, _entity(entry, body))
    assert list(trip.rows)[:2] == ["events", _table(entry)]
    assert _missing_from_row(trip.rows[_table(entry)], entry.fields, body) == set()


_WAYS = {"user": False, "system": True}


class TestLiveEvent:
    @pytest.mark.parametrize("way", _WAYS)
    def test_with_every_field(self, way: str) -> None:
        with each_case() as case:
            for entry in _LIVE_EVENTS:
                for choice in range(3):
                    with case(entry.name, choice):
                        trip = self._trip(entry, signed.full(entry, choice=choice), way)
                        assert trip.issues == []
                        assert trip.rows[entry.table].unknown == {}

    @pytest.mark.parametrize("way", _WAYS)
    def test_with_no_field_and_with_nulls(self, way: str) -> None:
        with each_case() as case:
            for entry in _LIVE_EVENTS:
                with case(entry.name, "empty"):
                    assert self._trip(entry, {}, way).issues == []
                with case(entry.name, "nulls"):
                    assert self._trip(entry, dict.fromkeys(entry.fields), way).issues == []

    @pytest.mark.parametrize("way", _WAYS)
    def test_with_each_field_of_a_wrong_type(self, way: str) -> None:
        with each_case() as case:
            for entry in _LIVE_EVENTS:
                for name, body in signed.spoilt(entry.fields, signed.full(entry)):
                    with case(entry.name, name, body[name]):
                        assert self._trip(entry, body, way).issues == [f"body.{name}"]

    @pytest.mark.parametrize("way", _WAYS)
    def test_with_a_field_that_is_new(self, way: str) -> None:
        new = {"never_heard_of": {"id": 5}}
        with each_case() as case:
            for entry in _LIVE_EVENTS:
                with case(entry.name):
                    trip = self._trip(entry, {**signed.full(entry), **new}, way)
                    assert trip.rows[entry.table].unknown == {"never_heard_of": {"id": "5"}}

    def _trip(self, entry: EventType, body: signed.Body, way: str) -> _Trip:
        trip = _Trip(signed.live_event(entry, body, system=_WAYS[way]), entry)
        assert trip.envelope.metadata["trigger"] == way
        _check(trip, entry, "set by the school", body)
        return trip


class TestNotice:
    def test_with_every_field(self) -> None:
        with each_case() as case:
            for entry in _NOTICES:
                for choice in range(3):
                    with case(entry.name, choice):
                        trip = self._trip(entry, signed.full(entry, choice=choice))
                        assert trip.issues == []
                        assert trip.rows[entry.table].unknown == {}

    def test_with_no_field_and_with_nulls(self) -> None:
        with each_case() as case:
            for entry in _NOTICES:
                with case(entry.name, "empty"):
                    assert self._trip(entry, {}).issues == []
                with case(entry.name, "nulls"):
                    assert self._trip(entry, dict.fromkeys(entry.fields)).issues == []

    def test_with_each_field_of_a_wrong_type(self) -> None:
        with each_case() as case:
            for entry in _NOTICES:
                fields = {name: kind for name, kind in entry.fields.items() if name != "notice"}
                for name, body in signed.spoilt(fields, signed.full(entry)):
                    with case(entry.name, name, body[name]):
                        assert self._trip(entry, body).issues == [f"body.{name}"]

    def _trip(self, entry: EventType, body: signed.Body) -> _Trip:
        trip = _Trip(signed.notice(entry, body), entry)
        whole = {"deployment_id": builders.DEPLOYMENT, **body}
        _check(trip, entry, builders.CLIENT, {n: v for n, v in whole.items() if n != "notice"})
        return trip


@pytest.mark.parametrize("way", _WAYS)
class TestCaliper:
    def test_with_every_field(self, way: str) -> None:
        with each_case() as case:
            for entry, shape in _SHAPES:
                with case(entry.name, shape):
                    trip = self._trip(entry, shape, signed.full_caliper(), way)
                    assert trip.issues == []
                    assert trip.rows[f"{entry.table}__caliper"].unknown == {}

    def test_with_nulls(self, way: str) -> None:
        nulls = dict.fromkeys(signed.full_caliper())
        with each_case() as case:
            for entry, shape in _SHAPES:
                with case(entry.name, shape):
                    assert self._trip(entry, shape, nulls, way).issues == []

    def test_with_each_field_of_a_wrong_type(self, way: str) -> None:
        body = signed.full_caliper()
        fields = {name: catalogue().caliper_fields[name] for name in body}
        with each_case() as case:
            for entry, shape in _SHAPES:
                for name, wrong in signed.spoilt(fields, body):
                    with case(entry.name, shape, name, wrong[name]):
                        trip = self._trip(entry, shape, wrong, way)
                        assert f"body.{name}" in trip.issues

    def _trip(self, entry: EventType, shape: Shape, body: signed.Body, way: str) -> _Trip:
        payload = signed.caliper(shape, body, system=_WAYS[way])
        trip = _Trip(payload, entry)
        event = payload["data"][0]
        table = f"{_table(entry)}__caliper"
        assert trip.envelope.event_type == entry.name
        assert trip.envelope.metadata["trigger"] == way
        assert trip.record.topic == _topic(entry)
        # of an object that Canvas has no id for, the type has no key either
        entity = "10000000000077" if entry.key else None
        assert trip.record.key == _key(trip, builders.ROOT_ACCOUNT, entity)
        assert list(trip.rows) == ["events", table]
        assert _missing_from_row(trip.rows[table], catalogue().caliper_fields, event) == set()
        return trip


def test_metadata_of_a_wrong_type_stay_and_are_named() -> None:
    entry = _LIVE_EVENTS[0]
    with each_case() as case:
        for way, system in _WAYS.items():
            good = signed.live_event(entry, {}, system=system)
            for name, payload in signed.spoilt_metadata(good):
                with case(way, name, payload["metadata"][name]):
                    assert _Trip(payload, entry).issues == [f"metadata.{name}"]
