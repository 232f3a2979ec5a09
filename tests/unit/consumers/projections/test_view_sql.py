"""The SQL of views in each dialect, as text: `sql/` has it as each engine was seen to take it."""

from pathlib import Path

import pytest

from consumers.projections.dialects import CLICKHOUSE, DUCKDB, POSTGRES, Dialect
from consumers.projections.view_sql import view_queries
from ingest.contract.views import views

DIALECTS = {"duckdb": DUCKDB, "postgres": POSTGRES, "clickhouse": CLICKHOUSE}
SHOWN = ("current_modules", "current_pages", "current_grades", "course_copies_by_course",
         "all_grade_change", "all_enrollment_state_updated")  # fmt: skip
_DIRECTORY = Path(__file__).parent / "sql"


def shown(dialect: Dialect) -> str:
    """The queries that are kept as text: one of each kind and type of column."""
    queries = view_queries(dialect, "canvas")
    return "\n\n".join(f"-- {name}\n{queries[name]};" for name in SHOWN) + "\n"


@pytest.mark.parametrize("name", DIALECTS)
def test_queries_are_as_they_were_seen_to_run(name: str) -> None:
    assert shown(DIALECTS[name]) == (_DIRECTORY / f"{name}.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DIALECTS)
def test_every_view_is_written_once_and_after_those_that_it_reads(name: str) -> None:
    queries = view_queries(DIALECTS[name], "canvas")
    assert list(queries) == [view.name for view in views()]
    made: set[str] = set()
    for view, query in queries.items():
        later = queries.keys() - made
        assert not any(f'"canvas"."{other}"' in query for other in later)
        made.add(view)


def test_names_are_quoted_and_the_schema_is_the_one_asked_for() -> None:
    query = view_queries(DUCKDB, 'odd"one')["current_modules"]
    assert 'from "odd""one"."module_created" as e' in query
    assert "canvas" not in query


def test_a_dialect_names_a_type_for_every_column() -> None:
    kinds = {kind for view in views() for kind in view.columns.values()}
    for dialect in DIALECTS.values():
        assert kinds <= dialect.types.keys()
