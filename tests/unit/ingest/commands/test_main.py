"""Commands: what goes to stdout, what to stderr, and the exit code."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.commands.main import main
from ingest.contract.topics import ingest_topics

_GOOD = '[[tenant]]\nname = "north-campus"\n'


def _run(*arguments: str, **environment: str) -> Result:
    absent = {name: None for name in os.environ if name.startswith("FOREBAY_")}
    return CliRunner().invoke(main, arguments, env={**absent, **environment})


def _one_line(result: Result) -> str:
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("option", ["-h", "--help", "--version"])
def test_help_and_version_go_to_stdout(option: str) -> None:
    result = _run(option)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "forebay-ingest" in result.stdout or "Usage" in result.stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["config", "nonsense"], ["serve", "--nonsense"]]
)
def test_misuse_ends_with_two(arguments: list[str]) -> None:
    result = _run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_settings_are_shown_one_a_line() -> None:
    result = _run("config", "show", FOREBAY_HTTP__PORT="8181")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "FOREBAY_HTTP__PORT=8181" in result.stdout.splitlines()


def test_settings_are_shown_as_json_without_secrets() -> None:
    result = _run(
        "config",
        "show",
        "--json",
        FOREBAY_KAFKA__SASL_PASSWORD="open-sesame-5551",
        FOREBAY_TOPICS__PREFIX="campus",
    )
    shown = json.loads(result.stdout)
    assert shown["FOREBAY_TOPICS__PREFIX"] == "campus"
    assert shown["FOREBAY_KAFKA__SASL_PASSWORD"] == "hidden"
    assert "open-sesame" not in result.output


def test_a_password_in_a_url_is_not_shown() -> None:
    url = "https://reader:open-sesame-5551@keys.example.edu/jwks"
    for form in ((), ("--json",)):
        result = _run("config", "show", *form, FOREBAY_LIVE_EVENTS__JWKS_URL=url)
        assert "https://reader:***@keys.example.edu/jwks" in result.stdout
        assert "open-sesame" not in result.output


@pytest.mark.parametrize(
    "command",
    [["serve"], ["config", "show"], ["config", "check"], ["topics", "list"], ["topics", "apply"]],
)
def test_misspelt_setting_is_one_line_and_two(command: list[str]) -> None:
    result = _run(*command, FOREBAY_HTPP__PORT="1")
    assert result.exit_code == 2
    assert _one_line(result) == "forebay-ingest: FOREBAY_HTPP__PORT: there is no such setting"


@pytest.mark.parametrize("command", [["serve"], ["config", "check"]])
def test_receiver_does_not_start_without_tenants(command: list[str]) -> None:
    result = _run(*command)
    assert result.exit_code == 2
    assert "FOREBAY_TENANTS_FILE" in _one_line(result)


def test_check_says_ok(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text(_GOOD)
    result = _run("config", "check", FOREBAY_TENANTS_FILE=str(path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_check_says_what_is_wrong_with_the_tenants(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text(_GOOD + "colour = 1\n")
    result = _run("config", "check", FOREBAY_TENANTS_FILE=str(path))
    assert result.exit_code == 2
    assert "tenant[1].colour" in _one_line(result)


def test_topics_are_listed_without_kafka() -> None:
    result = _run("topics", "list", "--json", FOREBAY_TOPICS__PREFIX="campus")
    assert result.exit_code == 0
    assert [entry["topic"] for entry in json.loads(result.stdout)] == ingest_topics("campus")
    plain = _run("topics", "list", FOREBAY_TOPICS__PREFIX="campus")
    assert len(plain.stdout.splitlines()) == len(ingest_topics("campus"))


def test_embedded_log_needs_no_topics() -> None:
    result = _run("topics", "apply")
    assert result.exit_code == 2
    assert "FOREBAY_KAFKA__BOOTSTRAP_SERVERS" in _one_line(result)
