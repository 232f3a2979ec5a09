"""Why there is no broker."""

from __future__ import annotations


class KafkaUnavailable(Exception):
    """No broker can be had; the first line of the message says why in full."""


class PortInUse(KafkaUnavailable):
    """Another process listens where a node should."""
