"""Who else may read what is kept: said once, with the command that ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest.settings import Settings
from ingest.shared.environment import secret_files
from ingest.shared.permissions import warn_of_secrets, warn_of_shared
from tests.support.each import each_case


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one file, both for its user alone."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    (directory / "events.sqlite3").touch(mode=0o600)
    return directory


def _said_of(*directories: Path, files: list[Path] | None = None) -> list[dict[str, Any]]:
    with capture_logs() as lines:
        warn_of_shared(directories, files or [])
    return [dict(line) for line in lines]


def test_nothing_is_said_of_what_nobody_else_can_read(data: Path, tmp_path: Path) -> None:
    assert _said_of(data, tmp_path / "none", files=[tmp_path / "none.duckdb"]) == []


def test_path_and_command_are_named_for_whatever_others_have_rights_to(data: Path) -> None:
    file = data / "events.sqlite3"
    with each_case() as case:
        for mode in (0o755, 0o750, 0o701):
            with case("directory", oct(mode)):
                data.chmod(mode)
                (line,) = _said_of(data, data)
                assert (line["paths"], line["run"]) == ([str(data)], f"chmod 700 {data}")
                assert line["log_level"] == "warning"
        data.chmod(0o700)
        for mode in (0o644, 0o640, 0o602):
            with case("file", oct(mode)):
                file.chmod(mode)
                (line,) = _said_of(data)
                assert (line["paths"], line["run"]) == ([str(file)], f"chmod 600 {file}")


def test_a_file_elsewhere_is_judged_without_its_directory(data: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    store, other = tmp_path / "store.duckdb", tmp_path / "other"
    for path in (store, other):
        path.touch()
        path.chmod(0o644)
    (line,) = _said_of(data, files=[store])
    assert line["paths"] == [str(store)]


def test_a_directory_given_to_a_group_on_purpose_may_be_the_groups(data: Path) -> None:
    (data / "events.sqlite3").chmod(0o660)
    data.chmod(0o2770)
    assert _said_of(data) == []
    data.chmod(0o2775)
    assert [line["paths"] for line in _said_of(data)] == [[str(data)]]


def test_secrets_that_anybody_can_read_are_named_and_a_groups_are_not(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("own", "group", "any", "none")]
    for file, mode in zip(files, (0o600, 0o440, 0o644), strict=False):
        file.touch()
        file.chmod(mode)
    with capture_logs() as lines:
        warn_of_secrets(files)
    assert [line["paths"] for line in lines] == [[str(tmp_path / "any")]]


def test_files_with_secrets_are_found_by_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        monkeypatch.delenv(name)
    assert secret_files(Settings) == []
    monkeypatch.setenv("FOREBAY_KAFKA__SASL_PASSWORD_FILE", "/run/secrets/kafka")
    monkeypatch.setenv("FOREBAY_TENANTS_FILE", "/etc/tenants.toml")  # a file, and no secret
    assert secret_files(Settings) == [Path("/run/secrets/kafka")]
