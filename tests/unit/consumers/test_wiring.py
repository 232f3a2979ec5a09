"""Which sink the settings give, and what is said where it cannot be had."""

import subprocess
import sys

import pytest

from consumers.errors import StartupError
from consumers.settings import Settings
from consumers.sinks.clickhouse import ClickHouseSink
from consumers.sinks.duckdb import DuckDBSink
from consumers.wiring import open_sink
from ingest.shared.environment import load


@pytest.fixture(autouse=True)
def store_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_STORE__URL", "duckdb:///lake.duckdb")


def test_nobody_needs_the_packages_of_another_store() -> None:
    code = "import sys, consumers.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert {"asyncpg", "duckdb", "pyarrow"} & set(loaded.stdout.split()) == set()


async def test_the_scheme_of_the_url_says_which_sink() -> None:
    async with open_sink(load(Settings)) as sink:
        assert isinstance(sink, DuckDBSink)


async def test_clickhouse_is_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_STORE__URL", "clickhouse://lake:sluice-gate@db.example.edu")
    async with open_sink(load(Settings)) as sink:
        assert isinstance(sink, ClickHouseSink)


async def test_a_package_that_is_missing_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "consumers.sinks.duckdb")
    monkeypatch.setitem(sys.modules, "duckdb", None)  # as if it were not installed
    with pytest.raises(StartupError, match=r"needs the package duckdb.*'forebay\[consumers\]'"):
        async with open_sink(load(Settings)):
            pass
