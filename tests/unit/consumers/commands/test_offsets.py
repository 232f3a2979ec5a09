"""`forebay-consumers offsets` on the embedded log."""

import duckdb
import pytest

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from tests.unit.consumers.builders import event_record
from tests.unit.consumers.commands.worker_site import WorkerSite

COUNT = "select count(*), count(distinct event_id) from canvas.events"


def test_nothing_is_shown_before_there_is_a_store(site: WorkerSite) -> None:
    assert site.rows("offsets", "show") == []


def test_offsets_of_the_worker_are_shown(site: WorkerSite) -> None:
    site.append(*(event_record(n) for n in range(4)))
    site.work()
    rows = site.rows("offsets", "show")
    assert {row["topic"]: row["next_offset"] for row in rows} == {
        event_record(0).topic: 5,
        event_record(1).topic: 3,
        event_record(2).topic: 4,
    }
    assert "5" in site.invoke("offsets", "show").stdout


def test_dropped_tables_are_filled_again_from_the_earliest_offset(site: WorkerSite) -> None:
    site.append(*(event_record(n) for n in range(9)))
    site.work()
    before = site.query("select event_id from canvas.course_created order by all")
    _execute(site, "drop table canvas.course_created")
    (row,) = site.rows("offsets", "reset", "--to", "earliest")
    assert (row["from"], row["to"]) == (10, 1)
    site.work()
    assert site.query("select event_id from canvas.course_created order by all") == before
    assert site.query(COUNT) == [(9, 9)]


def test_worker_goes_on_from_the_offset_that_it_was_reset_to(site: WorkerSite) -> None:
    site.append(*(event_record(n) for n in range(6)))
    site.work()
    _execute(site, "delete from canvas.events")
    site.rows("offsets", "reset", "--to", "4")
    site.work()
    assert site.query(COUNT) == [(3, 3)]


def test_latest_skips_what_is_there(site: WorkerSite) -> None:
    site.append(*(event_record(n) for n in range(6)))
    site.rows("offsets", "reset", "--to", "latest")
    site.append(event_record(6))
    site.work()
    assert site.query(COUNT) == [(1, 1)]


def test_a_dry_run_changes_nothing(site: WorkerSite) -> None:
    site.append(*(event_record(n) for n in range(6)))
    site.work()
    before = site.rows("offsets", "show")
    (row,) = site.rows("offsets", "reset", "--to", "earliest", "--dry-run")
    assert row["to"] == 1
    assert site.rows("offsets", "show") == before


def test_what_a_trimmed_log_stops_at_is_put_right_by_the_command_that_it_names(
    site: WorkerSite,
) -> None:
    site.append(*(event_record(n) for n in range(6)))
    site.work()
    log = EventLog.open(site.data / FILE_NAME, max_bytes=2**40)
    log.append([event_record(n) for n in range(6, 20)])
    log.trim(before_ms=2**60, limit=15)
    log.close()
    with pytest.raises(Exception, match=r"`forebay-consumers (offsets reset --to earliest)`"):
        site.work()
    site.rows("offsets", "reset", "--to", "earliest")
    site.work()
    assert site.query(COUNT) == [(11, 11)]


def test_reset_is_refused_while_the_worker_runs(site: WorkerSite) -> None:
    site.append(event_record(0))
    result = site.while_open(lambda: site.invoke("offsets", "reset", "--to", "earliest"))
    assert result.exit_code == 1
    assert "the worker 'tables' is running" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "soon"), "holds 1 up to 2"),
        (("--to", "3"), "holds 1 up to 2"),
        (("--to", "earliest", "--topic", "x"), "leave out --topic"),
        (("--to", "earliest", "--partition", "0"), "leave out --topic"),
    ],
)
def test_misuse_is_said_in_one_line(
    site: WorkerSite, arguments: tuple[str, ...], said: str
) -> None:
    site.append(event_record(0))
    result = site.invoke("offsets", "reset", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_log_there_is_nothing_to_reset_to(site: WorkerSite) -> None:
    result = site.invoke("offsets", "reset", "--to", "earliest")
    assert result.exit_code == 2
    assert "there is no event log" in result.stderr


def _execute(site: WorkerSite, sql: str) -> None:
    with duckdb.connect(str(site.data / "forebay.duckdb")) as connection:
        connection.execute(sql)
