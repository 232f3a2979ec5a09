"""What the manual tells a newcomer to type does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import orjson

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from tests.contract.golden import path_of, record_of
from tests.support import processes, tables

MANUAL = Path(__file__).parents[2] / "docs"


def test_query_of_the_manual_sees_rows_while_the_worker_runs(tmp_path: Path) -> None:
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
            [sys.executable, "-c", python_of_the_manual("duckdb")],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    assert stored["headers"]["ce_id"] in printed
    assert "submitted" in printed


def python_of_the_manual(library: str) -> str:
    """The one program of the manual that imports `library`."""
    pages = "\n".join(page.read_text() for page in sorted(MANUAL.glob("*.md")))
    blocks = re.findall(r"```python\n(.*?)```", pages, re.DOTALL)
    (block,) = (b for b in blocks if re.search(rf"^(import|from) {library}\b", b, re.MULTILINE))
    return str(block)
