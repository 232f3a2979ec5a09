"""Real parts for integration tests; each is started at the first test that asks for it."""

from tests.clickhouse.fixture import clickhouse, clickhouse_engine, clickhouse_url
from tests.kafka.fixture import kafka_bootstrap_servers, topic_prefix
from tests.postgres.fixture import (
    postgres_schema,
    postgres_server,
    postgres_url,
)

__all__ = [
    "clickhouse",
    "clickhouse_engine",
    "clickhouse_url",
    "kafka_bootstrap_servers",
    "postgres_schema",
    "postgres_server",
    "postgres_url",
    "topic_prefix",
]
