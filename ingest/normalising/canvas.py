"""Live Events in Canvas's own format: claims `metadata`, `body`, `subscription` and a few more.

Source: Canvas documentation, Live Events: set-up and event metadata; canvas-lms
gems/live_events/lib/live_events.rb for how long texts are cut.
"""

from collections.abc import Mapping
from typing import Any

from ingest.contract.envelope import Envelope
from ingest.normalising import metadata as flat
from ingest.normalising import values
from ingest.normalising.issues import Issues, once
from ingest.values import Claims

_PLACED = frozenset({"metadata", "body", "subscription", "iss"})
_LONGEST_TEXT = 8192
_SHORTEST_CUT = _LONGEST_TEXT - 1024
"""How short a text may become where its last word was long."""
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
    named = dict(signed)
    del named["event_name"]
    if named.keys().isdisjoint(others):
        flat.add(metadata, named | others, issues)
    else:
        flat.add(metadata, named, issues)
        flat.add(metadata, others, issues)
    flat.add_trigger(metadata, signed)
    result = _body(signed["event_name"], body, issues)
    if issues:
        metadata["issues"] = once(issues)
    if truncated := _truncated(result):
        metadata["truncated"] = truncated
    return Envelope(metadata, result)


def _body(event_name: str, body: Mapping[str, Any], issues: Issues) -> dict[str, Any]:
    declared = values.body_types().get(("live-events", event_name), values.UNDECLARED)
    return values.fields(declared, body, "body", issues)


def _truncated(body: Mapping[str, Any]) -> list[str]:
    """Paths of the texts that end in the mark that Canvas puts after the last word it has room for.

    It does not say so. A longer last word, such as an image written into the text, hides the cut.
    """
    return [
        f"body.{name}"
        for name, value in body.items()
        if type(value) is str
        and _SHORTEST_CUT <= len(value) <= _LONGEST_TEXT
        and value.endswith(_CUT_MARK)
    ]
