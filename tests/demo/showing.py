"""What came of it: the busiest tables, three questions, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.demo.grid import grid
from tests.support import tables

_BUSIEST: Final = 10

QUESTIONS: Final = {
    "Which courses get their work late?": """
        select c.name as course, count(*) as submitted,
            count(*) filter (where s.late) as late,
            round(100.0 * count(*) filter (where s.late) / count(*), 1) as "late %"
        from canvas.submission_created s
        join canvas.assignment_created a using (assignment_id)
        join canvas.course_created c on c.course_id = a.context_id
        group by c.name order by late desc, c.name limit 5""",
    "Who grades most, and how long do students wait?": """
        select u.name as grader, u.user_login as login, count(*) as grades,
            round(median(date_diff('minute', s.submitted_at, g.event_time)) / 60, 1)
                as "median hours"
        from canvas.grade_change g
        asof join canvas.submission_created s
            on s.submission_id = g.submission_id and s.event_time <= g.event_time
        join canvas.user_created u on u.user_id = g.grader_id
        group by u.name, u.user_login order by grades desc, login limit 5""",
    "Which courses were copied from which?": """
        with known as (
            select lti_context_id, any_value(context_id) as course_id
            from canvas.content_migration_completed group by lti_context_id)
        select o.name as origin, n.name as copy, n.course_id
        from canvas.course_copies c
        join known k on k.lti_context_id = c.context_id
        join known w on w.lti_context_id = c.origin_context_id
        join canvas.course_created n on n.course_id = k.course_id
        join canvas.course_created o on o.course_id = w.course_id
        order by c.event_time limit 5""",
}

_NEXT: Final = """\
next:
  make demo KAFKA=1        the same through a real Kafka broker
  make test                lint and every test
  .venv/bin/python -m tests.demo.ask "select event_type, count(*) as events \\
      from canvas.events group by all order by events desc limit 20"
  docs/tables.md           what is in which table
  README.md                one event by hand, in four terminals"""


def shown(store: Path) -> Iterator[str]:
    """What the tables hold, line by line."""
    yield from _busiest(store)
    for question, sql in QUESTIONS.items():
        yield f"\n{question}"
        yield from asked(store, sql)


def asked(store: Path, sql: str) -> Iterator[str]:
    """A query's answer as a headed table."""
    heads, rows = tables.headed_query(store, sql)
    yield from grid(heads, rows)


def to_do_next() -> str:
    """Commands that go on from here."""
    return _NEXT


def _busiest(store: Path) -> Iterator[str]:
    counted = sorted(((_count(store, name), name) for name in _tables(store)), reverse=True)
    rows: list[tuple[Any, ...]] = [(name, count) for count, name in counted[:_BUSIEST]]
    yield "The ten busiest tables"
    yield from grid(("table", "rows"), rows)
    yield f"  and {len(counted) - len(rows)} more"


def _tables(store: Path) -> list[str]:
    rows = tables.query(
        store,
        # those that only views read may have no rows
        "select table_name from duckdb_tables() where schema_name = 'canvas'"
        " and estimated_size > 0 and table_name not like 'forebay_%'"
        " and table_name <> 'events'",
    )
    return [row[0] for row in rows]


def _count(store: Path, table: str) -> int:
    return int(tables.query(store, f'select count(*) from canvas."{table}"')[0][0])
