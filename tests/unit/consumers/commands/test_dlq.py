"""`forebay-consumers dlq` on the embedded log."""

import sqlite3

import orjson
import pytest
from click.testing import _NamedTextIOWrapper

from consumers.projections import typed
from ingest.contract.record import Record
from tests.unit.consumers.builders import event_id, event_record, unreadable_record
from tests.unit.consumers.commands.worker_site import WorkerSite

IDS = "select event_id from canvas.events order by all"


@pytest.fixture
def failing(site: WorkerSite, monkeypatch: pytest.MonkeyPatch) -> WorkerSite:
    """A worker that could make no rows of one event, and cannot read another record."""
    _fail_for(monkeypatch, event_id(1))
    site.append(event_record(0), event_record(1), unreadable_record(2), event_record(3))
    site.work()
    monkeypatch.undo()
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    return site


def test_there_are_no_letters_before_a_worker_ran(site: WorkerSite) -> None:
    assert site.rows("dlq", "list") == []


def test_letters_are_listed_by_place_and_reason(failing: WorkerSite) -> None:
    rows = failing.rows("dlq", "list")
    assert [(row["place"], row["reason"], row["state"]) for row in rows] == [
        (f"{event_record(1).topic}/0@2", "projection_failed", "open"),
        (f"{unreadable_record(2).topic}/0@3", "not_an_envelope", "open"),
    ]
    assert [row["reason"] for row in failing.rows("dlq", "list", "--reason", "damaged")] == []


@pytest.mark.parametrize(
    ("filters", "reasons"),
    [
        (("--topic", event_record(1).topic), ["projection_failed"]),
        (("--topic", "*.enrollment-*"), ["not_an_envelope"]),
        (("--topic", "submission"), []),
        (("--since", "2020-01-01"), ["projection_failed", "not_an_envelope"]),
        (("--since", "2020-01-01", "--reason", "not_an_envelope"), ["not_an_envelope"]),
        (("--since", "2200-01-01T00:00:00Z"), []),
        (("--until", "2020-01-01T00:00:00+01:00"), []),
    ],
)
def test_filters_choose_what_is_listed_and_dropped(
    failing: WorkerSite, filters: tuple[str, ...], reasons: list[str]
) -> None:
    assert [row["reason"] for row in failing.rows("dlq", "list", *filters)] == reasons
    dropped = failing.rows("dlq", "drop", "--all", *filters)
    assert [row["outcome"] for row in dropped] == ["dropped"] * len(reasons)
    assert failing.rows("dlq", "replay", "--all", *filters) == []
    assert len(failing.rows("dlq", "list")) == 2 - len(reasons)


def test_a_letter_was_kept_at_its_moment_and_not_before_it(failing: WorkerSite) -> None:
    letter = failing.rows("dlq", "list")[0]
    assert letter in failing.rows("dlq", "list", "--since", letter["kept_at"])
    assert letter not in failing.rows("dlq", "list", "--until", letter["kept_at"])


