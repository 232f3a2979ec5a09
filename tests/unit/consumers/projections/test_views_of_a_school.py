"""The views of a school whose events make sense: what names the same thing joins."""

from collections.abc import Iterator

import duckdb
import pytest

from ingest.contract.envelope import Envelope
from ingest.contract.views import StateView, views
from ingest.normalising import normalise
from tests.contract.golden import RECEIVED_AT, verified
from tests.emulator.school import School, timed
from tests.emulator.story.story import Story
from tests.support.current_state import current_state
from tests.support.each import each_case
from tests.unit.consumers.projections.test_views import Store, found, sink_of, write


@pytest.fixture(scope="module")
def told() -> list[Envelope]:
    story = Story(school=School.from_seed(5), events=2_000)
    return [normalise(verified(timed(each.claims, int(RECEIVED_AT)))) for each in story]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, told: list[Envelope]) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("school") / "forebay.duckdb"
    write(sink_of(path), [told[::-1]])
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def test_every_view_is_what_a_fold_of_the_events_gives(store: Store, told: list[Envelope]) -> None:
    expected = current_state(told)
    with each_case() as case:
        for view in views():
            if isinstance(view, StateView) and view.name in expected:
                rows = found(store, view.name)
                with case(view.name):
                    given = {(r["tenant"], *(r[name] for name in view.key)): r for r in rows}
                    assert len(rows) == len(given) > 0
                    assert {
                        key: {n: v for n, v in row.items() if n != "tenant"}
                        for key, row in given.items()
                    } == expected[view.name]


@pytest.mark.parametrize(
    ("many", "column", "one"),
    [
        ("current_enrollments", "course_id", "current_courses"),
        ("current_enrollments", "course_section_id", "current_sections"),
        ("current_enrollments", "user_id", "current_users"),
        ("current_sections", "course_id", "current_courses"),
        ("current_modules", "course_id", "current_courses"),
        ("current_grades", "user_id", "current_users"),
        ("current_grades", "course_id", "current_courses"),
        ("current_submissions", "user_id", "current_users"),
        ("current_submissions", "course_id", "current_courses"),
        ("submission_created", "course_id", "current_courses"),
        ("submission_created", "user_id", "current_users"),
    ],
)
def test_ids_join_whoever_says_them(store: Store, many: str, column: str, one: str) -> None:
    ((rows, joined),) = store.execute(
        f"select count(*), count(o.tenant) from lake.{many} as m"
        f" left join lake.{one} as o on o.tenant = m.tenant and o.{column} = m.{column}"
    ).fetchall()
    assert rows == joined > 0
