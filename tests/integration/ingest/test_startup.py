"""What stands in the way of a start is said in one line; what was begun is brought to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from tests.integration.ingest.commands import TENANTS_TOML, run
from tests.integration.ingest.site import eventually, running_site
from tests.integration.ingest.wire import connected, post, read_answer
from tests.support.processes import free_port

Spoil = Callable[[Path], Mapping[str, str]]
"""Makes what is wrong under a directory, and names the settings that lead there."""


def written(path: Path, content: str | bytes) -> str:
    """The path of a new file with this content, its directory made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _other_database(directory: Path) -> Mapping[str, str]:
    (directory / "data").mkdir()
    with contextlib.closing(sqlite3.connect(directory / "data" / FILE_NAME)) as database:
        database.execute("create table theirs (a)")
    return {}


def _later_log(directory: Path) -> Mapping[str, str]:
    path = directory / "data" / FILE_NAME
    EventLog.open(path, max_bytes=2**20).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("pragma user_version = 9999")
    return {}


def _certificate(directory: Path, *, key_of_another: bool = False) -> Mapping[str, str]:
    authority = trustme.CA()
    mine, other = (authority.issue_cert("receiver.example.edu") for _ in range(2))
    signer = other if key_of_another else mine
    cert = written(directory / "cert.pem", mine.cert_chain_pems[0].bytes())
    key = written(directory / "key.pem", signer.private_key_pem.bytes())
    return {"FOREBAY_HTTP__TLS_CERT_FILE": cert, "FOREBAY_HTTP__TLS_KEY_FILE": key}


def _setting(name: str, value: str) -> Spoil:
    return lambda directory: {f"FOREBAY_{name}": value}


def _tenants(content: str | bytes) -> Spoil:
    return lambda directory: {"FOREBAY_TENANTS_FILE": written(directory / "bad.toml", content)}


OBSTACLES: dict[str, tuple[Spoil, str]] = {
    "no tenants file": (_setting("TENANTS_FILE", ""), "FOREBAY_TENANTS_FILE"),
    "missing tenants file": (_setting("TENANTS_FILE", "/nowhere/tenants.toml"), "/nowhere/"),
    "tenants file is a directory": (lambda d: {"FOREBAY_TENANTS_FILE": str(d)}, "tenants file"),
    "tenants not TOML": (_tenants("[[tenant"), "not TOML"),
    "tenants not UTF-8": (_tenants(b'name = "\xff"'), "not TOML"),
    "tenants empty": (_tenants(""), "tenant"),
    "tenants with an unknown key": (_tenants(TENANTS_TOML + 'colour = "blue"\n'), "colour"),
    "misspelt setting": (_setting("HTTP__PROT", "8080"), "FOREBAY_HTTP__PROT"),
    "misspelt section": (_setting("HTPP__PORT", "8080"), "FOREBAY_HTPP__PORT"),
    "port out of range": (_setting("HTTP__PORT", "70000"), "FOREBAY_HTTP__PORT"),
    "port no number": (_setting("ADMIN__PORT", "many"), "FOREBAY_ADMIN__PORT"),
    "retry beyond Canvas's": (_setting("HTTP__BODY_TIMEOUT_S", "60"), "BODY_TIMEOUT_S"),
    "keys over plain HTTP": (
        _setting("LIVE_EVENTS__JWKS_URL", "http://keys.example.edu/jwks"),
        "FOREBAY_LIVE_EVENTS__JWKS_URL",
    ),
    "prefix in capitals": (_setting("TOPICS__PREFIX", "Canvas"), "FOREBAY_TOPICS__PREFIX"),
    "host that is none": (_setting("HTTP__HOST", "256.0.0.1"), "256.0.0.1"),
    "address of another machine": (_setting("HTTP__HOST", "192.0.2.1"), "192.0.2.1"),
    "data directory below a file": (
        lambda d: {"FOREBAY_DATA_DIR": written(d / "file", "x") + "/data"},
        "FOREBAY_DATA_DIR",
    ),
    "text in place of the log": (
        lambda d: {"": written(d / "data" / FILE_NAME, "x" * 5_000)},
        FILE_NAME,
    ),
    "database in place of the log": (_other_database, FILE_NAME),
    "log of a later release": (_later_log, FILE_NAME),
    "directory in place of the log": (
        lambda d: {"": written(d / "data" / FILE_NAME / "x", "x")},
        FILE_NAME,
    ),
    "certificate without key": (_setting("HTTP__TLS_CERT_FILE", "cert.pem"), "TLS_KEY_FILE"),
    "missing certificate": (
        lambda d: {**_certificate(d), "FOREBAY_HTTP__TLS_CERT_FILE": "/nowhere/cert.pem"},
        "/nowhere/cert.pem",
    ),
    "certificate that is none": (
        lambda d: {**_certificate(d), "FOREBAY_HTTP__TLS_CERT_FILE": written(d / "c.pem", "x")},
        "c.pem",
    ),
    "certificate with another's key": (
        lambda d: _certificate(d, key_of_another=True),
        "key.pem",
    ),
    "Kafka password missing": (
        lambda d: {
            "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "FOREBAY_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        },
        "SASL_PASSWORD",
    ),
    "Kafka authority missing": (
        lambda d: {
            "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "FOREBAY_KAFKA__SECURITY_PROTOCOL": "SSL",
            "FOREBAY_KAFKA__SSL_CA_FILE": "/nowhere/ca.pem",
        },
        "FOREBAY_KAFKA__SSL_CA_FILE",
    ),
    "Kafka address that is none": (
        _setting("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:port"),
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS",
    ),
}


