"""What the contract does not know is counted by name and shape, within bounds."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from ingest.normalising import normalise
from ingest.observing import drift_store
from ingest.observing.drift import (
    MAX_NAMES,
    OTHER,
    Drift,
    Sighting,
    Unknown,
    bounded,
    kinds,
    shape_of,
)
from ingest.observing.drift_store import DriftStore, add, read
from ingest.observing.metrics import Metrics
from tests.contract.golden import RECEIVED_AT, examples, verified
from tests.emulator.school import timed
from tests.support.builders import (
    caliper_claims,
    caliper_event,
    envelope,
    live_event,
    live_event_claims,
    live_event_metadata,
    notice,
)

COLOUR = Unknown("live-events", "course_created", "body.colour")


def _seen(*events: Any) -> dict[Unknown, Sighting]:
    drift = Drift()
    for event in events:
        drift.see(event)
    return dict(drift.seen())


def _at(second: int, **body: Any) -> Any:
    return envelope({"received_at": f"2026-09-21T14:13:{second:02}.000Z"}, body)


def test_unknown_field_is_counted_with_its_shape_and_since_when() -> None:
    seen = _seen(_at(1, course_id="7", colour="red"), _at(2), _at(3, colour={"r": 1}))
    first, last = "2026-09-21T14:13:01.000Z", "2026-09-21T14:13:03.000Z"
    assert seen == {COLOUR: Sighting(2, first, last, "string")}


def test_unknown_type_is_counted_with_the_shape_of_its_body() -> None:
    event = envelope({"event_type": "course_evaporated"}, {"course_id": "9", "left": [1.5]})
    ((unknown, sighting),) = _seen(event).items()
    assert (unknown, unknown.kind) == (Unknown("live-events", "course_evaporated"), "type")
    assert sighting.shape == {"course_id": "string", "left": ["number"]}


def test_unknown_metadata_belong_to_no_type() -> None:
    metadata = live_event_metadata(mood="calm")
    event = normalise(live_event(live_event_claims(metadata=metadata)))
    assert _seen(event).keys() == {Unknown("live-events", "", "metadata.mood")}


def test_caliper_event_has_the_fields_of_its_format() -> None:
    event = caliper_event(colour="red", course_id="7")
    seen = _seen(normalise(live_event(caliper_claims(data=[event]), format_="caliper")))
    assert {unknown.field for unknown in seen} == {"body.colour", "body.course_id"}


def test_notices_that_are_known_are_not_counted() -> None:
    assert _seen(normalise(notice())) == {}


def test_of_the_golden_examples_only_those_drift_that_are_meant_to() -> None:
    seen: dict[Unknown, Sighting] = {}
    for example in examples():
        seen |= _seen(normalise(verified(timed(example.claims, int(RECEIVED_AT)))))
    assert sorted(f"{u.event_type} {u.field}".strip() for u in seen) == [
        "LtiResourceCopyNotice",
        "caliper.view_event.viewed",
        "quizzes.item_created body.scoring_data_value",
        "rubric_assessed body.data",
    ]


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("secret", "string"),
        (7, "number"),
        (7.5, "number"),
        (True, "boolean"),
        (None, "null"),
        ([], []),
        ([{"a": "secret"}, "secret"], [{"a": "string"}]),
        ({"mail@example.edu": "secret", "10930001": 1, "ok": 2}, {"*": "number", "ok": "number"}),
        ({"a": {"b": {"c": {"d": "secret"}}}}, {"a": {"b": {"c": "object"}}}),
        ({"a": {"b": {"c": ["secret"]}}}, {"a": {"b": {"c": "array"}}}),
    ],
)
def test_shape_has_names_and_types_and_no_values(value: Any, shape: Any) -> None:
    assert shape_of(value) == shape


def test_shape_is_bounded() -> None:
    wide = {"x" * n: n for n in range(1, 40)}
    assert len(shape_of(wide)) == 20


def test_names_beyond_a_hundred_are_counted_as_one() -> None:
    events = [_at(1, **{f"new_{n}": n}) for n in range(MAX_NAMES + 7)]
    types = [envelope({"event_type": f"new_{n}"}, {}) for n in range(MAX_NAMES + 5)]
    seen = _seen(*events, *types, *events[:1])
    assert len(seen) == 2 * MAX_NAMES + 2
    assert seen[Unknown("live-events", "", OTHER)].count == 7
    assert seen[Unknown("live-events", OTHER)].count == 5
    assert seen[Unknown("live-events", OTHER)].shape is None
    assert seen[Unknown("live-events", "course_created", "body.new_0")].count == 2


def test_long_names_are_cut() -> None:
    seen = _seen(envelope({"event_type": "x" * 9999}), _at(1, **{"y" * 9999: 1}))
    assert all(len(u.event_type) <= 100 and len(u.field) <= 105 for u in seen)


def test_bound_holds_for_each_kind_of_its_own() -> None:
    fields = {Unknown("pns", "t", f"body.{n}"): 1 for n in range(MAX_NAMES)}
    named = kinds(fields)
    assert bounded(fields, named, Unknown("pns", "new")) == Unknown("pns", "new")
    assert bounded(fields, named, Unknown("pns", "t", "body.new")) == Unknown("pns", "", OTHER)


def test_all_unknown_fields_of_one_event_are_counted_however_many() -> None:
    drift = Drift()
    for _ in range(2):
        drift.see(_at(1, **{f"field_{n}": n for n in range(5_000)}))
    seen = drift.seen()
    assert sum(sighting.count for sighting in seen.values()) == 10_000
    assert len(seen) == MAX_NAMES + 1


def test_metrics_show_counts_by_name() -> None:
    metrics, drift = Metrics("p1"), Drift()
    metrics.watch_drift(drift.seen)
    for event in (_at(1, colour="red"), envelope({"event_type": "course_evaporated"}, {})):
        drift.see(event)
    text = generate_latest(metrics.registry).decode()
    labels = 'event_type="course_created",field="body.colour",process="p1",source="live-events"'
    assert f"forebay_unknown_fields_total{{{labels}}} 1.0" in text
    labels = 'event_type="course_evaporated",process="p1",source="live-events"'
    assert f"forebay_unknown_types_total{{{labels}}} 1.0" in text


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / drift_store.FILE_NAME

    def test_nothing_is_there_at_first(self, path: Path) -> None:
        assert read(path) == {}

    def test_sightings_add_up_and_the_first_shape_stays(self, path: Path) -> None:
        add(path, {COLOUR: Sighting(2, "b", "c", "string")})
        add(path, {COLOUR: Sighting(3, "a", "b", "number")})
        assert read(path) == {COLOUR: Sighting(5, "a", "c", "string")}

    def test_file_is_bounded_too(self, path: Path) -> None:
        for run in "ab":
            unknown = [Unknown("pns", f"{run}{n}") for n in range(MAX_NAMES)]
            add(path, {u: Sighting(1, "a", "a", None) for u in unknown})
        assert len(read(path)) == MAX_NAMES + 1
        assert read(path)[Unknown("pns", OTHER)].count == MAX_NAMES

    @pytest.mark.parametrize("damage", [b"", b"{", b'[{"unknown": 1}]', b"\xff", b"[" * 100_000])
    def test_damaged_file_is_replaced(self, path: Path, damage: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(damage)
        add(path, {COLOUR: Sighting(1, "a", "a", None)})
        assert read(path).keys() == {COLOUR}

    async def test_what_is_seen_is_written_while_the_receiver_runs(self, path: Path) -> None:
        drift = Drift()
        store = _store(drift, path)
        running = asyncio.create_task(store.run())
        drift.see(_at(1, colour="red"))
        await _until(lambda: COLOUR in read(path))
        running.cancel()
        await asyncio.wait([running])
        drift.see(_at(2, colour="red"))
        await store.close()
        assert read(path)[COLOUR].count == 2
        assert "red" not in str(read(path))

    async def test_nothing_is_written_while_nothing_is_new(self, path: Path) -> None:
        drift = Drift()
        store = _store(drift, path)
        await store.write()
        assert read(path) == {}
        drift.see(_at(1, colour="red"))
        await store.write()
        add(path, {COLOUR: Sighting(1, "a", "a", None)})
        await store.write()
        assert read(path)[COLOUR].count == 2

    async def test_file_that_cannot_be_written_is_counted_and_written_later(
        self, path: Path
    ) -> None:
        path.parent.write_text("a file where a directory should be")
        drift, failures = Drift(), list[str]()
        store = _store(drift, path, failures)
        drift.see(_at(1, colour="red"))
        with capture_logs() as lines:
            await store.write()
            await store.write()
        assert failures == ["drift.json", "drift.json"]
        assert [line["log_level"] for line in lines] == ["warning"]
        path.parent.unlink()
        await store.write()
        assert read(path)[COLOUR].count == 1

    def test_file_is_for_its_owner_alone(self, path: Path) -> None:
        add(path, {COLOUR: Sighting(1, "a", "a", None)})
        assert path.stat().st_mode & 0o777 == 0o600


def _store(drift: Drift, path: Path, failures: list[str] | None = None) -> DriftStore:
    failed = (failures if failures is not None else []).append
    return DriftStore(drift, path, every_s=0.01, failed=failed)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it waits for a file
            await asyncio.sleep(0.01)
