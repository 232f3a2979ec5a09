"""`forebay-ingest schema`: what it prints, writes and refuses."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.commands.main import main
from ingest.commands.past_contracts import COMMITTED_AT
from ingest.contract.describe.schemas import schemas
from ingest.observing.drift import Sighting, Unknown
from ingest.observing.drift_store import FILE_NAME, add

_NAME = "live-events.submission-created.v1"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["schema", *arguments])


def _one_line(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("forebay-ingest: ")
    return line


def _edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "schemas" / f"{_NAME}.json"
    schema = json.loads(path.read_text())
    change(schema["$defs"]["body"]["properties"])
    path.write_text(json.dumps(schema))


def _git(repository: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    directory = tmp_path / "contract"
    assert _run("export", "--out", str(directory)).exit_code == 0
    return directory


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which v1 is today's contract; the commands run within it."""
    root = tmp_path / "repository"
    assert _run("export", "--out", str(root / COMMITTED_AT)).exit_code == 0
    _git(root, "init", "--quiet")
    _commit(root, "v1")
    monkeypatch.chdir(root / "deploy")
    return root


def _commit(repository: Path, tag: str) -> None:
    _git(repository, "add", "--all")
    _git(repository, "commit", "--quiet", "--allow-empty", "--message", tag)
    _git(repository, "tag", tag)


def test_every_schema_is_listed() -> None:
    result = _run("list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(schemas())
    listed = json.loads(_run("list", "--json").stdout)
    assert {"schema": _NAME, "title": "submission_created"} in listed
    assert len(listed) == len(schemas())


@pytest.mark.parametrize(
    "name",
    ["submission_created", _NAME, f"urn:forebay:schema:{_NAME}", f"canvas.{_NAME}", f"a.b.{_NAME}"],
)
def test_schema_is_shown_by_any_of_its_names(name: str) -> None:
    result = _run("show", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == schemas()[_NAME]


def test_unknown_schema_is_misuse() -> None:
    assert "'course_evaporated'" in _one_line(_run("show", "course_evaporated"))


def test_directory_that_cannot_be_written_is_misuse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in _one_line(_run("export", "--out", str(tmp_path / "file" / "x")))


def test_check_says_nothing_of_the_same_contract(exported: Path) -> None:
    result = _run("check", "--against", str(exported))
    assert (result.exit_code, result.output) == (0, "")
    one = str(exported / "schemas" / f"{_NAME}.json")
    assert _run("check", "--against", one).exit_code == 0
    assert _run("check", "--against", str(exported / "schemas")).exit_code == 0


def test_check_names_each_break_and_ends_with_one(exported: Path) -> None:
    _edit(exported, lambda fields: fields.update(gone={"type": "string"}))
    _edit(exported, lambda fields: fields["score"].update(type="string"))
    result = _run("check", "--against", str(exported))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{_NAME}: body.score was string, is number | null (as of {exported})",
        f"{_NAME}: body.gone is gone (as of {exported})",
    ]
    breaks = json.loads(_run("check", "--against", str(exported), "--json").stdout)
    assert breaks[1] == {"break": f"{_NAME}: body.gone is gone", "since": str(exported)}


def test_removed_topic_is_a_break(exported: Path) -> None:
    path = exported / "schemas" / f"{_NAME}.json"
    text = path.read_text().replace("submission-created", "submission-dreamt")
    path.with_name("new.json").write_text(text)
    result = _run("check", "--against", str(exported))
    assert result.exit_code == 1
    assert "live-events.submission-dreamt.v1: the topic is gone" in result.stdout


def test_revision_is_compared_as_it_was_committed(repository: Path) -> None:
    assert _run("check", "--against", "v1").exit_code == 0
    # what is not committed counts for nothing
    shutil.rmtree(repository / COMMITTED_AT)
    assert _run("check", "--against", "HEAD").exit_code == 0


def test_field_added_and_removed_since_the_revision_is_a_break(repository: Path) -> None:
    contract = repository / COMMITTED_AT
    _edit(contract, lambda fields: fields.update(short_lived={"type": "string"}))
    _commit(repository, "v2")
    _edit(contract, lambda fields: fields.pop("short_lived"))
    _commit(repository, "v3")
    result = _run("check", "--against", "v1")
    assert result.exit_code == 1
    assert f"{_NAME}: body.short_lived is gone" in result.stdout
    assert _run("check", "--against", "v3").exit_code == 0


@pytest.mark.parametrize("against", ["no-such-thing", "--output=x", "v1:deploy"])
def test_what_is_neither_revision_nor_path_is_misuse(repository: Path, against: str) -> None:
    _one_line(_run("check", f"--against={against}"))


def test_revision_without_a_contract_is_misuse(repository: Path) -> None:
    shutil.rmtree(repository / "deploy" / "contract")
    (repository / "deploy").mkdir(exist_ok=True)
    _commit(repository, "v2")
    _one_line(_run("check", "--against", "v2"))


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"$id": 5}'])
def test_file_that_is_no_schema_is_misuse(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert "is no schema of ours" in _one_line(_run("check", "--against", str(path)))


def test_empty_directory_is_misuse(tmp_path: Path) -> None:
    assert "holds no schemas" in _one_line(_run("check", "--against", str(tmp_path)))


def test_git_outside_a_repository_is_misuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    _one_line(_run("check", "--against", "v1"))


def test_drift_is_listed_with_the_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_DATA_DIR", str(tmp_path))
    assert (_run("drift").output, _run("drift", "--json").output) == ("", "[]\n")
    field, kind = Unknown("pns", "LtiX", "body.y"), Unknown("live-events", "gate_opened")
    add(tmp_path / FILE_NAME, {field: Sighting(3, "2026-02", "2026-03", {"a": "string"})})
    add(tmp_path / FILE_NAME, {kind: Sighting(1, "2026-01", "2026-01", {})})
    assert [line.split() for line in _run("drift").stdout.splitlines()] == [
        ["2026-01", "1", "live-events", "gate_opened", "{}"],
        ["2026-02", "3", "pns", "LtiX", "body.y", '{"a":', '"string"}'],
    ]
    assert json.loads(_run("drift", "--json").stdout)[1] == {
        "kind": "field",
        "source": "pns",
        "event_type": "LtiX",
        "field": "body.y",
        "count": 3,
        "first_seen": "2026-02",
        "last_seen": "2026-03",
        "shape": {"a": "string"},
    }


def test_drift_that_cannot_be_read_is_misuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_DATA_DIR", str(tmp_path))
    (tmp_path / FILE_NAME).mkdir()
    _one_line(_run("drift"))
    monkeypatch.setenv("FOREBAY_HTTP__PORT", "high")
    _one_line(_run("drift"))
