"""Asks a broker which brokers are in service, over a plain socket.

Source for the bytes: Apache Kafka documentation, "Protocol guide": request header v1, Metadata v1.
"""

from __future__ import annotations

import socket
import struct

HOST = "127.0.0.1"
METADATA_KEY, METADATA_VERSION = 3, 1
NO_TOPICS = 0
CLIENT_ID = b"forebay-probe"
ANSWER_TIMEOUT_S = 2.0


def brokers_in_service(port: int) -> frozenset[int]:
    """The node ids that the broker on this port of 127.0.0.1 knows as registered and unfenced.

    Raises `OSError` while it does not answer, within about two seconds.
    """
    with socket.create_connection((HOST, port), timeout=ANSWER_TIMEOUT_S) as connection:
        connection.sendall(_framed(_metadata_request()))
        (length,) = struct.unpack(">i", _read(connection, 4))
        return _node_ids(_read(connection, length))


def is_taken(port: int) -> bool:
    """Whether something already listens on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        # a broker sets it too: without it, the connections of a broker just killed would block the
        # port for a minute
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
        except OSError:
            return True
        return False


def _metadata_request() -> bytes:
    correlation_id = 1
    header = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, correlation_id, len(CLIENT_ID))
    return header + CLIENT_ID + struct.pack(">i", NO_TOPICS)


def _framed(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message


def _read(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise ConnectionError("the broker closed the connection")
        received += piece
    return bytes(received)


def _node_ids(answer: bytes) -> frozenset[int]:
    """Of correlation id, count, then per broker node id, host, port, rack (-1 long if null)."""
    _, count = struct.unpack_from(">ii", answer)
    at, node_ids = 8, set()
    for _ in range(count):
        node_id, host_length = struct.unpack_from(">ih", answer, at)
        node_ids.add(node_id)
        at += 6 + host_length + 4
        (rack_length,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack_length, 0)
    return frozenset(node_ids)
