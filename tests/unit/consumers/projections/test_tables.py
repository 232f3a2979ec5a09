"""Envelopes to rows."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.projections import all_tables
from consumers.projections.course_copies import course_copy_rows
from consumers.projections.events import event_rows
from consumers.projections.typed import TypedTables
from consumers.values import Row
from ingest.contract.caliper import Shape
from ingest.contract.catalogue import Catalogue, EventType, FieldType, catalogue
from ingest.contract.envelope import Envelope
from ingest.contract.tables import EVENTS_COLUMNS, MAX_NAME_BYTES, TYPED_HEAD, column_names
from tests.unit.consumers.builders import copy_notice, event_id, live_event

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def tables_for(name: str = "gate_opened", **fields: FieldType) -> TypedTables:
    entry = EventType(source="live-events", name=name, about="A gate opened.", fields=fields)
    return TypedTables(Catalogue(iter([entry])))


def typed_row(body: Mapping[str, Any], **fields: FieldType) -> Row:
    (row,) = tables_for(**fields).rows(live_event(1, "gate_opened", body))
    return row


class TestEvents:
    def test_an_event_is_kept_whole(self) -> None:
        envelope = live_event(3, body={"name": "Weirs", "odd": [1, {"a": None}]}, hostname="h")
        (row,) = event_rows(envelope)
        assert row.table == "events"
        assert row.values.keys() == EVENTS_COLUMNS.keys()
        assert json.loads(row.values["body"]) == envelope.body
        assert json.loads(row.values["metadata"]) == envelope.metadata

    def test_common_metadata_are_columns(self) -> None:
        (row,) = event_rows(live_event(3, context_id="88", producer="canvas"))
        assert row.values["event_id"] == event_id(3)
        assert row.values["user_id"] == "4711"
        assert row.values["context_id"] == "88"
        assert row.values["subscription_id"] is None
        received, happened = row.values["received_at"], row.values["event_time"]
        assert received - happened == timedelta(seconds=2)

    def test_an_unreadable_time_is_null_and_stays_in_metadata(self) -> None:
        (row,) = event_rows(live_event(3, event_time="019-11-01T00:00:00Z"))
        assert row.values["event_time"] is None
        assert json.loads(row.values["metadata"])["event_time"] == "019-11-01T00:00:00Z"

    def test_unknown_types_have_a_row(self) -> None:
        (row,) = event_rows(live_event(3, "sluice_jammed"))
        assert row.values["event_type"] == "sluice_jammed"


class TestTyped:
    def test_fields_are_columns_of_their_types(self) -> None:
        row = typed_row(
            {"gate_id": "9", "width": 2.5, "crew": ["1"], "at": "2026-09-07T06:30:00Z"},
            gate_id="id", width="number", crew="ids", at="timestamp", open="boolean",
        )  # fmt: skip
        assert row.table == "gate_opened"
        assert dict(list(row.columns.items())[len(TYPED_HEAD) :]) == {
            "gate_id": "TEXT",
            "width": "DOUBLE",
            "crew": "JSON",
            "at": "TIMESTAMPTZ",
            "open": "BOOLEAN",
        }
        assert (row.values["gate_id"], row.values["width"]) == ("9", 2.5)
        assert row.values["crew"] == '["1"]'
        assert row.values["open"] is None

    def test_every_table_begins_with_whose_and_when(self) -> None:
        row = typed_row({}, gate_id="id")
        assert list(row.columns) == [
            "event_id", "event_time", "received_at", "tenant", "format", "trigger",
            "actor_id", "actor_login", "context_type", "context_id", "course_id", "gate_id",
        ]  # fmt: skip
        assert row.values["actor_id"] == "4711"
        assert row.values["tenant"] == "north"

    def test_the_metadata_say_who_acted_and_where(self) -> None:
        event = live_event(
            1, "gate_opened", {}, trigger="user", user_login="l.b", context_type="Group",
            context_id=f"7{88:013}",
        )  # fmt: skip
        (row,) = tables_for(gate_id="id").rows(event)
        told = [row.values[name] for name in ("trigger", "actor_login", "format")]
        assert told == ["user", "l.b", "canvas"]
        assert (row.values["context_type"], row.values["context_id"]) == ("Group", f"7{88:013}")
        assert row.values["course_id"] is None

    def test_a_value_that_does_not_fit_goes_to_its_text_column(self) -> None:
        row = typed_row({"width": "wide", "depth": {"m": 3}}, width="number", depth="integer")
        assert row.values.get("width") is None
        assert row.values["width__text"] == "wide"
        assert row.values["depth__text"] == '{"m":3}'
        assert row.columns["width__text"] == row.columns["depth__text"] == "TEXT"

    def test_a_text_column_is_there_only_where_it_is_needed(self) -> None:
        assert "width__text" not in typed_row({"width": 3}, width="number").columns

    def test_fields_that_the_catalogue_lacks_wait_for_a_column(self) -> None:
        row = typed_row({"gate_id": "9", "colour": "red"}, gate_id="id")
        assert "colour" not in row.columns
        assert "colour" not in row.values
        assert row.unknown == {"colour": "red"}

    def test_names_that_are_taken_are_numbered(self) -> None:
        row = typed_row({"tenant": "lessee"}, tenant="string")
        assert row.values["tenant"] == "north"
        assert row.values["tenant__2"] == "lessee"

    def test_fields_of_other_names_of_the_head_are_numbered(self) -> None:
        row = typed_row(
            {"format": "pdf", "trigger": "knock", "context_id": "own"},
            format="string", trigger="string", context_id="id",
        )  # fmt: skip
        assert row.values["format"] == "canvas"
        assert (row.values["format__2"], row.values["trigger__2"]) == ("pdf", "knock")
        assert (row.values["context_id"], row.values["context_id__2"]) == (None, "own")

    def test_unknown_types_have_no_typed_row(self) -> None:
        assert list(tables_for(gate_id="id").rows(live_event(1, "sluice_jammed"))) == []

    def test_caliper_events_have_a_table_of_their_own(self) -> None:
        shape = Shape(type="Event", action="Opened", object="Entity", prefix="urn")
        entry = EventType(
            source="live-events",
            name="gate_opened",
            about="x",
            fields={"gate_id": "id"},
            caliper=(shape,),
        )
        tables = TypedTables(
            Catalogue(
                iter([entry]), {"type": "string", "eventTime": "timestamp", "actor": "object"}
            )
        )
        body = {"type": "Event", "eventTime": "2026-09-07T06:30:00Z", "actor": {"id": "urn:x:1"}}
        (row,) = tables.rows(live_event(1, "gate_opened", body=body, format="caliper"))
        assert row.table == "gate_opened__caliper"
        assert dict(list(row.columns.items())[len(TYPED_HEAD) :]) == {
            "type": "TEXT",
            "eventtime": "TIMESTAMPTZ",
            "actor": "JSON",
        }
        assert row.values["actor"] == '{"id":"urn:x:1"}'
        assert row.values["eventtime"].isoformat() == "2026-09-07T06:30:00+00:00"
        assert not row.repeats_keep_time

    def test_caliper_events_of_no_known_shape_have_no_typed_row(self) -> None:
        envelope = live_event(1, "gate_opened", format="caliper")
        assert list(tables_for(gate_id="id").rows(envelope)) == []


class TestNames:
    def test_names_are_lower_case_words(self) -> None:
        assert column_names(["Gate ID", "größe", "a-b"], taken=()) == {
            "Gate ID": "gate_id",
            "größe": "gr__e",
            "a-b": "a_b",
        }

    def test_equal_names_are_numbered_in_order(self) -> None:
        assert list(column_names(["a b", "A_B", "a-b"], taken=["x"]).values()) == [
            "a_b",
            "a_b__2",
            "a_b__3",
        ]

    def test_a_text_column_is_never_taken(self) -> None:
        names = column_names(["width", "width__text"], taken=())
        assert names == {"width": "width", "width__text": "width__text__2"}
        assert column_names(["width__text", "width"], taken=())["width"] == "width__2"

    def test_long_names_are_cut_and_told_apart(self) -> None:
        first, second = column_names(["x" * 60 + "a", "x" * 60 + "b"], taken=()).values()
        assert (first[-3:], second[-3:]) == ("__2", "__3")
        assert len(first) == len(second) == MAX_NAME_BYTES

    @given(st.lists(st.text(max_size=70), unique=True))
    def test_names_are_distinct_short_and_plain(self, fields: list[str]) -> None:
        names = list(column_names(fields, taken=["event_id"]).values())
        texts = [name + "__text" for name in names]
        assert len({*names, *texts, "event_id"}) == 2 * len(fields) + 1
        assert all(1 <= len(name) <= MAX_NAME_BYTES and name.isascii() for name in names)


class TestCourseCopies:
    def test_a_copy_names_both_courses(self) -> None:
        (row,) = course_copy_rows(copy_notice(5))
        assert row.table == "course_copies"
        assert row.values["context_id"] == "new-5"
        assert row.values["context_title"] == "Hydraulics II"
        assert row.values["origin_context_id"] == "old-5"
        assert row.values["client_id"] == "30000000000071"
        assert not row.repeats_keep_time

    def test_all_origins_are_kept(self) -> None:
        body = {"context": {"id": "n"}, "origin_contexts": ["a", "b"]}
        (row,) = course_copy_rows(copy_notice(5, body))
        assert row.values["origin_context_id"] == "a"
        assert row.values["origin_context_ids"] == '["a","b"]'

    @pytest.mark.parametrize("body", [{}, {"context": "n", "origin_contexts": []}])
    def test_an_unknown_origin_is_null(self, body: dict[str, Any]) -> None:
        (row,) = course_copy_rows(copy_notice(5, body))
        assert row.values["origin_context_id"] is None

    def test_other_events_are_no_copies(self) -> None:
        assert list(course_copy_rows(live_event(1))) == []
        assert list(course_copy_rows(copy_notice(1, event_type="LtiHelloWorldNotice"))) == []


class TestAllTables:
    @pytest.mark.parametrize("entry", list(catalogue()), ids=lambda entry: str(entry.name))
    def test_every_known_type_has_its_table(self, entry: EventType) -> None:
        envelope = live_event(1, entry.name, {}, source=entry.source, format="canvas")
        tables = [row.table for row in all_tables(catalogue())(envelope)]
        assert tables[:2] == ["events", entry.table]

    def test_no_two_types_share_a_table(self) -> None:
        tables = [entry.table for entry in catalogue()]
        assert len(set(tables)) == len(tables)
        assert not {"events", "course_copies"} & set(tables)
        assert not any(name.startswith(("all_", "current_", "forebay_")) for name in tables)

    @given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), JSON)
    def test_no_body_is_too_odd(self, odd: dict[str, Any], value: Any) -> None:
        entry = next(iter(catalogue()))
        body = odd | dict.fromkeys(entry.fields, value)
        metadata = {**live_event(1, entry.name).metadata, "context_id": value, "tenant": value}
        for row in all_tables(catalogue())(Envelope(metadata, body)):
            assert row.values.keys() <= row.columns.keys()
            assert row.values["event_id"] == event_id(1)
