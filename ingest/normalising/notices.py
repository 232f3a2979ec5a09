"""Platform notices: LTI claims, each under the last segment of its URI.

Source: Canvas documentation, Platform Notification Service; canvas-lms
lib/lti/messages/pns_notice.rb.
"""

from collections.abc import Mapping
from typing import Any

from ingest.contract import lti
from ingest.contract.envelope import Envelope
from ingest.normalising import metadata as flat
from ingest.normalising import values
from ingest.normalising.free_names import FreeNames
from ingest.normalising.issues import Issues, note, once
from ingest.values import Claims

# iss is in `issuer`; sub is the actor
_PLACED = frozenset({"iss", "sub"})


def normalise(claims: Claims) -> Envelope:
    """The envelope of a notice whose form was checked."""
    issues: Issues = []
    plain = {name: value for name, value in claims.payload.items() if not _is_uri(name)}
    body = _by_segment(claims.payload, issues)
    addressed: dict[str, Any] = {"client_id": claims.client_id}
    if claims.deployment_id is not None:
        addressed["deployment_id"] = claims.deployment_id
    if claims.irregular:
        plain = values.visible(plain, "metadata", issues)
        body = values.visible(body, "body", issues)
        addressed = values.visible(addressed, "metadata", issues)
    notice = body["notice"]
    metadata = flat.ours(claims, notice["type"]) | addressed | {"notice_id": notice["id"]}
    if "timestamp" in notice:
        flat.add(metadata, {"event_time": notice["timestamp"]}, issues)
    if "sub" in plain:
        flat.add(metadata, {"user_id": plain["sub"]}, issues)
    flat.add(metadata, {n: v for n, v in plain.items() if n not in _PLACED}, issues)
    declared = values.body_types().get(("pns", notice["type"]), values.UNDECLARED)
    body = values.fields(declared, body, "body", issues)
    if issues:
        metadata["issues"] = once(issues)
    return Envelope(metadata, body)


def _by_segment(payload: Mapping[str, Any], issues: Issues) -> dict[str, Any]:
    """Claims named by URIs, under the last segments of these; LTI's own come first to theirs."""
    body: dict[str, Any] = {}
    names = FreeNames()
    for uri in sorted(filter(_is_uri, payload), key=lambda uri: not uri.startswith(lti.CLAIM)):
        name = uri.rstrip("/").rpartition("/")[2]
        free = names.give(name)
        if free != name:
            note(issues, f"body.{free}")
        body[free] = payload[uri]
    return body


def _is_uri(name: str) -> bool:
    return "://" in name
