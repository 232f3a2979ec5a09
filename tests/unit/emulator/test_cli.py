"""The commands, in this process: no key server port is fixed, so runs do not meet."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from tests.emulator.cli import cli
from tests.emulator.corpus import load_corpus
from tests.emulator.key_store import KEYS_FILE, load_or_generate
from tests.emulator.oracle import Oracle
from tests.unit.emulator.receiver_stub import accept, receiver_stub


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def keys_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def receiver_url() -> Iterator[str]:
    """A receiver in a thread of its own, since the commands bring their own event loop."""
    ready, done = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with receiver_stub(accept) as receiver:
            urls.append(receiver.url)
            ready.set()
            await asyncio.to_thread(done.wait, 60)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield urls[0]
    finally:
        done.set()
        thread.join(10)


def test_types_lists_the_corpus() -> None:
    listed = _run("types").stdout.split()
    assert {"submission_created", "heartbeat", "LtiContextCopyNotice"} <= set(listed)
    corpus = load_corpus()
    assert json.loads(_run("types", "--json").stdout) == {
        "live_events": list(corpus.event_names),
        "notices": list(corpus.notice_types),
    }


def test_token_prints_one_event_signed_with_the_kept_keys(keys_dir: str) -> None:
    result = _run("token", "--keys-dir", keys_dir, "--type", "submission_created")
    assert result.exit_code == 0
    key = load_or_generate(Path(keys_dir)).live_events.current
    claims = jwt.decode(result.stdout.strip(), jwt.PyJWK(key.jwk()), algorithms=["RS256"])
    assert claims["metadata"]["event_name"] == "submission_created"


def test_token_prints_a_notice_as_the_body_to_post(keys_dir: str) -> None:
    result = _run("token", "--keys-dir", keys_dir, "--type", "LtiHelloWorldNotice")
    [notice] = json.loads(result.stdout)["notices"]
    claims = jwt.decode(notice["jwt"], options={"verify_signature": False})
    assert claims["https://www.instructure.com/hello_world"]


def test_an_unknown_type_is_wrong_usage() -> None:
    for command in (["token"], ["run", "--target-url", "http://127.0.0.1:9"]):
        result = _run(*command, "--type", "flood_warning")
        assert result.exit_code == 2
        assert "flood_warning" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_bad_time_is_wrong_usage() -> None:
    result = _run("token", "--type", "heartbeat", "--start-time", "soon")
    assert result.exit_code == 2
    assert "'soon'" in result.stderr


def test_run_reports_records_and_writes_the_tenants_file(
    keys_dir: str, tmp_path: Path, receiver_url: str
) -> None:
    record, tenants = tmp_path / "record.jsonl", tmp_path / "etc" / "tenants.toml"
    result = _run(
        "run", "--target-url", receiver_url, "--events", "12", "--notices", "5", "--batch", "2",
        "--repeat-share", "0.3", "--port", "0", "--keys-dir", keys_dir, "--record", str(record),
        "--tenants-file", str(tenants), "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    events, notices = json.loads(result.stdout)
    assert (events["events"], events["accepted"], events["ok"]) == (12, 12, True)
    assert (notices["events"], notices["accepted"]) == (5, 5)
    assert len(Oracle.load(record).accepted) == 17
    assert "[[tenant.live_events]]" in tenants.read_text()


def test_a_type_without_a_caliper_example_is_wrong_usage() -> None:
    url = "http://127.0.0.1:9"
    result = _run("run", "--target-url", url, "--type", "heartbeat", "--caliper-share", "0.1")
    assert result.exit_code == 2
    assert "heartbeat" in result.stderr


def test_run_fails_when_nobody_answers(keys_dir: str) -> None:
    result = _run(
        "run", "--target-url", "http://127.0.0.1:9", "--events", "2", "--port", "0",
        "--keys-dir", keys_dir,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "0 of 2 accepted" in result.stdout
    assert "Cannot connect" in result.stderr


def test_what_canvas_would_consider_lost_is_said(keys_dir: str) -> None:
    arguments = (
        "run", "--target-url", "http://127.0.0.1:9", "--events", "3", "--notices", "2",
        "--port", "0", "--keys-dir", keys_dir, "--type", "heartbeat",
        "--canvas-retries", "--time-scale", "0.0001", "--resign-share", "0.5",
    )  # fmt: skip
    result = _run(*arguments)
    assert result.exit_code == 1
    assert "live-events: 3 sent, 0 accepted, 3 lost for good (heartbeat 3)" in result.stdout
    assert "pns: 2 sent, 0 accepted, 2 lost for good (" in result.stdout
    assert "3 of 9500 timeouts, 0 of 28000 errors in 24 h" in result.stdout
    assert "the subscription stays active" in result.stdout
    events, notices = json.loads(_run(*arguments, "--json").stdout)
    assert (events["attempts"], notices["attempts"]) == (12, 2)
    assert events["lanes"]["live-events"]["lost_by_name"] == {"heartbeat": 3}
    assert events["budget"]["used"] == {"timeout": 3, "error": 0}
    assert events["budget"]["deactivated"] is False


def test_a_stream_of_events_and_notices_with_a_rotation(tmp_path: Path, receiver_url: str) -> None:
    before = load_or_generate(tmp_path)
    result = _run(
        "stream", "--target-url", receiver_url, "--rate", "100", "--duration", "0.5",
        "--notice-share", "0.5", "--repeat-share", "0.2", "--repeat-delay", "0.1",
        "--rotate-at", "10", "--port", "0", "--keys-dir", str(tmp_path), "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    [report] = json.loads(result.stdout)
    assert set(report["lanes"]) == {"live-events", "pns"}
    assert 10 <= report["events"] == report["accepted"] <= 60
    after = load_or_generate(tmp_path)
    assert after.live_events.current.kid == before.live_events.next.kid
    assert after.platform.current.kid == before.platform.next.kid


def test_a_stream_stops_at_sigint_and_still_reports(
    keys_dir: str, tmp_path: Path, receiver_url: str
) -> None:
    record = tmp_path / "record.jsonl"

    def interrupt() -> None:
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            if record.exists() and record.stat().st_size:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    # the end is there so that a deaf stream fails the test instead of hanging it
    result = _run(
        "stream", "--target-url", receiver_url, "--port", "0", "--keys-dir", keys_dir,
        "--record", str(record), "--duration", "20", "--rate", "50", "--json",
    )  # fmt: skip
    interrupting.join()
    assert result.exit_code == 0, result.stderr
    [report] = json.loads(result.stdout)
    assert report["events"] == report["accepted"] < 500


def test_new_keys_that_nobody_shows_are_wrong_usage() -> None:
    result = _run("stream", "--target-url", "http://x", "--rotate-at", "1", "--no-serve-keys")
    assert result.exit_code == 2
    assert "--serve-keys" in result.stderr


def _assert_one_line_error(result: Result) -> None:
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")


def test_unreadable_keys_are_one_line(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).write_text("scribble")
    _assert_one_line_error(_run("token", "--type", "heartbeat", "--keys-dir", str(tmp_path)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_is_one_line(keys_dir: str) -> None:
    result = _run(
        "run", "--target-url", "http://127.0.0.1:9", "--port", "0", "--record", "/dev/full",
        "--keys-dir", keys_dir,
    )  # fmt: skip
    _assert_one_line_error(result)


def test_a_taken_port_is_one_line_and_can_be_left_to_another(keys_dir: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("run", "--target-url", "http://127.0.0.1:9", "--events", "0", "--port", port)
        keys = ("--keys-dir", keys_dir)
        _assert_one_line_error(_run(*arguments, *keys))
        assert _run(*arguments, *keys, "--no-serve-keys").exit_code == 0


def test_run_tells_a_story_of_events_and_notices(keys_dir: str, receiver_url: str) -> None:
    result = _run(
        "run", "--target-url", receiver_url, "--story", "--events", "2000", "--weeks", "2",
        "--start-time", "now", "--caliper-share", "0.2", "--port", "0", "--keys-dir", keys_dir,
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    [report] = json.loads(result.stdout)
    assert set(report["lanes"]) == {"live-events", "pns"}
    assert report["events"] == report["accepted"] == 2000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--events", "1999"], "--events 2000"),
        (["--events", "2000", "--notices", "1"], "--notices"),
        (["--events", "2000", "--type", "logged_in"], "--type"),
    ],
)
def test_a_story_that_cannot_be_told_is_wrong_usage(options: list[str], says: str) -> None:
    result = _run("run", "--target-url", "http://127.0.0.1:9", "--story", *options)
    assert result.exit_code == 2
    assert says in result.stderr
