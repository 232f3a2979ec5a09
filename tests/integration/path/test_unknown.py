"""A type and a field that nobody has heard of, with no restart of anything."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ingest.observing import drift_store
from ingest.observing.drift import Unknown
from tests.emulator.school import LiveEvent, timed
from tests.integration.ingest import commands
from tests.integration.ingest.site import read_log
from tests.integration.path.whole_path import WholePath, whole_path
from tests.support import tables
from tests.support.processes import store

_FIELD = Unknown("live-events", "course_created", "body.sluice_gates")
_TYPE = Unknown("live-events", "reservoir_drained")


async def test_unknown_type_and_field_flow_and_are_listed(tmp_path: Path) -> None:
    async with whole_path(tmp_path, seed=5) as path:
        known = path.canvas.school.live_event(0, name="course_created")
        await _post(path, known, "course_created", {"sluice_gates": {"open": 3, "secret": "x"}})
        await _post(path, known, "reservoir_drained", {"reservoir_id": "77"})
        await asyncio.to_thread(tables.wait_for_events, store(tmp_path), 2)
        await _until_noted(tmp_path)
        metrics = await asyncio.to_thread(path.receiver.get, "/metrics")
    types = tables.query(store(tmp_path), "select event_type from canvas.events order by 1")
    assert types == [("course_created",), ("reservoir_drained",)]
    gates = "select sluice_gates->>'open', column_name from canvas.course_created, "
    gates += "canvas.forebay_unknown_fields where field = 'sluice_gates'"
    assert tables.query(store(tmp_path), gates) == [("3", "sluice_gates")]
    assert [record.topic for record in read_log(tmp_path)] == [
        "canvas.live-events.course-created.v1",
        "canvas.live-events.unrecognised.v1",
    ]
    families = {family.name: family for family in text_string_to_metric_families(metrics)}
    assert [s.value for s in families["forebay_unknown_fields"].samples] == [1.0]
    assert [s.value for s in families["forebay_unknown_types"].samples] == [1.0]
    rows = _drift(tmp_path)
    assert [row["field"] or row["event_type"] for row in rows] == [_FIELD.field, _TYPE.event_type]
    assert [row["shape"] for row in rows] == [
        {"open": "number", "secret": "string"},
        {"reservoir_id": "string"},
    ]
    assert all(row["count"] == 1 and row["first_seen"].endswith("Z") for row in rows)


async def _post(path: WholePath, event: LiveEvent, name: str, body: dict[str, Any]) -> None:
    metadata = {**event.claims["metadata"], "event_name": name}
    whole = body if name != "course_created" else {**event.claims["body"], **body}
    claims = timed({**event.claims, "metadata": metadata, "body": whole}, int(time.time()))
    token = path.canvas.keys.live_events.current.sign(claims)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{path.url}/live-events", data=token) as answer,
    ):
        assert answer.status == 202


async def _until_noted(directory: Path) -> None:
    async with asyncio.timeout(30):
        file = directory / "data" / drift_store.FILE_NAME
        while drift_store.read(file).keys() != {_FIELD, _TYPE}:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.05)


def _drift(directory: Path) -> list[dict[str, Any]]:
    shown = commands.run(directory, "schema", "drift", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = commands.run(directory, "schema", "drift").stdout.splitlines()
    rows: list[dict[str, Any]] = json.loads(shown.stdout)
    assert len(lines) == len(rows)
    return rows
