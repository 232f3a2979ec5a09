"""Free ports that stay free while a broker is down."""

from __future__ import annotations

import random
from collections.abc import Collection

from tests.kafka.errors import KafkaUnavailable
from tests.kafka.probe import is_taken

# Below what Linux (32768) and macOS (49152) lend to outgoing connections: such a connection could
# take a killed broker's port, and a client that calls a dead port from this very port would even
# reach itself.
PORTS = range(20_000, 32_000)
TRIES_PER_PORT = 50


def free_ports(count: int, *, avoid: Collection[int] = ()) -> list[int]:
    """Distinct ports of 127.0.0.1 where nothing listens now.

    Raises `KafkaUnavailable` if there are none.
    """
    free: list[int] = []
    for port in random.sample(PORTS, TRIES_PER_PORT * count):
        if len(free) == count:
            break
        if port not in avoid and not is_taken(port):
            free.append(port)
    if len(free) < count:
        raise KafkaUnavailable(f"no {count} free ports in {PORTS.start}-{PORTS.stop - 1}")
    return free
