"""Live Events in Caliper 1.1: claims `data` with one event, `sensor`, `sendTime`, `dataVersion`.

The whole event is the body. What other formats say in their metadata is said again in ours, under
the same names, from wherever Caliper has it.
Source: Canvas documentation, Live Events: event types, Caliper format.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from ingest.contract.caliper import canvas_id, extensions
from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import Envelope
from ingest.normalising import metadata as flat
from ingest.normalising import values
from ingest.normalising.issues import Issues, once
from ingest.values import Claims

_PLACED = frozenset({"data", "subscription", "iss"})
_OF_EVENT = {
    "producer": "producer",
    "request_id": "request_id",
    "session_id": "session_id",
    "hostname": "hostname",
    "http_method": "http_method",
    "user_agent": "user_agent",
    "client_ip": "client_ip",
    "request_url": "url",
    "job_id": "job_id",
    "job_tag": "job_tag",
}
_OF_ACTOR = {
    "user_login": "user_login",
    "user_sis_id": "user_sis_id",
    "user_account_id": "user_account_id",
    "real_user_id": "real_user_id",
    "root_account_id": "root_account_id",
    "root_account_uuid": "root_account_uuid",
    "root_account_lti_guid": "root_account_lti_guid",
}
_OF_GROUP = {"context_type": "context_type", "entity_id": "context_id"}
_NOBODY = "0"
"""The id of the user that Canvas names where it knows of none."""


def normalise(claims: Claims) -> Envelope:
    """The envelope of a Caliper event whose form was checked."""
    issues: Issues = []
    event = claims.payload["data"][0]
    others = {name: value for name, value in claims.payload.items() if name not in _PLACED}
    subscription = claims.payload.get("subscription", {})
    if claims.irregular:
        event = values.visible(event, "body", issues)
        others = values.visible(others, "metadata", issues)
        subscription = values.visible(subscription, "metadata.subscription", issues)
    metadata = flat.ours(claims, catalogue().caliper_type(event))
    flat.add_subscription(metadata, subscription, issues)
    stated = _stated(event)
    flat.add(metadata, stated, issues)
    flat.add(metadata, others, issues)
    flat.add_trigger(metadata, stated)
    body = values.fields(_event_types(), event, "body", issues)
    if issues:
        metadata["issues"] = once(issues)
    return Envelope(metadata, body)


@cache
def _event_types() -> values.Declared:
    return values.Declared(catalogue().caliper_fields)


def _stated(event: Mapping[str, Any]) -> dict[str, Any]:
    """What the event states of its time, request, actor and context, under Canvas's names."""
    actor, group = event.get("actor"), event.get("group")
    stated = {"event_time": event["eventTime"]} if "eventTime" in event else {}
    if "referrer" in event:
        stated["referrer"] = event["referrer"]
    for names, thing in ((_OF_EVENT, event), (_OF_ACTOR, actor), (_OF_GROUP, group)):
        members = extensions(thing)
        stated |= {flat_name: members[name] for name, flat_name in names.items() if name in members}
    if (user_id := canvas_id(actor, "user")) is not None and user_id != _NOBODY:
        stated["user_id"] = user_id
    if (context_id := canvas_id(group)) is not None:
        stated["context_id"] = context_id
    if (session_id := canvas_id(event.get("session"), "session")) is not None:
        stated["session_id"] = session_id
    return stated
