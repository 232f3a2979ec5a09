"""What ingest writes and what consumers read stay what they were."""

import orjson

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
from tests.emulator.school import Notice, timed
from tests.support.each import each_case
from tests.unit.ingest.normalising.lossless import lost


def test_ingest_writes_the_golden_record() -> None:
    with each_case() as case:
        for example in examples():
            with case(file_name(example)):
                assert text(golden(example)) == path_of(file_name(example)).read_bytes()


def test_projections_read_the_golden_record() -> None:
    with each_case() as case:
        for path in sorted(DIRECTORY.glob("*.json")):
            with case(path.stem):
                stored = orjson.loads(path.read_bytes())
                assert rows(record_of(stored["record"])) == stored["rows"]


def test_every_type_of_the_corpus_has_a_golden_file_and_no_other() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == set(map(file_name, examples()))


def test_every_type_of_the_catalogue_has_an_example() -> None:
    in_own_format = {example.name for example in examples() if "data" not in example.claims}
    assert {entry.name for entry in catalogue()} - in_own_format == set()


def test_events_table_keeps_metadata_and_body_whole() -> None:
    with each_case() as case:
        for path in sorted(DIRECTORY.glob("*.json")):
            with case(path.stem):
                stored = orjson.loads(path.read_bytes())["record"]
                kept = all_rows(record_of(stored))[0].values
                assert orjson.loads(kept["metadata"]) == stored["value"]["metadata"]
                assert orjson.loads(kept["body"]) == stored["value"]["body"]


def test_event_type_is_what_the_corpus_calls_it() -> None:
    with each_case() as case:
        for example in examples():
            with case(file_name(example)):
                stored = orjson.loads(path_of(file_name(example)).read_bytes())
                assert stored["record"]["value"]["metadata"]["event_type"] == example.name


def test_nothing_signed_is_lost() -> None:
    with each_case() as case:
        for example in examples():
            with case(file_name(example)):
                claims = verified(timed(example.claims, int(RECEIVED_AT)))
                assert lost(claims, normalise(claims)) == []


def test_event_id_is_what_the_emulator_expects() -> None:
    with each_case() as case:
        for example in examples():
            with case(file_name(example)):
                metadata = golden(example)["record"]["value"]["metadata"]
                assert metadata["event_id"] == example.content_key()


def test_known_types_get_a_row_in_their_own_table() -> None:
    with each_case() as case:
        for example in examples():
            source: Source = "pns" if isinstance(example, Notice) else "live-events"
            entry = catalogue().find(source, example.name)
            with case(file_name(example)):
                tables = [row["table"] for row in golden(example)["rows"]]
                assert tables[0] == "events"
                suffix = "__caliper" if "data" in example.claims else ""
                assert entry is None or entry.table + suffix in tables
