"""The committed AsyncAPI document, as the AsyncAPI project's own tools judge it.

`make integration` installs them below build/, by the lock in tests/contract/asyncapi.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest
from jsonschema import Draft7Validator

from ingest.contract.describe.schemas import schemas

_ROOT = Path(__file__).parents[2]
_TOOLS = _ROOT / "build" / "asyncapi"
_CHECK = _ROOT / "tests" / "contract" / "asyncapi" / "check.mjs"
_DOCUMENT = _ROOT / "deploy" / "contract" / "asyncapi.json"
_WARNING = 1


@pytest.fixture(scope="module")
def installation() -> Path:
    """Where the tools are. Without node the tests are skipped; with it, CI=true wants the tools."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    if not (_TOOLS / "node_modules").is_dir():
        _no_tools("`make integration` installs AsyncAPI's tools where there is npm")
    return _TOOLS


def test_document_follows_the_schema_of_its_version(installation: Path) -> None:
    document = json.loads(_DOCUMENT.read_bytes())
    directory = installation / "node_modules" / "@asyncapi" / "specs" / "schemas"
    schema = json.loads((directory / f"{document['asyncapi']}.json").read_bytes())
    Draft7Validator(schema).validate(document)


def test_parser_reads_the_document_and_every_payload(installation: Path) -> None:
    answer = subprocess.run(
        ["node", _CHECK, installation / "package.json", _DOCUMENT],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(answer.stdout)
    assert [d for d in said["diagnostics"] if d["severity"] <= _WARNING] == []
    assert said["valid"]
    assert sorted(said["payloads"]) == sorted(schema["$id"] for schema in schemas().values())


def test_parser_finds_what_is_wrong(installation: Path, tmp_path: Path) -> None:
    broken = tmp_path / "asyncapi.json"
    broken.write_text(_DOCUMENT.read_text().replace('"action": "send"', '"action": "shout"'))
    answer = subprocess.run(
        ["node", _CHECK, installation / "package.json", broken],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not json.loads(answer.stdout)["valid"]


def _no_tools(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"AsyncAPI's tools cannot be asked: {reason}", pytrace=False)
    pytest.skip(f"AsyncAPI's tools cannot be asked: {reason}")
