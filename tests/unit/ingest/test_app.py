"""The receiver's background tasks: each one that fails is begun again, or ends the process."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from ingest import app, verify_deferred, wiring
from ingest.contract.eventlog.eventlog import EventLog
from ingest.contract.topics import ingest_topics
from ingest.http import tls
from ingest.http.tls import Certificate
from ingest.observing.canvas_budget import CanvasBudget
from ingest.observing.drift import Drift
from ingest.observing.tenants_seen import TenantsSeen
from ingest.publishing.kafka.cluster import Cluster, Silent
from ingest.settings import LiveEventsSettings, Settings
from ingest.shared.background import Background, TaskEnded
from ingest.shared.kafka import topic_admin
from ingest.shared.sections import KafkaSettings
from ingest.spool.spool import Spool
from ingest.spool.usage import Growth
from ingest.storage.token_bucket import TokenBucket
from ingest.verifying import tenants_reload
from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.tenants_file import Directory, read_tenants
from ingest.wiring import Parts
from tests.support.builders import LIVE_EVENTS_ISSUER, PLATFORM
from tests.unit.ingest.publishing.fakes import until

_TENANTS = f"""
[[platform]]
issuer = "{PLATFORM}"
jwks_url = "https://keys.example.edu/platform"

[[tenant]]
name = "north"
live_events = [{{ root_account_uuid = "root" }}]
pns = [{{ issuer = "{PLATFORM}", client_id = "1" }}]
"""


def _fail(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError


# what each task stands on, and what fails there in a way that nobody foresaw
RESTARTED: dict[str, tuple[Any, str]] = {
    f"keys {LIVE_EVENTS_ISSUER}": (KeySource, "_download"),
    f"keys {PLATFORM}": (KeySource, "_download"),
    "alarms": (CanvasBudget, "used_ratio"),
    "tls reload": (tls, "_stamps"),
    "topic check": (topic_admin, "existing"),
    "drift store": (Drift, "seen"),
    "tenants seen store": (TenantsSeen, "seen"),
    "tenants reload": (tenants_reload, "stamps"),
}
NEEDED: dict[str, tuple[Any, str]] = {
    "spool maintenance": (Growth, "saw"),
    "kafka publisher": (Cluster, "refresh"),
    "drainer": (Spool, "has_records"),
    "deferred verification": (Spool, "has_tokens"),
}


EVENT_LOG = "event log maintenance"
"""Needed in place of all that has to do with Kafka."""


class _Receiver:
    """All of a receiver but its listeners, with a Kafka and key sources that do not answer."""

    def __init__(self, directory: Path) -> None:
        issued = trustme.CA().issue_cert("receiver.example.edu")
        cert, key, tenants = (directory / name for name in ("cert.pem", "key.pem", "tenants.toml"))
        cert.write_bytes(issued.cert_chain_pems[0].bytes())
        key.write_bytes(issued.private_key_pem.bytes())
        tenants.write_text(_TENANTS)
        self._certificate = Certificate(cert, key)
        self._directory: Directory = read_tenants(tenants)
        self._settings = Settings(
            data_dir=directory / "data",
            tenants_file=tenants,
            live_events=LiveEventsSettings(
                issuer=LIVE_EVENTS_ISSUER, jwks_url="https://keys.example.edu/live"
            ),
            kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        )

    def without_kafka(self) -> None:
        self._settings = self._settings.model_copy(update={"kafka": KafkaSettings()})

    def fail(self, fault: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        is_property = isinstance(getattr(owner, name), property)
        fault.setattr(owner, name, property(_fail) if is_property else _fail)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Parts]:
        async with wiring.assembled(self._settings, self._directory) as parts:
            app._start_background(self._settings, self._directory, parts, self._certificate)
            yield parts


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Receiver:
    async def silent(self: Cluster, topics: Any) -> None:
        raise Silent("nobody is there")

    async def no_keys(self: KeySource) -> bytes:
        raise KeysUnavailable("nobody is there")

    async def all_topics(options: Any) -> set[str]:
        return set(ingest_topics("canvas"))

    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Cluster, "refresh", silent)
    monkeypatch.setattr(KeySource, "_download", no_keys)
    monkeypatch.setattr(topic_admin, "existing", all_topics)
    defaults = KeySource.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "cooldown_s", 0.0)
    monkeypatch.setattr(tls, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(wiring, "_DRIFT_EVERY_S", 0.001)
    monkeypatch.setattr(wiring, "_SEEN_EVERY_S", 0.001)
    monkeypatch.setattr(tenants_reload, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(wiring, "_CONNECT_WITHIN_S", 0.001)
    monkeypatch.setattr(verify_deferred, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(wiring, "Background", partial(Background, first_pause_s=0.001))
    return _Receiver(tmp_path)


async def test_every_task_is_named_and_none_ends_while_all_is_well(receiver: _Receiver) -> None:
    async with receiver.running() as parts:
        tasks = parts.background._tasks
        assert {task.get_name() for task in tasks} == RESTARTED.keys() | NEEDED.keys()
        await until(lambda: _task(parts, "topic check").done())  # it has nothing more to do
        assert [task.get_name() for task in tasks if task.done()] == ["topic check"]


async def test_without_kafka_the_event_log_is_looked_after(receiver: _Receiver) -> None:
    receiver.without_kafka()
    async with receiver.running() as parts:
        names = {task.get_name() for task in parts.background._tasks}
        of_kafka = {"kafka publisher", "drainer", "topic check"}
        assert names == {EVENT_LOG, *RESTARTED, *NEEDED} - of_kafka


@pytest.mark.parametrize("name", RESTARTED)
async def test_task_that_fails_is_begun_again_and_counted(
    receiver: _Receiver, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as lines, monkeypatch.context() as fault:
        receiver.fail(fault, *RESTARTED[name])
        async with receiver.running() as parts:
            await until(lambda: sum(line.get("task") == name for line in lines) >= 3)
            fault.undo()
            assert not _task(parts, name).done()
            assert not parts.background._ended.done()
    ours = [line for line in lines if line.get("task") == name]
    assert {line["cause"] for line in ours} == {"ZeroDivisionError"}
    labels = {"process": "0", "task": name}
    counted = parts.metrics.registry.get_sample_value("forebay_background_restarts_total", labels)
    assert counted == len(ours)


@pytest.mark.parametrize("name", [*NEEDED, EVENT_LOG])
async def test_end_of_a_needed_task_is_the_end_of_the_receiver(
    receiver: _Receiver, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == EVENT_LOG:
        receiver.without_kafka()
    receiver.fail(monkeypatch, *NEEDED.get(name, (EventLog, "trim")))
    with capture_logs() as lines:
        async with receiver.running() as parts:
            with pytest.raises(TaskEnded, match=f"^{name}$"):
                await asyncio.wait_for(parts.background.guard(asyncio.Event().wait()), 5)
    (line,) = [line for line in lines if line.get("task") == name]
    assert (line["log_level"], line["cause"]) == ("error", "ZeroDivisionError")


async def test_tasks_for_keys_follow_the_tenants_file(receiver: _Receiver) -> None:
    file = receiver._settings.tenants_file
    assert file is not None
    async with receiver.running() as parts:
        file.write_text(_TENANTS.replace("live_events", "# live_events"))
        await until(lambda: _names(parts, "keys") == {f"keys {PLATFORM}"})
        file.write_text(_TENANTS.replace("/platform", "/moved"))
        await until(lambda: len(_names(parts, "keys")) == 2)
        assert len([task for task in parts.background._tasks if "keys" in task.get_name()]) == 2
        assert parts.keys.keys() == {LIVE_EVENTS_ISSUER, PLATFORM}


async def test_whatever_knows_tenants_follows_the_tenants_file(receiver: _Receiver) -> None:
    file = receiver._settings.tenants_file
    assert file is not None
    async with receiver.running() as parts:
        parts.metrics.seen("north", "live-events", 1.0)
        intake = parts.intake
        intake._deferred._shares["north", "pns"] = TokenBucket(burst=1, per_s=1)
        intake._tenant_rates._left["north"] = TokenBucket(burst=1, per_s=1)
        file.write_text(_TENANTS.replace("north", "south"))
        await until(lambda: not parts.metrics.last_event)
        assert intake._verifier._tenants.of_live_event("root", None) == "south"
        assert (intake._deferred._shares, intake._tenant_rates._left) == ({}, {})


async def test_draining_sees_its_task_fail(
    receiver: _Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.fail(monkeypatch, *NEEDED["deferred verification"])
    monkeypatch.setattr(app, "_empty", lambda spool, stop: stop.wait())
    with pytest.raises(TaskEnded, match=r"^deferred verification$"):
        await app.drained(receiver._settings, receiver._directory, timeout_s=30)


def _task(parts: Parts, name: str) -> "asyncio.Task[None]":
    return next(task for task in parts.background._tasks if task.get_name() == name)


def _names(parts: Parts, beginning: str) -> set[str]:
    names = {task.get_name() for task in parts.background._tasks if not task.done()}
    return {name for name in names if name.startswith(beginning)}
