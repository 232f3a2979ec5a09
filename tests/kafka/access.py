"""Denies a login the right to write to a topic or to make it, and gives it back.

Source: Apache Kafka documentation, "Authorization and ACLs".
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

TIMEOUT_S = 20.0
ANYWHERE = "*"
CLUSTER = "kafka-cluster"


def deny_writing(servers: str, *, login: str, topic: str) -> None:
    """From now on this login sees the topic and cannot write to it. Blocks."""
    # where a topic has rules, what no rule allows is denied, so seeing has to be allowed
    rules = [
        _rule(login, topic, AclOperation.WRITE, AclPermissionType.DENY),
        _rule(login, topic, AclOperation.DESCRIBE, AclPermissionType.ALLOW),
    ]
    admin = AdminClient({"bootstrap.servers": servers})
    _wait(admin.create_acls(rules).values())


def deny_making(servers: str, *, login: str, topic: str) -> None:
    """From now on this login cannot make the topic. Blocks."""
    deny = AclPermissionType.DENY
    rules = [
        _rule(login, CLUSTER, AclOperation.CREATE, deny, kind=ResourceType.BROKER),
        _rule(login, topic, AclOperation.CREATE, deny),
    ]
    admin = AdminClient({"bootstrap.servers": servers})
    _wait(admin.create_acls(rules).values())


def allow_again(servers: str, *, topic: str) -> None:
    """Takes all rules of the topic away. Blocks."""
    every = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    admin = AdminClient({"bootstrap.servers": servers})
    _wait(admin.delete_acls([every]).values())


def _rule(
    login: str,
    name: str,
    operation: AclOperation,
    permission: AclPermissionType,
    *,
    kind: ResourceType = ResourceType.TOPIC,
) -> AclBinding:
    return AclBinding(
        kind,
        name,
        ResourcePatternType.LITERAL,
        f"User:{login}",
        ANYWHERE,
        operation,
        permission,
    )


def _wait(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.result(TIMEOUT_S)
