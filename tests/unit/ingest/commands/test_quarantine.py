"""`forebay-ingest quarantine`: what is shown, and what is recorded."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import structlog
from click.testing import CliRunner, Result

from ingest.commands.main import main
from ingest.contract.codec import encode
from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.contract.moments import rfc3339
from ingest.contract.quarantine import quarantine_record
from ingest.contract.record import Record
from ingest.shared import logs
from tests.support import builders
from tests.unit.ingest.quarantine.stored_records import PREFIX, TOPIC, kept_record


@pytest.fixture(autouse=True)
def _logs_on_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a process has them, without the loggers that a process keeps to its end."""

    def configure(settings: object) -> None:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    monkeypatch.setattr(logs, "configure", configure)
    yield
    structlog.reset_defaults()


def _run(directory: Path, *arguments: str, **settings: str) -> Result:
    absent = {name: None for name in os.environ if name.startswith("FOREBAY_")}
    tenants = directory / "tenants.toml"
    tenants.write_text('[[tenant]]\nname = "north-campus"\n')
    own = {
        "FOREBAY_DATA_DIR": str(directory / "data"),
        "FOREBAY_TENANTS_FILE": str(tenants),
        **settings,
    }
    return CliRunner().invoke(main, ["quarantine", *arguments], env={**absent, **own})


