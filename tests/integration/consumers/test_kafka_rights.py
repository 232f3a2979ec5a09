"""A worker that Kafka will not have says so at its start, in one line, and ends with 2."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ingest.contract.topics import dead_letter_topic
from ingest.shared.kafka.topic_admin import FOR_EVER_MS, make_missing
from tests.integration.consumers.program import TIMEOUT_S, Program
from tests.kafka.access import deny_making
from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable

LOGIN, PASSWORD = "north", "sluice-gate"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that asks who comes."""
    directory = tmp_path_factory.mktemp("guarded")
    cluster = Cluster(directory=directory / "kafka", logins={LOGIN: PASSWORD})
    try:
        cluster.start()
    except KafkaUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    yield cluster
    cluster.stop()


def environment(cluster: Cluster, prefix: str, **more: str) -> Mapping[str, str]:
    return {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.guarded_servers,
        "FOREBAY_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "FOREBAY_KAFKA__SASL_MECHANISM": "PLAIN",
        "FOREBAY_KAFKA__SASL_USERNAME": LOGIN,
        "FOREBAY_KAFKA__SASL_PASSWORD": PASSWORD,
        "FOREBAY_TOPICS__PREFIX": prefix,
        **more,
    }


def the_line_it_ended_with(program: Program) -> str:
    process = program.start()
    try:
        assert process.wait(TIMEOUT_S) == 2, program.log()
    finally:
        process.kill()
        process.wait()
    lines = program.log().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_wrong_password_is_a_start_up_error(
    guarded: Cluster, tmp_path: Path, topic_prefix: str
) -> None:
    wrong = environment(guarded, topic_prefix, FOREBAY_KAFKA__SASL_PASSWORD="weir")
    line = the_line_it_ended_with(Program(tmp_path, wrong))
    assert f"{guarded.guarded_servers}: Kafka refuses the login" in line
    assert "__SASL_PASSWORD" in line
    assert "weir" not in line


def test_a_mechanism_that_the_broker_lacks_is_a_start_up_error(
    guarded: Cluster, tmp_path: Path, topic_prefix: str
) -> None:
    other = environment(guarded, topic_prefix, FOREBAY_KAFKA__SASL_MECHANISM="SCRAM-SHA-512")
    assert "__SASL_MECHANISM" in the_line_it_ended_with(Program(tmp_path, other))


def test_no_right_to_make_the_topic_of_dead_letters_is_a_start_up_error(
    guarded: Cluster, tmp_path: Path, topic_prefix: str
) -> None:
    topic = dead_letter_topic(topic_prefix, "tables")
    deny_making(guarded.bootstrap_servers, login=LOGIN, topic=topic)
    line = the_line_it_ended_with(Program(tmp_path, environment(guarded, topic_prefix)))
    assert f"topic {topic} is missing and cannot be made" in line


def test_no_right_to_make_topics_is_needed_where_the_topic_is_there(
    guarded: Cluster, tmp_path: Path, topic_prefix: str
) -> None:
    topic = dead_letter_topic(topic_prefix, "spare")
    deny_making(guarded.bootstrap_servers, login=LOGIN, topic="another")
    options = {"bootstrap_servers": guarded.bootstrap_servers}
    asyncio.run(make_missing(options, [topic], partitions=1, retention_ms=FOR_EVER_MS))
    program = Program(tmp_path, environment(guarded, topic_prefix, FOREBAY_WORKER__NAME="spare"))
    with program.running():
        program.wait_for_line('"event": "reading"')
