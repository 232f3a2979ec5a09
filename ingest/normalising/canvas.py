"""Live Events in Canvas's own format: claims `metadata`, `body`, `subscription` and a few more.

Source: Canvas documentation, Live Events: set-up and event metadata.
"""

from collections.abc import Mapping
from typing import Any

from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import Envelope
from ingest.handover import Claims
from ingest.normalising import metadata as flat
from ingest.normalising import values
from ingest.normalising.values import Issues

_PLACED = frozenset({"metadata", "body", "subscription", "iss"})


def normalise(claims: Claims) -> Envelope:
    """The envelope of a Canvas-format event whose form was checked."""
    issues: Issues = []
    signed, body = claims.payload["metadata"], claims.payload["body"]
    others = {name: value for name, value in claims.payload.items() if name not in _PLACED}
    subscription = claims.payload.get("subscription", {})
    if claims.irregular:
        signed = values.visible(signed, "metadata", issues)
        body = values.visible(body, "body", issues)
        others = values.visible(others, "metadata", issues)
        subscription = values.visible(subscription, "metadata.subscription", issues)
    metadata = flat.ours(claims, signed["event_name"])
    flat.add_subscription(metadata, subscription, issues)
    named = {name: value for name, value in signed.items() if name != "event_name"}
    flat.add(metadata, named, issues)
    flat.add(metadata, others, issues)
    flat.add_trigger(metadata, signed)
    result = _body(signed["event_name"], body, issues)
    if issues:
        metadata["issues"] = issues
    return Envelope(metadata, result)


def _body(event_name: str, body: Mapping[str, Any], issues: Issues) -> dict[str, Any]:
    entry = catalogue().find("live-events", event_name)
    return values.fields(entry.fields if entry else {}, body, "body", issues)
