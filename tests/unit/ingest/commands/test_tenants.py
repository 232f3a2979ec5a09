"""`forebay-ingest tenants`: what is checked, who was seen, and taking one of them in."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.commands.main import main
from ingest.observing.tenants_seen import Sender, Sighting
from ingest.observing.tenants_seen_store import FILE_NAME, add
from ingest.verifying.tenants_file import read_tenants

_SLUG = "a-slug-that-nobody-guesses"
_FILE = f"""\
[[tenant]]
name = "north"  # ours
slug = "{_SLUG}"

[[tenant.live_events]]
root_account_uuid = "account-n"
subscription_ids = ["s1"]

[[tenant.pns]]
issuer = "https://canvas.instructure.com"
client_id = "7"
"""
_AT = "2026-09-21T14:13:20.000Z"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "tenants.toml").write_text(_FILE)
    return tmp_path


def _run(site: Path, *arguments: str, **settings: str) -> Result:
    absent = {name: None for name in os.environ if name.startswith("FOREBAY_")}
    own = {
        "FOREBAY_DATA_DIR": str(site / "data"),
        "FOREBAY_TENANTS_FILE": str(site / "tenants.toml"),
        **settings,
    }
    return CliRunner().invoke(main, ["tenants", *arguments], env={**absent, **own})


def _saw(site: Path, *senders: Sender) -> None:
    sighting = Sighting(count=300, first_seen=_AT, last_seen=_AT, hostname="campus.example.edu")
    add(site / "data" / FILE_NAME, dict.fromkeys(senders, sighting))


def _account(account: str, subscription: str = "s1") -> Sender:
    return Sender(
        reason="tenant_not_allowed",
        missing="root_account",
        source="live-events",
        issuer="https://live-events.example.edu",
        root_account_uuid=account,
        subscription_id=subscription,
    )


_CLIENT = Sender(
    reason="tenant_not_allowed",
    missing="client",
    source="pns",
    issuer="https://canvas.instructure.com",
    client_id="8",
    deployment_id="d8",
)


def _one_line(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("forebay-ingest: ")
    return line


def test_check_says_what_each_tenant_pins_and_no_slug(site: Path) -> None:
    result = _run(site, "check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "live events of account-n, subscription s1" in result.stdout
    assert "notices for 7 at https://canvas.instructure.com, every deployment" in result.stdout
    (tenant,) = json.loads(_run(site, "check", "--json").stdout)
    assert (tenant["name"], tenant["has_slug"]) == ("north", True)
    assert tenant["live_events"] == [{"root_account_uuid": "account-n", "subscription_ids": ["s1"]}]
    assert _SLUG not in result.output + str(tenant)


def test_check_says_what_is_wrong_in_one_line(site: Path) -> None:
    (site / "tenants.toml").write_text(_FILE + "colour = 1\n")
    assert "tenant[1].pns[1].colour" in _one_line(_run(site, "check"))


def test_seen_lists_ids_counts_times_and_host(site: Path) -> None:
    _saw(site, _account("account-x"), _CLIENT)
    result = _run(site, "seen")
    assert (result.exit_code, result.stderr) == (0, "")
    head, first, second = result.stdout.splitlines()
    assert head.split() == [
        *("events", "first_seen", "last_seen", "reason", "tenant", "hostname", "ids")
    ]
    for text in ("300", _AT, "tenant_not_allowed", "campus.example.edu"):
        assert text in first
    assert "root_account_uuid=account-x subscription_id=s1" in first
    assert "issuer=https://canvas.instructure.com client_id=8 deployment_id=d8" in second


def test_seen_says_who_would_take_it_now(site: Path) -> None:
    _saw(site, _account("account-x"), _account("account-n"))
    rows = json.loads(_run(site, "seen", "--json").stdout)
    assert {row["root_account_uuid"]: row["tenant"] for row in rows} == {
        "account-x": None,
        "account-n": "north",
    }
    assert {row["count"] for row in rows} == {300}


def test_seen_needs_no_usable_tenants_file(site: Path) -> None:
    _saw(site, _account("account-x"))
    (site / "tenants.toml").write_text("[[tenant")
    result = _run(site, "seen", "--json")
    assert result.exit_code == 0
    assert "not TOML" in result.stderr
    assert [row["tenant"] for row in json.loads(result.stdout)] == [None]


def test_seen_is_empty_where_nothing_came(site: Path) -> None:
    result = _run(site, "seen")
    assert (result.exit_code, result.stdout) == (0, "")
    assert FILE_NAME in result.stderr
    assert json.loads(_run(site, "seen", "--json").stdout) == []


def test_seen_does_nothing_to_a_terminal(site: Path) -> None:
    _saw(site, _account("\x1b[2Jx\ny"))
    result = _run(site, "seen")
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 2


def test_adopt_writes_the_account_and_keeps_comments(site: Path) -> None:
    _saw(site, _account("account-x"))
    result = _run(site, "adopt", "account-x", "--name", "south")
    assert (result.exit_code, result.stderr) == (0, "")
    directory = read_tenants(site / "tenants.toml")
    assert directory.tenants.of_live_event("account-x", "any") == "south"
    assert (site / "tenants.toml").read_text().startswith(_FILE.rstrip())


def test_adopt_says_so_where_nothing_of_it_was_seen(site: Path) -> None:
    result = _run(site, "adopt", "account-y", "--name", "north", "--subscription", "s9")
    assert result.exit_code == 0
    assert "no event of it has been seen" in result.stderr
    directory = read_tenants(site / "tenants.toml")
    assert directory.tenants.of_live_event("account-y", "s9") == "north"


def test_adopt_again_changes_nothing(site: Path) -> None:
    _run(site, "adopt", "account-x", "--name", "south")
    text = (site / "tenants.toml").read_text()
    result = _run(site, "adopt", "account-x", "--name", "south")
    assert (result.exit_code, (site / "tenants.toml").read_text()) == (0, text)
    assert "already" in result.stdout


def test_adopt_of_what_another_pins_is_refused_in_one_line(site: Path) -> None:
    line = _one_line(_run(site, "adopt", "account-n", "--name", "south"))
    assert "tenants north and south both claim root account account-n" in line
    assert (site / "tenants.toml").read_text() == _FILE


def test_adopt_needs_a_file_that_is_named(site: Path) -> None:
    result = _run(site, "adopt", "account-x", "--name", "south", FOREBAY_TENANTS_FILE="")
    assert "FOREBAY_TENANTS_FILE" in _one_line(result)
