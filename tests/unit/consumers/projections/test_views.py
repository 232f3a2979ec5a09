"""The views over a DuckDB file's tables, beside what events say without any SQL."""

import asyncio
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from consumers.columns import fit_or_null
from consumers.projections import all_tables
from consumers.projections.dialects import DUCKDB, quoted
from consumers.projections.view_sql import view_queries
from consumers.sinks.duckdb import DuckDBSink
from consumers.values import Row
from ingest.contract.caliper import canvas_id
from ingest.contract.catalogue import catalogue
from ingest.contract.describe.published import examples
from ingest.contract.envelope import Envelope
from ingest.contract.tables import EVENTS, EVENTS_COLUMNS, TYPED_HEAD
from ingest.contract.views import BothFormats, StateView, base_tables, views
from tests.suites.sinks import batch
from tests.support.current_state import current_state
from tests.support.each import each_case
from tests.unit.consumers.builders import copy_notice, event_id, live_event
from tests.unit.consumers.projections.stories import story

Store = duckdb.DuckDBPyConnection
QUERIES = view_queries(DUCKDB, "lake")


def sink_of(path: Path, views: Mapping[str, str] = QUERIES) -> DuckDBSink:
    tables = {EVENTS: EVENTS_COLUMNS, **base_tables()}
    return DuckDBSink(path, schema="lake", worker="tables", first_tables=tables, views=views)


def write(sink: DuckDBSink, batches: Iterable[Iterable[Envelope]]) -> None:
    """Opens the sink, writes, and closes it."""
    asyncio.run(_write(sink, batches))


async def _write(sink: DuckDBSink, batches: Iterable[Iterable[Envelope]]) -> None:
    project = all_tables(catalogue())
    try:
        await sink.open()
        for envelopes in batches:
            rows: dict[tuple[str, str], Row] = {}
            for row in (row for envelope in envelopes for row in project(envelope)):
                rows.setdefault((row.table, row.values["event_id"]), row)
            await sink.write(batch(list(rows.values())))
    finally:
        await sink.close()


def found(store: Store, name: str) -> list[dict[str, Any]]:
    """A view's rows without their nulls."""
    result = store.execute(f"select * from lake.{quoted(name)}")
    names = [column[0] for column in result.description or ()]
    return [
        {n: v for n, v in zip(names, values, strict=True) if v is not None}
        for values in result.fetchall()
    ]


STORIES, LENGTH = 10, 300
_DESCRIBED = {"TIMESTAMPTZ": "timestamp with time zone"}


@pytest.fixture(scope="module")
def told() -> list[Envelope]:
    stories = [story(seed, length=LENGTH) for seed in range(STORIES)]
    return [envelope for told in stories for envelope in told]


@pytest.fixture(scope="module")
def state_store(tmp_path_factory: pytest.TempPathFactory, told: list[Envelope]) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("views") / "forebay.duckdb"
    shuffled = random.Random(1).sample(told, len(told))
    write(sink_of(path), [shuffled[::2], shuffled])
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def test_every_view_is_what_a_fold_of_the_events_gives(
    state_store: Store, told: list[Envelope]
) -> None:
    expected = current_state(told)
    assert expected.keys() == {view.name for view in views() if view.name.startswith("current_")}
    with each_case() as case:
        for view in views():
            if isinstance(view, StateView) and view.name in expected:
                rows = found(state_store, view.name)
                with case(view.name):
                    assert len(rows) == len(expected[view.name])
                    for row in rows:
                        key = (row["tenant"], *(row[name] for name in view.key))
                        given = {n: v for n, v in row.items() if n != "tenant"}
                        assert given == expected[view.name][key]


def test_stories_have_deleted_and_kept_entities_in_every_view(state_store: Store) -> None:
    with each_case() as case:
        for view in views():
            if isinstance(view, StateView) and view.marks_deleted:
                with case(view.name):
                    marks = {row["is_deleted"] for row in found(state_store, view.name)}
                    assert marks == {True, False}


def test_columns_are_those_that_are_described(state_store: Store) -> None:
    with each_case() as case:
        for view in views():
            described = state_store.execute(f"describe lake.{quoted(view.name)}").fetchall()
            with case(view.name):
                assert [name for name, *_ in described] == list(view.columns)
                kinds = [_DESCRIBED.get(k, DUCKDB.types[k]) for k in view.columns.values()]
                assert [kind.lower() for _, kind, *_ in described] == kinds


@pytest.fixture(scope="module")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("views") / "forebay.duckdb"
    write(sink_of(path), [examples()])
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def test_events_of_both_formats_are_there_with_what_both_say(example_store: Store) -> None:
    with each_case() as case:
        for view in views():
            if isinstance(view, BothFormats):
                with case(view.name):
                    rows = {row["format"]: row for row in found(example_store, view.name)}
                    if view.caliper in _with_examples():
                        _check(view, rows.pop("caliper"))
                    assert rows.keys() == {"canvas"}
                    own = found(example_store, view.table)[0]
                    assert {n: rows["canvas"].get(n) for n in TYPED_HEAD} == {
                        n: own.get(n) for n in TYPED_HEAD
                    }


def _with_examples() -> set[str]:
    """The Caliper tables that there are examples for."""
    project = all_tables(catalogue())
    return {row.table for e in examples() for row in project(e) if "__caliper" in row.table}


