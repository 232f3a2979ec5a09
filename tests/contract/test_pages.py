"""Pages for subscribers: complete, their links lead somewhere, and their queries run."""

import asyncio
import re
from collections.abc import Iterator

import duckdb
import pytest

from consumers.batch import Batch
from consumers.projections import all_tables
from consumers.projections.dialects import DUCKDB
from consumers.projections.view_sql import view_queries
from consumers.sinks.duckdb import DuckDBSink
from consumers.values import Row
from ingest.contract.catalogue import EventType, catalogue
from ingest.contract.describe.pages import DATA_MODEL, START, page_name, queries
from ingest.contract.describe.published import examples, published
from ingest.contract.tables import COURSE_COPIES, EVENTS, EVENTS_COLUMNS, MAX_UNKNOWN_FIELDS
from ingest.contract.views import base_tables, views
from tests.support.each import each_case

_FILES = published("1.2.3")
_PAGES = {
    path.removeprefix("docs/"): text for path, text in _FILES.items() if path.startswith("docs/")
}
Store = duckdb.DuckDBPyConnection
_LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)\)")
_SQL = re.compile(r"```sql\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A file with all examples in it, as a worker writes it; opened to read."""
    path = tmp_path_factory.mktemp("pages") / "forebay.duckdb"
    sink = DuckDBSink(
        path,
        schema="canvas",
        worker="tables",
        first_tables={EVENTS: EVENTS_COLUMNS, **base_tables()},
        views=view_queries(DUCKDB, "canvas"),
    )
    project, tables = all_tables(catalogue()), dict[str, list[Row]]()
    for envelope in examples():
        for row in project(envelope):
            tables.setdefault(row.table, []).append(row)
    asyncio.run(_write(sink, tables))
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


async def _write(sink: DuckDBSink, tables: dict[str, list[Row]]) -> None:
    await sink.open()
    try:
        await sink.write(
            Batch(source_id="x", epoch=1, tables=tables, dead_letters=(), next_offsets={})
        )
    finally:
        await sink.close()


def test_every_type_has_a_page_that_the_start_leads_to() -> None:
    wanted = {page_name(entry) for entry in catalogue()}
    assert _PAGES.keys() == wanted | {START, DATA_MODEL}
    assert wanted | {DATA_MODEL} <= set(_LINK.findall(_PAGES[START]))


def test_links_lead_to_files_that_are_published() -> None:
    with each_case() as case:
        for name, page in _PAGES.items():
            for link in set(_LINK.findall(page)):
                path = f"docs/{link}" if not link.startswith("../") else link.removeprefix("../")
                with case(name, link):
                    assert path in _FILES or any(file.startswith(f"{path}/") for file in _FILES)


def test_page_has_every_field_topic_table_and_example() -> None:
    with each_case() as case:
        for entry in catalogue():
            with case(entry.name):
                _check_page(entry, _PAGES[page_name(entry)])


def _check_page(entry: EventType, page: str) -> None:
    assert entry.about in page
    assert all(f"| `{name}` | {kind} | `" in page for name, kind in entry.fields.items())
    assert all(note.about in page for note in entry.notes.values())
    assert f"canvas.{page_name(entry).removesuffix('.md')}.v1`" in page
    assert f"`canvas.{entry.table}`" in page
    assert f'"event_type": "{entry.name}"' in page
    assert ("## In Caliper format" in page) == bool(entry.caliper)


def test_queries_of_a_page_find_its_example(store: Store) -> None:
    with each_case() as case:
        for entry in catalogue():
            with case(entry.name):
                written = _SQL.findall(_PAGES[page_name(entry)])
                assert [query.strip() for query in written] == queries(entry)
                assert all(store.execute(query).fetchall() for query in written)


def test_queries_of_the_other_pages_run(store: Store) -> None:
    written = _SQL.findall(_PAGES[DATA_MODEL])
    written += re.findall(r"`(select [^`]*)`", _PAGES[START])
    assert len(written) == 5
    for query in written:
        assert store.execute(query).fetchall()


def test_data_model_has_the_tables_as_they_are(store: Store) -> None:
    assert all(
        f"`{view.name}`" in _PAGES[DATA_MODEL] for view in views() if view.name[:4] != "all_"
    )
    for table in (EVENTS, COURSE_COPIES):
        described = store.execute(f"describe canvas.{table}").fetchall()
        rows = [f"| `{name}` |" for name, *_ in described]
        assert all(row in _PAGES[DATA_MODEL] for row in rows)
    assert f"at most {MAX_UNKNOWN_FIELDS} in a table" in _PAGES[DATA_MODEL]
    assert not re.search(r"\$[a-z]", _PAGES[DATA_MODEL] + _PAGES[START])
