"""Makes a site's topics on chosen brokers, for cases in which one broker has what others have not.

Source: Apache Kafka protocol guide, CreateTopics: assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from ingest.contract.topics import MAX_MESSAGE_BYTES, ingest_topics

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a topic is: for each partition its brokers, the leader first."""

    replicas: Sequence[Sequence[int]]
    needed_in_sync: int


Placing = Callable[[str, int], Placed]
"""Takes the topic's name without the prefix, and its number among all."""


def make_placed(servers: str, prefix: str, placing: Placing) -> None:
    """Makes all topics that the receiver writes to. Blocks."""
    admin = AdminClient({"bootstrap.servers": servers})
    wanted = []
    for number, topic in enumerate(ingest_topics(prefix)):
        placed = placing(topic.removeprefix(f"{prefix}."), number)
        wanted.append(
            NewTopic(
                topic,
                num_partitions=len(placed.replicas),
                replica_assignment=[list(each) for each in placed.replicas],
                config={
                    "min.insync.replicas": str(placed.needed_in_sync),
                    "max.message.bytes": str(MAX_MESSAGE_BYTES),
                },
            )
        )
    for made in admin.create_topics(wanted, operation_timeout=TIMEOUT_S).values():
        made.result(TIMEOUT_S)