def _one_line(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("forebay-ingest: ")
    return line


def _write(directory: Path, *records: Record) -> None:
    log = EventLog.open(directory / "data" / FILE_NAME, max_bytes=1 << 30)
    for record in records:
        log.append([record])
    log.close()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three entries with keys aa1, aa2 and bb among other records."""
    token = builders.token(builders.live_event_claims())
    _write(
        tmp_path,
        encode(builders.envelope(), prefix=PREFIX),
        kept_record(token, "expired", event_id="aa1", tenant="north-campus"),
        kept_record(token, "key_gone", event_id="aa2"),
        kept_record(token, "expired", event_id="bb"),
    )
    return tmp_path


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["release", "x"], ["drop", "x"]])
def test_no_log_is_misuse(tmp_path: Path, command: list[str]) -> None:
    assert "there is no event log" in _one_line(_run(tmp_path, *command))


def test_list_shows_what_is_open_and_counts_by_reason(three: Path) -> None:
    result = _run(three, "list")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["aa1", "expired"],
        ["aa2", "key_gone"],
        ["bb", "expired"],
    ]
    assert result.stderr.splitlines() == ["2 open, expired", "1 open, key_gone"]
    assert json.loads(_run(three, "list", "--json").stdout)[0] == {
        "key": "aa1",
        "reason": "expired",
        "source": "live-events",
        "tenant": "north-campus",
        "received_at": rfc3339(builders.NOW_S),
        "event_id": "aa1",
        "state": "open",
        "root_account_uuid": builders.ROOT_ACCOUNT,
        "subscription_id": builders.SUBSCRIPTION,
        "issuer": None,
        "client_id": None,
        "deployment_id": None,
    }


def test_list_shows_the_ids_that_a_token_names(tmp_path: Path) -> None:
    of_nobody = builders.live_event_claims(metadata={"event_name": "logged_in"})
    _write(
        tmp_path,
        kept_record(builders.token(of_nobody), "tenant_unknown", event_id="live"),
        kept_record(builders.token(builders.notice_claims()), "expired", source="pns"),
        kept_record(b"no token", "unreadable_claims"),
    )
    live, notice, unreadable = _run(tmp_path, "list").stdout.splitlines()
    assert live.endswith(f"  subscription_id={builders.SUBSCRIPTION}")
    named = f"issuer={builders.PLATFORM}  client_id={builders.CLIENT}"
    assert notice.endswith(f"  {named}  deployment_id={builders.DEPLOYMENT}")
    assert "=" not in unreadable
    rows = json.loads(_run(tmp_path, "list", "--json").stdout)
    assert [row["subscription_id"] for row in rows] == [builders.SUBSCRIPTION, None, None]
    assert [row["client_id"] for row in rows] == [None, builders.CLIENT, None]


def test_events_of_unknown_tenants_are_not_released_all_at_once(three: Path) -> None:
    command = ["release", "--reason", "tenant_unknown", "--all"]
    assert "--subscription ID, or name single keys" in _one_line(_run(three, *command))
    assert _run(three, *command, "--subscription", "other", "--json").exit_code == 0
    assert "narrows --all" in _one_line(_run(three, "release", "aa1", "--subscription", "s"))


def test_a_planted_record_is_released_only_as_unverified_and_that_is_kept(tmp_path: Path) -> None:
    record = encode(builders.envelope(), prefix=PREFIX)
    planted = quarantine_record(PREFIX, record, reason="too_large_for_topic", source="live-events")
    _write(tmp_path, planted)
    every = ["--reason", "too_large_for_topic", "--all"]
    for chosen in ([planted.key.decode()], every):
        (kept,) = json.loads(_run(tmp_path, "release", *chosen, "--json").stdout)
        assert (kept["outcome"], "--unverified" in kept["why"]) == ("kept", True)
    released = _run(tmp_path, "release", planted.key.decode(), "--unverified", "--json")
    assert (released.exit_code, json.loads(released.stdout)[0]["outcome"]) == (0, "released")
    shown = json.loads(_run(tmp_path, "show", planted.key.decode(), "--json").stdout)
    assert (shown["state"], shown["unverified"]) == ("released", True)


def test_list_narrows_by_reason_and_widens_to_all(three: Path) -> None:
    assert _run(three, "drop", "bb").exit_code == 0
    for arguments, keys in {
        (): ["aa1", "aa2"],
        ("--reason", "expired"): ["aa1"],
        ("--all",): ["aa1", "aa2", "bb"],
        ("--all", "--reason", "expired"): ["aa1", "bb"],
    }.items():
        listed = json.loads(_run(three, "list", "--json", *arguments).stdout)
        assert [row["key"] for row in listed] == keys
    assert listed[-1]["state"] == "dropped"
    assert _run(three, "list", "--reason", "boredom").exit_code == 2


def test_show_marks_claims_as_unverified(three: Path) -> None:
    shown = json.loads(_run(three, "show", "aa1", "--json").stdout)
    assert shown["unverified_claims"] == builders.live_event_claims()
    text = _run(three, "show", "b")
    assert text.exit_code == 0
    assert "unverified claims:" in text.stdout.splitlines()
    assert "key: bb" in text.stdout.splitlines()


def test_show_prints_the_raw_token_alone(three: Path) -> None:
    token = builders.token(builders.live_event_claims()).decode()
    assert _run(three, "show", "bb", "--token").stdout == token + "\n"


def test_beginning_of_a_key_must_be_its_own(three: Path) -> None:
    assert "2 keys begin with aa" in _one_line(_run(three, "show", "aa"))
    assert "nothing in quarantine" in _one_line(_run(three, "drop", "zz"))
    _write(three, kept_record(b"a.b.c", "expired", event_id="aa"))
    assert json.loads(_run(three, "show", "aa", "--json").stdout)["key"] == "aa"


@pytest.mark.parametrize(
    "payload", [b"\x1b[31m", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff", b"[" * 300 + b"]" * 300]
)
def test_claims_that_no_strict_parser_reads_are_shown_as_harmless_text(
    tmp_path: Path, payload: bytes
) -> None:
    header = orjson.dumps({"alg": "RS256", "kid": "k"})
    token = builders.signing_key().sign_text(header, payload).encode()
    _write(tmp_path, kept_record(token, "unreadable_claims", event_id="\x1b[31mred"))
    for arguments in (["show", "\x1b", "--json"], ["show", "\x1b"], ["list"]):
        result = _run(tmp_path, *arguments)
        assert result.exit_code == 0
        assert "\x1b" not in result.output
    shown = json.loads(_run(tmp_path, "show", "\x1b", "--json").stdout)
    assert shown["unverified_claims"] == payload.decode(errors="backslashreplace")


def test_record_is_shown_and_has_no_token(tmp_path: Path) -> None:
    record = encode(builders.envelope(), prefix=PREFIX)
    aside = quarantine_record(PREFIX, record, reason="too_large_for_topic", source="live-events")
    _write(tmp_path, aside)
    key = aside.key.decode()
    shown = json.loads(_run(tmp_path, "show", key, "--json").stdout)
    assert shown["record"]["topic"] == record.topic
    assert shown["record"]["value"] == record.value.decode()
    assert "has no token" in _one_line(_run(tmp_path, "show", key, "--token"))


def test_drop_notes_a_decision_once(three: Path) -> None:
    first = _run(three, "drop", "aa1", "bb", "--json")
    assert first.exit_code == 0
    assert [row["outcome"] for row in json.loads(first.stdout)] == ["dropped", "dropped"]
    again = _run(three, "drop", "aa1", "aa2", "--json")
    assert again.exit_code == 0
    outcomes = {row["key"]: row["outcome"] for row in json.loads(again.stdout)}
    assert outcomes == {"aa1": "already dropped", "aa2": "dropped"}
    assert json.loads(_run(three, "list", "--json").stdout) == []


def test_drop_of_a_reason_leaves_the_others(three: Path) -> None:
    assert _run(three, "drop", "--reason", "expired", "--all").exit_code == 0
    assert [row["key"] for row in json.loads(_run(three, "list", "--json").stdout)] == ["aa2"]


@pytest.mark.parametrize("command", ["release", "drop"])
@pytest.mark.parametrize(
    "arguments", [[], ["--all"], ["--reason", "expired"], ["aa1", "--reason", "expired", "--all"]]
)
def test_what_is_meant_must_be_said_clearly(
    three: Path, command: str, arguments: list[str]
) -> None:
    assert "--reason and --all" in _one_line(_run(three, command, *arguments))


def test_what_was_dropped_is_not_released(three: Path) -> None:
    _run(three, "drop", "aa1")
    result = _run(three, "release", "aa1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["outcome"] == "already dropped"


def test_release_needs_a_tenant_that_exists_and_a_key_that_is_one(three: Path) -> None:
    assert "no tenant nobody" in _one_line(_run(three, "release", "aa2", "--tenant", "nobody"))
    line = _one_line(_run(three, "release", "aa2", "--key-file", str(three / "tenants.toml")))
    assert "no RSA public key" in line


def test_unreadable_records_are_said(three: Path) -> None:
    _write(three, Record(topic=TOPIC, key=b"k", value=b"junk"))
    result = _run(three, "list", "--json")
    assert len(json.loads(result.stdout)) == 3
    assert "1 records of the quarantine topic" in result.stderr


def test_key_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    kept = kept_record(b"a.b.c", "expired")
    record = Record(topic=kept.topic, key=b"\xff\x00", value=kept.value, headers=kept.headers)
    _write(tmp_path, record)
    (row,) = json.loads(_run(tmp_path, "list", "--json").stdout)
    assert (
        json.loads(_run(tmp_path, "drop", row["key"], "--json").stdout)[0]["outcome"] == "dropped"
    )
    assert json.loads(_run(tmp_path, "list", "--json").stdout) == []
