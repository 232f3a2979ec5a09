"""JSON values in columns."""

from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.columns import Misfit, fit
from consumers.projections.head import event_time, repeats_keep_time
from ingest.contract.envelope import Envelope
from ingest.contract.tables import ColumnType
from tests.unit.consumers.builders import copy_notice, live_event


@pytest.mark.parametrize(
    ("value", "column", "held"),
    [
        ("weir", "TEXT", "weir"),
        ("", "TEXT", ""),
        (31, "TEXT", "31"),
        (2**70, "TEXT", str(2**70)),
        (1.5, "TEXT", "1.5"),
        (True, "TEXT", "true"),
        (7, "BIGINT", 7),
        (7.0, "BIGINT", 7),
        (2**63 - 1, "BIGINT", 2**63 - 1),
        (-(2**63), "BIGINT", -(2**63)),
        (7, "DOUBLE", 7.0),
        (0.1, "DOUBLE", 0.1),
        (False, "BOOLEAN", False),
        ({"a": [1]}, "JSON", '{"a":[1]}'),
        ("text", "JSON", '"text"'),
        ([2**70], "JSON", f"[{2**70}]"),
        ("2026-09-07T06:30:00.250Z", "TIMESTAMPTZ", datetime(2026, 9, 7, 6, 30, 0, 250000, UTC)),
        ("2026-09-07T08:30:00+02:00", "TIMESTAMPTZ", datetime(2026, 9, 7, 6, 30, tzinfo=UTC)),
        ("2026-09-07t06:30:00z", "TIMESTAMPTZ", datetime(2026, 9, 7, 6, 30, tzinfo=UTC)),
    ],
)
def test_what_fits_is_held(value: Any, column: ColumnType, held: Any) -> None:
    assert fit(value, column) == held
    assert type(fit(value, column)) is type(held)


@pytest.mark.parametrize("column", ["TEXT", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ", "JSON"])
def test_null_is_held_by_every_column(column: ColumnType) -> None:
    assert fit(None, column) is None


@pytest.mark.parametrize(
    ("value", "column"),
    [
        ({}, "TEXT"),
        (["a"], "TEXT"),
        ("7", "BIGINT"),
        (7.5, "BIGINT"),
        (True, "BIGINT"),
        (2**63, "BIGINT"),
        (1e300, "BIGINT"),
        ("0.5", "DOUBLE"),
        (True, "DOUBLE"),
        (2**53 + 1, "DOUBLE"),
        (10**400, "DOUBLE"),
        ("true", "BOOLEAN"),
        (1, "BOOLEAN"),
        ("yesterday", "TIMESTAMPTZ"),
        ("2026-09-07", "TIMESTAMPTZ"),
        ("2026-09-07T06:30:00", "TIMESTAMPTZ"),
        ("2026-02-30T06:30:00Z", "TIMESTAMPTZ"),
        ("0001-01-01T00:00:00+05:00", "TIMESTAMPTZ"),
        (1_788_000_000, "TIMESTAMPTZ"),
    ],
)
def test_what_does_not_fit_is_a_misfit(value: Any, column: ColumnType) -> None:
    with pytest.raises(Misfit):
        fit(value, column)


def test_a_time_named_in_issues_is_unreadable_even_if_it_parses() -> None:
    assert event_time(live_event(1, issues=["metadata.event_time"])) is None
    assert event_time(live_event(1, issues=["body.name"])) is not None
    assert event_time(live_event(1, event_time="some day")) is None


def test_only_events_whose_id_covers_a_readable_time_keep_their_time() -> None:
    def keeps(envelope: Envelope) -> bool:
        return repeats_keep_time(envelope, event_time(envelope))

    assert keeps(live_event(1))
    assert not keeps(live_event(1, event_time="some day"))
    assert not keeps(live_event(1, format="caliper"))
    assert not keeps(copy_notice(1))
