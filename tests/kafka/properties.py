"""What a node is told: its addresses, and the settings all nodes of a cluster share.

Source for every name: Apache Kafka documentation, "Broker configs".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kafka.probe import HOST

MESSAGE_MAX_BYTES = 4 * 1024 * 1024
REPLICATION_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A further way in, on `port`, which clients are told to look for at `advertised_port`.

    With `logins` (names and passwords) clients must say who they are, by SASL/PLAIN.
    """

    name: str
    port: int
    advertised_port: int
    logins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One process, broker and controller in one. Everything of it lies under `directory`."""

    node_id: int
    client_port: int
    controller_port: int
    directory: Path
    listeners: tuple[Listener, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """All that it listens on."""
        further = (listener.port for listener in self.listeners)
        return (self.client_port, self.controller_port, *further)

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def properties_file(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log_file(self) -> Path:
        return self.directory / "server.log"

    @property
    def meta_file(self) -> Path:
        """Exists once the node's storage has been formatted; holds the cluster id."""
        return self.data_directory / "meta.properties"


def server_properties(node: Node, nodes: Sequence[Node]) -> str:
    """The text of server.properties for one of the cluster's nodes."""
    settings = {**_addresses(node, nodes), **_logins(node), **_shared(size=len(nodes))}
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _addresses(node: Node, nodes: Sequence[Node]) -> dict[str, object]:
    client, controller = f"{HOST}:{node.client_port}", f"{HOST}:{node.controller_port}"
    voters = (f"{other.node_id}@{HOST}:{other.controller_port}" for other in nodes)
    bound = [f"{each.name}://{HOST}:{each.port}" for each in node.listeners]
    advertised = [f"{each.name}://{HOST}:{each.advertised_port}" for each in node.listeners]
    protocols = [
        f"{each.name}:{'SASL_PLAINTEXT' if each.logins else 'PLAINTEXT'}" for each in node.listeners
    ]
    return {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(voters),
        "listeners": ",".join([f"PLAINTEXT://{client}", f"CONTROLLER://{controller}", *bound]),
        "advertised.listeners": ",".join([f"PLAINTEXT://{client}", *advertised]),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ",".join(
            ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *protocols]
        ),
        "log.dirs": node.data_directory,
    }


def _logins(node: Node) -> dict[str, object]:
    """Who may log in where; whoever comes without a login, brokers included, may do anything."""
    guarded = [listener for listener in node.listeners if listener.logins]
    if not guarded:
        return {}
    settings: dict[str, object] = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }
    for listener in guarded:
        option = f"listener.name.{listener.name.lower()}"
        users = " ".join(f'user_{name}="{word}"' for name, word in listener.logins.items())
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        settings[f"{option}.sasl.enabled.mechanisms"] = "PLAIN"
        settings[f"{option}.plain.sasl.jaas.config"] = f"{module} required {users};"
    return settings


def _shared(*, size: int) -> dict[str, object]:
    replication = min(REPLICATION_MAX, size)
    in_sync = 2 if replication == REPLICATION_MAX else 1
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "num.partitions": 1,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
        **_internal_topics(replication=replication, in_sync=in_sync),
        "group.initial.rebalance.delay.ms": 0,
        # a killed node loses its partitions, and is let in again, only after this time; the default
        # is nine seconds
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
    }


def _internal_topics(*, replication: int, in_sync: int) -> dict[str, object]:
    # fifty partitions each, as by default, would be most of the work of a young broker
    few_partitions = 5
    return {
        "offsets.topic.num.partitions": few_partitions,
        "offsets.topic.replication.factor": replication,
        "transaction.state.log.num.partitions": few_partitions,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": few_partitions,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
    }
