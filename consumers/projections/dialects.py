"""What the stores' SQL has of its own: the few expressions that views need, and names of types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ingest.contract.tables import ColumnType

_CANVAS_ID = "^(?:urn:instructure:canvas:.*:)?([0-9]+)$"
"""An id of Canvas's, whole or at the end of its name in Caliper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Each function takes and gives SQL.

    `held` is a table's column as a value of the type that it has in the view, where the table may
    have another. `latest` is the value of the row with the greatest `forebay_nth` of a group, null
    included, of those rows alone that fulfil the condition, if there is one. `canvas_id` is the id
    in a text, or null. `json_at` is what JSON has at a path, or null.
    """

    types: Mapping[ColumnType, str]
    epoch: str
    by_id: str
    held: Callable[[str, str], str]
    latest: Callable[[str, str | None], str]
    is_number: Callable[[str], str]
    canvas_id: Callable[[str], str]
    json_at: Callable[[str, Sequence[str], ColumnType], str]

    def null(self, kind: ColumnType) -> str:
        """A null of this type."""
        return f"cast(null as {self.types[kind]})"


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text in SQL; none of ours has a backslash."""
    return "'" + value.replace("'", "''") + "'"


# --- DuckDB


def _duckdb_latest(value: str, condition: str | None) -> str:
    only = f" filter (where {condition})" if condition else ""
    return f"arg_max_null({value}, r.forebay_nth){only}"


def _duckdb_json(column: str, path: Sequence[str], kind: ColumnType) -> str:
    steps = "".join(f".{quoted(step)}" for step in path)
    found = f"json_extract_string({column}, {text('$' + steps)})"
    return found if kind == "TEXT" else f"try_cast({found} as {DUCKDB.types[kind]})"


DUCKDB = Dialect(
    types={
        "TEXT": "varchar",
        "BIGINT": "bigint",
        "DOUBLE": "double",
        "BOOLEAN": "boolean",
        "TIMESTAMPTZ": "timestamptz",
        "JSON": "json",
    },
    epoch="to_timestamp(0)",
    by_id="event_id",
    held=lambda column, kind: f"try_cast({column} as {kind})",
    latest=_duckdb_latest,
    is_number=lambda named: f"regexp_full_match({named}, '[0-9]+')",
    canvas_id=lambda named: f"nullif(regexp_extract({named}, {text(_CANVAS_ID)}, 1), '')",
    json_at=_duckdb_json,
)


# --- PostgreSQL, 16 or later


def _postgres_latest(value: str, condition: str | None) -> str:
    only = f" filter (where {condition})" if condition else ""
    return f"(array_agg({value} order by r.forebay_nth desc){only})[1]"


def _postgres_json(column: str, path: Sequence[str], kind: ColumnType) -> str:
    steps = ", ".join(text(step) for step in path)
    found = f"jsonb_extract_path_text({column}, {steps})"
    if kind == "TEXT":
        return found
    wanted = POSTGRES.types[kind]
    return f"case when pg_input_is_valid({found}, {text(wanted)}) then ({found})::{wanted} end"


POSTGRES = Dialect(
    types={
        "TEXT": "text",
        "BIGINT": "bigint",
        "DOUBLE": "double precision",
        "BOOLEAN": "boolean",
        "TIMESTAMPTZ": "timestamptz",
        "JSON": "jsonb",
    },
    epoch="to_timestamp(0)",
    by_id='event_id collate "C"',
    # it has no cast that gives null where it fails
    held=lambda column, kind: f"{column}::{kind}",
    latest=_postgres_latest,
    is_number=lambda named: f"{named} ~ '^[0-9]+$'",
    canvas_id=lambda named: f"substring({named} from {text(_CANVAS_ID)})",
    json_at=_postgres_json,
)


# --- ClickHouse


def _clickhouse_latest(value: str, condition: str | None) -> str:
    # it leaves nulls out unless they are in something
    if condition is None:
        return f"tupleElement(argMax(tuple({value}), r.forebay_nth), 1)"
    return f"tupleElement(argMaxIf(tuple({value}), r.forebay_nth, {condition}), 1)"


def _clickhouse_json(column: str, path: Sequence[str], kind: ColumnType) -> str:
    steps = ", ".join(text(step) for step in path)
    if kind == "TIMESTAMPTZ":
        found = f"JSONExtract({column}, {steps}, 'Nullable(String)')"
        return f"parseDateTime64BestEffortOrNull({found}, 6, 'UTC')"
    return f"JSONExtract({column}, {steps}, '{CLICKHOUSE.types[kind]}')"


def _never_null(kind: str) -> str:
    return kind.removeprefix("Nullable(").removesuffix(")")


CLICKHOUSE = Dialect(
    types={
        "TEXT": "Nullable(String)",
        "BIGINT": "Nullable(Int64)",
        "DOUBLE": "Nullable(Float64)",
        "BOOLEAN": "Nullable(Bool)",
        "TIMESTAMPTZ": "Nullable(DateTime64(6, 'UTC'))",
        "JSON": "Nullable(String)",
    },
    epoch="toDateTime64(0, 6, 'UTC')",
    by_id="event_id",
    held=lambda column, kind: f"accurateCastOrNull({column}, {text(_never_null(kind))})",
    latest=_clickhouse_latest,
    is_number=lambda named: f"match({named}, '^[0-9]+$')",
    canvas_id=lambda named: f"nullIf(extract({named}, {text(_CANVAS_ID)}), '')",
    json_at=_clickhouse_json,
)