def test_replay_writes_only_the_tables_that_the_worker_fills(
    failing: WorkerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_WORKER__TABLES", "events")
    failing.rows("dlq", "replay", f"{event_record(1).topic}/0@2")
    assert len(failing.query(IDS)) == 3
    assert failing.query("select event_id from canvas.submission_created") == []


def test_progress_is_shown_on_a_terminal_alone(
    failing: WorkerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{event_record(1).topic}/0@2"
    assert failing.invoke("dlq", "replay", place, "--dry-run").stderr == ""
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda stream: True, raising=False)
    result = failing.invoke("dlq", "replay", place, "--json")
    assert "dead letters" in result.stderr
    assert "100%" in result.stderr
    assert orjson.loads(result.stdout)[0]["outcome"] == "replayed"


def test_a_letter_is_shown_whole(failing: WorkerSite) -> None:
    place = f"{unreadable_record(2).topic}/0@3"
    (whole,) = failing.rows("dlq", "show", place)
    assert whole["value"] == unreadable_record(2).value.decode()
    assert whole["headers"] == {"note": "kept"}
    assert whole["value"] in failing.invoke("dlq", "show", place).stdout


def test_replay_writes_the_rows_once_and_what_cannot_be_read_stays(failing: WorkerSite) -> None:
    assert len(failing.query(IDS)) == 2
    outcomes = failing.rows("dlq", "replay", "--all", status=1)
    assert [(row["outcome"], row["why"]) for row in outcomes] == [
        ("stays", "not_an_envelope"),
        ("replayed", None),
    ]
    assert [row[0] for row in failing.query(IDS)] == sorted(event_id(n) for n in (0, 1, 3))
    assert [row["reason"] for row in failing.rows("dlq", "list")] == ["not_an_envelope"]
    states = [row["state"] for row in failing.rows("dlq", "list", "--all")]
    assert states == ["replayed", "open"]


def test_a_second_replay_does_nothing(failing: WorkerSite) -> None:
    place = f"{event_record(1).topic}/0@2"
    failing.rows("dlq", "replay", place)
    before = failing.query(IDS)
    (again,) = failing.rows("dlq", "replay", place)
    assert again["outcome"] == "already replayed"
    assert failing.query(IDS) == before


def test_what_came_by_another_way_is_not_doubled_by_a_replay(failing: WorkerSite) -> None:
    failing.append(event_record(1))
    failing.work()
    failing.rows("dlq", "replay", f"{event_record(1).topic}/0@2")
    assert [row[0] for row in failing.query(IDS)] == sorted(event_id(n) for n in (0, 1, 3))


def test_a_letter_is_replayed_beside_a_running_worker(failing: WorkerSite) -> None:
    place = f"{event_record(1).topic}/0@2"
    result = failing.while_open(lambda: failing.invoke("dlq", "replay", place))
    assert result.exit_code == 0
    assert len(failing.query(IDS)) == 3


def test_a_dropped_letter_is_open_no_longer(failing: WorkerSite) -> None:
    outcomes = failing.rows("dlq", "drop", "--all", "--reason", "not_an_envelope")
    assert [row["outcome"] for row in outcomes] == ["dropped"]
    assert [row["reason"] for row in failing.rows("dlq", "list")] == ["projection_failed"]
    (again,) = failing.rows("dlq", "drop", outcomes[0]["place"])
    assert again["outcome"] == "already dropped"


@pytest.mark.parametrize("what", ["replay", "drop"])
def test_a_dry_run_changes_nothing(failing: WorkerSite, what: str) -> None:
    before = failing.query(IDS), failing.rows("dlq", "list", "--all")
    (row,) = failing.rows("dlq", what, f"{event_record(1).topic}/0@2", "--dry-run")
    assert row["outcome"].startswith("would be")
    assert (failing.query(IDS), failing.rows("dlq", "list", "--all")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay",), "name letters, or give --all"),
        (("drop", "x/0@1", "--all"), "name letters, or give --all"),
        (("replay", "--topic", "x"), "name letters, or give --all"),
        (("show", "x/0@1"), "there is no dead letter x/0@1"),
    ],
)
def test_misuse_is_said_in_one_line(
    failing: WorkerSite, arguments: tuple[str, ...], said: str
) -> None:
    result = failing.invoke("dlq", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_time_that_is_none_is_misuse(failing: WorkerSite) -> None:
    result = failing.invoke("dlq", "list", "--since", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is no date or time" in result.stderr


def test_what_others_wrote_does_nothing_to_a_terminal(site: WorkerSite) -> None:
    bad = unreadable_record(0)
    site.append(
        Record(topic=bad.topic, key=b"\x1b[2J", value=b"\x1b[2J\n", headers=()), event_record(1)
    )
    site.work()
    shown = site.invoke("dlq", "show", f"{bad.topic}/0@1").stdout
    assert "\x1b" not in shown
    assert "\\x1b[2J\\n" in shown


def test_a_damaged_record_is_never_replayed(site: WorkerSite) -> None:
    site.append(event_record(0), event_record(1))
    with sqlite3.connect(site.data / "eventlog.sqlite3") as connection:
        connection.execute("update record set crc32 = crc32 + 1 where id = 2")
    connection.close()
    site.work()
    (outcome,) = site.rows("dlq", "replay", "--all", status=1)
    assert (outcome["outcome"], outcome["why"]) == ("stays", "damaged")
    assert len(site.query(IDS)) == 1


def _fail_for(monkeypatch: pytest.MonkeyPatch, failing_id: str) -> None:
    rows = typed.TypedTables.rows

    def fail(self: typed.TypedTables, envelope):  # type: ignore[no-untyped-def]
        if envelope.event_id == failing_id:
            raise RuntimeError("a fault of ours")
        return rows(self, envelope)

    monkeypatch.setattr(typed.TypedTables, "rows", fail)
