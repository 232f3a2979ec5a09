"""The flat metadata that every format ends in, with room kept in it for our own names."""

from collections.abc import Container, Mapping
from typing import Any

from ingest.contract.catalogue import FieldType
from ingest.contract.metadata import our_fields, signed_fields
from ingest.contract.moments import rfc3339
from ingest.normalising import values
from ingest.normalising.free_names import FreeNames
from ingest.normalising.identity import event_id
from ingest.normalising.issues import Issues, note
from ingest.values import Claims

OURS = frozenset(our_fields())
"""Names that only we may set: a signed field of such a name is kept beside ours."""

_OF_SUBSCRIPTION: Mapping[str, FieldType] = {
    name: field.type for name, field in our_fields().items() if field.type == "id"
}
_DECLARED = values.Declared({name: field.type for name, field in signed_fields().items()})


def ours(claims: Claims, event_type: str) -> dict[str, Any]:
    """What we know of the event ourselves, whatever its format."""
    return {
        "event_id": event_id(claims),
        "event_type": event_type,
        "received_at": rfc3339(claims.received_at),
        "source": claims.source,
        "format": claims.format,
        "tenant": claims.tenant,
        "issuer": claims.issuer,
    }


def add_subscription(metadata: dict[str, Any], subscription: Any, issues: Issues) -> None:
    """Adds the Live Events subscription, its members as `subscription_<name>`."""
    if isinstance(subscription, dict):
        for name, value in subscription.items():
            path, kind = f"subscription_{name}", _OF_SUBSCRIPTION.get(f"subscription_{name}")
            # both of its members are texts, and ids: no more to do for these
            as_it_is = kind is not None and type(value) is str
            metadata[path] = (
                value if as_it_is else values.field(kind, name, value, f"metadata.{path}", issues)
            )
    elif subscription is not None:
        metadata["subscription"] = values.by_shape(subscription, "metadata.subscription", issues)


def add_trigger(metadata: dict[str, Any], stated: Container[str]) -> None:
    """Adds who caused it: a background job names itself, a request names its user or itself."""
    if "job_id" in stated:
        metadata["trigger"] = "system"
    elif "request_id" in stated or "user_id" in stated:
        metadata["trigger"] = "user"


def add(metadata: dict[str, Any], signed: Mapping[str, Any], issues: Issues) -> None:
    """Adds signed fields under their own names; a taken name gets `__2` and is an issue."""
    coerced = values.fields(_DECLARED, signed, "metadata", issues)
    if OURS.isdisjoint(coerced) and metadata.keys().isdisjoint(coerced):
        metadata.update(coerced)
        return
    names = FreeNames(metadata.keys() | OURS)
    for name, value in coerced.items():
        free = names.give(name)
        if free != name:
            note(issues, f"metadata.{free}")
        metadata[free] = value
