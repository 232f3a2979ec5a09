"""The fixture of the commands' tests."""

import os
from pathlib import Path

import pytest

from tests.unit.consumers.commands.worker_site import WorkerSite


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSite:
    """A directory of the test's own."""
    for name in list(os.environ):
        if name.startswith("FOREBAY_"):
            monkeypatch.delenv(name)
    site = WorkerSite(tmp_path)
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    return site
