"""Platform notices: LTI claims, each under the last segment of its URI.

Source: Canvas documentation, Platform Notification Service; canvas-lms
lib/lti/messages/pns_notice.rb.
"""

from typing import Any

from ingest import lti
from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import Envelope
from ingest.handover import Claims
from ingest.normalising import metadata as flat
from ingest.normalising import values
from ingest.normalising.values import Issues

# iss and aud are in `issuer` and `client_id`; sub is the actor
_PLACED = frozenset({"iss", "sub"})


def normalise(claims: Claims) -> Envelope:
    """The envelope of a notice whose form was checked."""
    issues: Issues = []
    payload = dict(claims.payload)
    if claims.irregular:
        payload = values.visible(payload, "claims", issues)
    notice = payload[lti.NOTICE]
    metadata = flat.ours(claims, notice["type"])
    metadata |= {"client_id": claims.client_id, "notice_id": notice["id"]}
    if claims.deployment_id is not None:
        metadata["deployment_id"] = claims.deployment_id
    signed = {"event_time": notice["timestamp"]} if "timestamp" in notice else {}
    signed |= {"user_id": payload["sub"]} if "sub" in payload else {}
    signed |= {n: v for n, v in payload.items() if not _is_uri(n) and n not in _PLACED}
    flat.add(metadata, signed, issues)
    body = _body(notice["type"], {n: v for n, v in payload.items() if _is_uri(n)}, issues)
    if issues:
        metadata["issues"] = issues
    return Envelope(metadata, body)


def _body(notice_type: str, claims: dict[str, Any], issues: Issues) -> dict[str, Any]:
    entry = catalogue().find("pns", notice_type)
    declared = entry.fields if entry else {}
    body: dict[str, Any] = {}
    for uri, value in claims.items():
        name = uri.rstrip("/").rpartition("/")[2]
        free = flat.free_name(name, body.keys())
        if free != name:
            issues.append(f"body.{free}")
        body[free] = values.field(declared.get(free), free, value, f"body.{free}", issues)
    return body


def _is_uri(name: str) -> bool:
    return "://" in name
