"""pytest fixtures: a broker for the session, and names that no other test uses."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable

OWN_BROKER = "TEST_KAFKA_BOOTSTRAP_SERVERS"
TEST_NAME_MAX_LENGTH = 40


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port[,…]` of the broker in TEST_KAFKA_BOOTSTRAP_SERVERS, or of one for this session.

    Where none can be had the test is skipped with the reason, but fails if CI=true.
    """
    own = os.environ.get(OWN_BROKER)
    if own:
        yield own
        return
    cluster = Cluster(directory=tmp_path_factory.mktemp("kafka"))
    reason = _start(cluster)
    if reason:
        _no_broker(reason)
    try:
        yield cluster.bootstrap_servers
    finally:
        cluster.stop()


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """`[a-z0-9.-]+`, made from the test's name and unique to this run of it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{name[:TEST_NAME_MAX_LENGTH]}.{uuid.uuid4().hex[:12]}"


def _start(cluster: Cluster) -> str | None:
    """Why it did not start, None if it did."""
    try:
        cluster.start()
    except KafkaUnavailable as error:
        return str(error)
    return None


def _no_broker(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka broker: {reason}", pytrace=False)
    pytest.skip(f"no Kafka broker: {reason.splitlines()[0]}")
