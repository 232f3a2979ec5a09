"""Real parts for integration tests; each is started at the first test that asks for it."""

from tests.kafka.fixture import kafka_bootstrap_servers, topic_prefix

__all__ = ["kafka_bootstrap_servers", "topic_prefix"]
