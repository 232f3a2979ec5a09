"""Live Events in Canvas's own format: claims `metadata`, `body`, `subscription` and a few more.

Source: Canvas documentation, Live Events: set-up and event metadata; canvas-lms
gems/live_events/lib/live_events.rb for how long texts are cut.
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
_LONGEST_TEXT = 8192
_LONGEST_WORD = 1024
_CUT_MARK = "..."


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
        metadata["issues"] = values.once(issues)
    if truncated := [f"body.{name}" for name, value in result.items() if _seems_cut(value)]:
        metadata["truncated"] = truncated
    return Envelope(metadata, result)


def _body(event_name: str, body: Mapping[str, Any], issues: Issues) -> dict[str, Any]:
    entry = catalogue().find("live-events", event_name)
    return values.fields(entry.fields if entry else {}, body, "body", issues)


def _seems_cut(value: Any) -> bool:
    """Whether Canvas put the mark where it cuts: after the last word within its longest text.

    It does not say so. A longer last word, such as an image written into the text, hides the cut.
    """
    return (
        type(value) is str
        and _LONGEST_TEXT - _LONGEST_WORD <= len(value) <= _LONGEST_TEXT
        and value.endswith(_CUT_MARK)
    )