def _check(view: BothFormats, row: Mapping[str, Any]) -> None:
    """The row of the Caliper example has what stands at the paths of its body."""
    (body,) = (
        e.body
        for e in examples()
        if e.metadata["format"] == "caliper" and e.event_id == row["event_id"]
        and (entry := catalogue().of(e)) is not None and entry.table == view.table
    )  # fmt: skip
    for name, read in view.fields.items():
        value: Any = body
        for step in view.paths[name]:
            value = value.get(step) if isinstance(value, dict) else None
        if read.is_id:
            value = canvas_id(value) or (value if str(value).isdigit() else None)
        assert row.get(name) == fit_or_null(value, read.kind), name


def test_lti_contexts_lead_from_copies_to_courses(tmp_path: Path) -> None:
    def migration(number: int, context: str, course: int, **other: Any) -> Envelope:
        body = {"context_type": "Course", "context_id": f"9{course:013}", "lti_context_id": context}
        return live_event(number, "content_migration_completed", body | other)

    told = [
        migration(1, "old-9", 7),
        migration(2, "new-9", 8),
        migration(3, "of-a-group", 9, context_type="Group"),
        copy_notice(9),
        copy_notice(10),
    ]
    write(sink_of(tmp_path / "forebay.duckdb"), [told])
    with duckdb.connect(str(tmp_path / "forebay.duckdb")) as store:
        known = {row["lti_context_id"]: row["course_id"] for row in found(store, "lti_contexts")}
        copies = {row["event_id"]: row for row in found(store, "course_copies_by_course")}
    assert known == {"old-9": f"9{7:013}", "new-9": f"9{8:013}"}
    assert copies.keys() == {event_id(9), event_id(10)}
    assert copies[event_id(9)]["origin_course_id"] == f"9{7:013}"
    assert copies[event_id(9)]["course_id"] == f"9{8:013}"
    assert copies[event_id(9)]["context_title"] == "Hydraulics II"
    assert copies[event_id(10)].keys() & {"origin_course_id", "course_id"} == set()


class TestStore:
    def test_views_can_be_asked_before_anything_came(self, tmp_path: Path) -> None:
        write(sink_of(tmp_path / "forebay.duckdb"), [])
        with duckdb.connect(str(tmp_path / "forebay.duckdb"), read_only=True) as store:
            assert [name for name in QUERIES if found(store, name)] == []

    def test_columns_that_come_later_change_no_view(self, tmp_path: Path) -> None:
        path = tmp_path / "forebay.duckdb"
        before = live_event(1, "course_created", {"course_id": "5", "name": "Weirs"})
        after = live_event(
            2, "course_updated", {"course_id": "5", "name": {"odd": 1}, "colour": "red"}
        )
        write(sink_of(path), [[before], [after]])
        with duckdb.connect(str(path)) as store:
            assert [name for name, *_ in store.execute("describe lake.course_updated").fetchall()][
                -2:
            ] == ["name__text", "colour"]
            (course,) = found(store, "current_courses")
        assert course["last_event_id"] == event_id(2)
        assert "name" not in course
        write(sink_of(path), [])

    def test_a_store_of_an_older_release_gets_columns_and_views(self, tmp_path: Path) -> None:
        path = tmp_path / "forebay.duckdb"
        with duckdb.connect(str(path)) as store:
            store.execute("create schema lake")
            store.execute(
                "create table lake.course_created (event_id varchar, event_time timestamptz,"
                " received_at timestamptz, tenant varchar, actor_id varchar, course_id varchar,"
                " name json)"
            )
            store.execute(
                "insert into lake.course_created by name"
                " select 'x' as event_id, 'north' as tenant, '5' as course_id, '\"Weirs\"' as name"
            )
        write(sink_of(path), [[live_event(1, "course_created", {"course_id": "6"})]])
        with duckdb.connect(str(path)) as store:
            names = {row["course_id"]: row.get("name") for row in found(store, "current_courses")}
        assert names == {"5": '"Weirs"', "6": None}

    def test_a_view_of_an_older_release_is_made_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "forebay.duckdb"
        write(sink_of(path, views={"current_users": "select 1 as one"}), [])
        write(sink_of(path), [])
        with duckdb.connect(str(path)) as store:
            assert found(store, "current_users") == []

    def test_views_can_be_read_from_another_database(self, tmp_path: Path) -> None:
        told = live_event(1, "course_created", {"course_id": "5", "name": "Weirs"})
        write(sink_of(tmp_path / "forebay.duckdb"), [[told]])
        with duckdb.connect() as store:
            store.execute(f"attach '{tmp_path / 'forebay.duckdb'}' as school (read_only)")
            rows = store.execute("select name from school.lake.current_courses").fetchall()
        assert rows == [("Weirs",)]


def test_every_view_reads_tables_that_are_made_for_it() -> None:
    for name, query in QUERIES.items():
        read = set(re.findall(r'"lake"\."(\w+)"', query))
        assert read <= base_tables().keys() | QUERIES.keys(), name


def test_sources_of_a_view_agree_on_what_a_column_holds() -> None:
    with each_case() as case:
        for view in views():
            if isinstance(view, StateView):
                with case(view.name):
                    for source in view.sources:
                        assert {n: r.kind for n, r in source.columns.items()}.items() <= (
                            view.columns.items()
                        )
                        assert set(view.key) <= source.columns.keys()


def test_names_of_views_are_those_of_no_table() -> None:
    tables = {EVENTS, *base_tables(), *(entry.table for entry in catalogue())}
    assert tables.isdisjoint(QUERIES)
    assert len([name for name in QUERIES if name.startswith("current_")]) == 13
