"""Columns and rows in ClickHouse's types, without a server."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from consumers.sinks import clickhouse_types as types
from consumers.unknown_fields import TableColumns, fitted_rows
from ingest.contract.tables import ColumnType
from tests.suites.sinks import NOON, row

KINDS: tuple[ColumnType, ...] = ("TEXT", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ", "JSON")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["any", "tenant"])
def test_a_column_is_known_again_by_its_type_and_comment(kind: ColumnType, name: str) -> None:
    definition = types.definition(name, kind)
    sql_type, _, comment = definition.partition(" ")[2].partition(" comment ")
    assert types.column_type(sql_type, comment.strip("'")) == kind


def test_json_may_be_described_further() -> None:
    assert types.column_type("Nullable(String)", "JSON: as it came") == "JSON"
    assert types.column_type("Nullable(String)", "a JSON text") == "TEXT"


def test_type_that_is_none_of_ours_is_left_to_the_store() -> None:
    assert types.column_type("Array(String)", "") is None


def test_names_are_quoted() -> None:
    assert types.quoted("a`b\\c") == "`a\\`b\\\\c`"


def test_month_is_that_of_the_event_in_utc() -> None:
    early = datetime(2026, 10, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert types.month_of(row(1)) == 202609
    assert types.month_of(row(1, event_time=early)) == 202609


def test_rows_whose_repeats_may_move_have_no_month() -> None:
    assert types.month_of(row(1, keeps_time=False)) == types.ANY_MONTH
    assert types.month_of(row(1, event_time=None)) == types.ANY_MONTH
    assert types.month_of(row(1, event_time=datetime(1899, 12, 31, tzinfo=UTC))) == types.ANY_MONTH


def test_columns_without_a_value_are_not_sent() -> None:
    rows = [row(1, text="a"), row(2)]
    block = types.insertable(rows, types.held(fitted_rows(rows, TableColumns())))
    assert {name: column.values for name, column in block.items()} == {
        "event_id": ["id-0001", "id-0002"],
        "event_time": [
            (NOON - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + 60_000_000 * n
            for n in (1, 2)
        ],
        "text": ["a", None],
        types.KEEPS_TIME: [True, True],
    }
