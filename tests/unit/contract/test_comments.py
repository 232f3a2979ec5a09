"""Words for tables, views and columns."""

from ingest.contract.catalogue import catalogue
from ingest.contract.comments import table_words
from ingest.contract.tables import (
    COURSE_COPIES,
    COURSE_COPIES_COLUMNS,
    EVENTS,
    EVENTS_COLUMNS,
    caliper_table,
    table_columns,
)
from ingest.contract.views import views
from tests.support.each import each_case

_COLUMNS = {
    EVENTS: EVENTS_COLUMNS,
    COURSE_COPIES: COURSE_COPIES_COLUMNS,
    **{entry.table: table_columns(entry.fields) for entry in catalogue()},
    **{
        caliper_table(entry): table_columns(catalogue().caliper_fields)
        for entry in catalogue()
        if entry.caliper
    },
    **{view.name: view.columns for view in views()},
}


def test_every_table_and_view_and_each_of_its_columns_has_words() -> None:
    assert table_words().keys() == _COLUMNS.keys()
    with each_case() as case:
        for name, columns in _COLUMNS.items():
            with case(name):
                words = table_words()[name]
                assert words.columns.keys() == columns.keys()
                assert min(map(len, [words.about, *words.columns.values()])) > 3


def test_a_column_of_a_view_has_the_words_of_the_field_that_it_shows() -> None:
    words = table_words()
    graded = words["grade_change"].columns["grader_id"]
    assert words["current_submissions"].columns["grader_id"] == graded
    assert words["all_grade_change"].columns["grader_id"] == graded
    named = words["enrollment_created"].columns["user_uuid"]
    assert named != words["current_users"].columns["user_login"]
