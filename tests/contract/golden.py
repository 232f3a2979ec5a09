"""One golden example per type of the corpus: what was signed, the record, the rows."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from consumers.projections import all_tables
from consumers.values import Row
from ingest.contract.catalogue import catalogue
from ingest.contract.codec import decode, encode
from ingest.contract.envelope import Source
from ingest.contract.record import Record
from ingest.normalising import normalise
from ingest.values import Claims
from ingest.verifying.claims import format_of
from tests.emulator.school import LiveEvent, Notice, School, timed

DIRECTORY = Path(__file__).parent / "golden"
PREFIX = "canvas"
RECEIVED_AT = datetime(2026, 3, 2, 8, 30, tzinfo=UTC).timestamp()

_project = all_tables(catalogue())


def examples() -> Iterator[LiveEvent | Notice]:
    """The same event of each type, every time."""
    school = School.from_seed(7)
    for name in school.corpus.event_names:
        yield school.live_event(0, name=name)
    for name in school.corpus.caliper_names:
        yield school.caliper_event(0, name=name)
    for name in school.corpus.notice_types:
        yield school.notice(0, name)


def file_name(example: LiveEvent | Notice) -> str:
    """The name of an example's file, less its suffix: the type, and Caliper's mark."""
    return f"{example.name}__caliper" if "data" in example.claims else example.name


def path_of(name: str) -> Path:
    """Where the golden example of that file name is."""
    return DIRECTORY / f"{name}.json"


def golden(example: LiveEvent | Notice) -> dict[str, Any]:
    """What the programs make of an example today."""
    claims = timed(example.claims, int(RECEIVED_AT))
    record = encode(normalise(verified(claims)), prefix=PREFIX)
    return {"signed": claims, "record": _shown(record), "rows": rows(record)}


def rows(record: Record) -> list[dict[str, Any]]:
    """The rows that the projections make of a record, without NULLs.

    What `events` keeps whole is left out too, for the record shows it already.
    """
    return [_row(row) for row in all_rows(record)]


def all_rows(record: Record) -> list[Row]:
    """The rows as the sinks get them."""
    return list(_project(decode(record)))


def record_of(stored: Mapping[str, Any]) -> Record:
    """The record that a golden file shows."""
    return Record(
        topic=stored["topic"],
        key=stored["key"].encode(),
        headers=tuple((name, value.encode()) for name, value in stored["headers"].items()),
        value=orjson.dumps(stored["value"]),
    )


def text(value: Any) -> bytes:
    """JSON as the golden files have it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def verified(claims: dict[str, Any]) -> Claims:
    """What the verifier makes of an example's claims."""
    source: Source = "live-events" if "subscription" in claims else "pns"
    return Claims(
        source=source,
        format=format_of(claims, source),
        issuer=claims["iss"],
        tenant="school",
        received_at=RECEIVED_AT,
        payload=claims,
        client_id=claims.get("aud"),
        deployment_id=claims.get("https://purl.imsglobal.org/spec/lti/claim/deployment_id"),
    )


def _shown(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "key": record.key.decode(),
        "headers": {name: value.decode() for name, value in record.headers},
        "value": orjson.loads(record.value),
    }


def _row(row: Row) -> dict[str, Any]:
    values = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.values.items()
        if value is not None and not (row.table == "events" and name in ("metadata", "body"))
    }
    return {"table": row.table, "values": values} | (
        {"unknown": row.unknown} if row.unknown else {}
    )
