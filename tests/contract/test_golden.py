"""What ingest writes and what consumers read stay what they were."""

import orjson
import pytest

from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import Source
from ingest.normalising import normalise
from tests.contract.golden import (
    DIRECTORY,
    RECEIVED_AT,
    all_rows,
    examples,
    file_name,
    golden,
    path_of,
    record_of,
    rows,
    text,
    verified,
)
from tests.emulator.school import LiveEvent, Notice, timed
from tests.unit.ingest.normalising.lossless import lost


@pytest.mark.parametrize("example", list(examples()), ids=file_name)
def test_ingest_writes_the_golden_record(example: LiveEvent | Notice) -> None:
    assert text(golden(example)) == path_of(file_name(example)).read_bytes()


@pytest.mark.parametrize("name", sorted(path.stem for path in DIRECTORY.glob("*.json")))
def test_projections_read_the_golden_record(name: str) -> None:
    stored = orjson.loads(path_of(name).read_bytes())
    assert rows(record_of(stored["record"])) == stored["rows"]


def test_every_type_of_the_corpus_has_a_golden_file_and_no_other() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == set(map(file_name, examples()))


def test_every_type_of_the_catalogue_has_an_example() -> None:
    in_own_format = {example.name for example in examples() if "data" not in example.claims}
    assert {entry.name for entry in catalogue()} - in_own_format == set()


@pytest.mark.parametrize("name", sorted(path.stem for path in DIRECTORY.glob("*.json")))
def test_events_table_keeps_metadata_and_body_whole(name: str) -> None:
    stored = orjson.loads(path_of(name).read_bytes())["record"]
    kept = all_rows(record_of(stored))[0].values
    assert orjson.loads(kept["metadata"]) == stored["value"]["metadata"]
    assert orjson.loads(kept["body"]) == stored["value"]["body"]


def test_event_type_is_what_the_corpus_calls_it() -> None:
    for example in examples():
        stored = orjson.loads(path_of(file_name(example)).read_bytes())
        assert stored["record"]["value"]["metadata"]["event_type"] == example.name


def test_nothing_signed_is_lost() -> None:
    for example in examples():
        claims = verified(timed(example.claims, int(RECEIVED_AT)))
        assert lost(claims, normalise(claims)) == []


def test_event_id_is_what_the_emulator_expects() -> None:
    for example in examples():
        assert golden(example)["record"]["value"]["metadata"]["event_id"] == example.content_key()


def test_known_types_get_a_row_in_their_own_table() -> None:
    for example in examples():
        source: Source = "pns" if isinstance(example, Notice) else "live-events"
        entry = catalogue().find(source, example.name)
        tables = [row["table"] for row in golden(example)["rows"]]
        assert tables[0] == "events"
        suffix = "__caliper" if "data" in example.claims else ""
        assert (entry is not None and entry.table + suffix in tables) or entry is None
