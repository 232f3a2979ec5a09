"""What the README tells a newcomer to type does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import orjson

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from tests.contract.golden import path_of, record_of
from tests.support import processes, tables

README = Path(__file__).parents[2] / "README.md"


def test_query_of_the_readme_sees_rows_while_the_worker_runs(tmp_path: Path) -> None:
    stored = orjson.loads(path_of("submission_created").read_bytes())["record"]
    data = tmp_path / "data"
    log = EventLog.open(data / FILE_NAME, max_bytes=2**30)
    log.append([record_of(stored)])
    log.close()
    database = data / "forebay.duckdb"
    settings = {"FOREBAY_STORE__URL": f"duckdb:///{database}"}
    with processes.worker(tmp_path, settings=settings):
        tables.wait_for_events(database, 1)
        printed = subprocess.run(
            [sys.executable, "-c", python_of_the_readme("duckdb")],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    assert stored["headers"]["ce_id"] in printed
    assert "submitted" in printed


def test_commands_of_the_readme_exist() -> None:
    makefile = README.with_name("Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z-]+)", README.read_text()))
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


def python_of_the_readme(library: str) -> str:
    """The one program of the README that imports `library`."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = (b for b in blocks if re.search(rf"^(import|from) {library}\b", b, re.MULTILINE))
    return str(block)