@pytest.fixture(autouse=True)
def _nobody_else_may_read() -> Iterator[None]:
    """What is spoilt here is no more open than what the programs make: else they warn of that."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    spoil, clue = OBSTACLES[name]
    settings = {key: value for key, value in spoil(tmp_path).items() if key}
    assert_one_line(run(tmp_path, "serve", **settings), clue)


@pytest.mark.parametrize("setting", ["FOREBAY_HTTP__PORT", "FOREBAY_ADMIN__PORT"])
def test_a_port_in_use_is_named_in_one_line(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert_one_line(run(tmp_path, "serve", **{setting: port}), port)


def test_one_port_for_both_listeners_is_named_in_one_line(tmp_path: Path) -> None:
    port = str(free_port())
    done = run(tmp_path, "serve", FOREBAY_HTTP__PORT=port, FOREBAY_ADMIN__PORT=port)
    assert_one_line(done, port)


def assert_one_line(done: subprocess.CompletedProcess[str], clue: str) -> None:
    """Exit code 2, and nothing but one line that names the thing: so nothing has listened yet."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("forebay-ingest: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert clue in done.stderr
    assert done.stdout == ""


def test_a_secret_is_not_shown_where_settings_are(tmp_path: Path) -> None:
    secret = "correct-horse"
    settings = {
        "FOREBAY_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "FOREBAY_KAFKA__SASL_USERNAME": "receiver",
        "FOREBAY_KAFKA__SASL_PASSWORD_FILE": written(tmp_path / "secret", secret + "\n"),
    }
    text = run(tmp_path, "config", "show", **settings)
    as_json = run(tmp_path, "config", "show", "--json", **settings)
    assert (text.returncode, as_json.returncode) == (0, 0)
    assert secret not in text.stdout + as_json.stdout
    shown = json.loads(as_json.stdout)
    assert shown["FOREBAY_KAFKA__SASL_USERNAME"] == "receiver"
    assert f"FOREBAY_DATA_DIR={tmp_path / 'data'}" in text.stdout.splitlines()


def test_a_check_of_the_settings_starts_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "config", "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["tenants with an unknown key", "misspelt setting"])
def test_a_check_of_the_settings_finds_what_is_wrong(tmp_path: Path, name: str) -> None:
    spoil, clue = OBSTACLES[name]
    assert_one_line(run(tmp_path, "config", "check", **spoil(tmp_path)), clue)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_under_way_is_answered_before_the_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with running_site(tmp_path) as site:
        request = post("/live-events", site.live_event(1))
        async with (
            connected(site.port) as (reader, writer),
            connected(site.port) as (_, idle),
        ):
            await idle.drain()
            writer.write(request[:-50])
            await writer.drain()
            assert (await site.admin("/livez")).status == 200
            site.program.send(number)
            await eventually(lambda: _is_refused(site.port), timeout_s=2)
            writer.write(request[-50:])
            answer = await read_answer(reader)
        assert answer.status == 202
        assert await asyncio.to_thread(site.program.stop) == 0
        assert answer.json()["event_id"].encode() in site.log()[-1].value


async def _is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False
