"""The public API in OpenAPI 3.1, made from the tables that the receiver itself answers from."""

from importlib.metadata import version
from typing import Any

from ingest.errors import REFUSALS, MethodNotAllowed, NotFound, Refusal, Unavailable

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_RECEIPT = {"$ref": "#/components/schemas/Receipt"}
_SLUG = {
    "name": "slug",
    "in": "path",
    "required": True,
    "description": "That of a tenant which is taken at no other path.",
    "schema": {"type": "string"},
}


def document() -> dict[str, Any]:
    """The whole document."""
    paths = {
        "/live-events": _operation(
            "One Live Event: a JWT, bare or in JSON quotes.",
            {"*/*": {"schema": {"type": "string"}}},
            _RECEIPT,
        ),
        "/pns": _operation(
            "A batch of platform notices, each a JWT.",
            {"application/json": {"schema": {"$ref": "#/components/schemas/Notices"}}},
            {"$ref": "#/components/schemas/Receipts"},
        ),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "forebay",
            "version": version("forebay"),
            "description": "Takes in signed Canvas Live Events and LTI platform notices.",
        },
        "paths": {
            **paths,
            **{f"{path}/{{slug}}": {"parameters": [_SLUG], **item} for path, item in paths.items()},
        },
        "components": {"schemas": _schemas()},
    }


def _operation(summary: str, content: dict[str, Any], accepted: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": {
                "202": {
                    "description": "Durable. It need not be sent again.",
                    "content": {"application/json": {"schema": accepted}},
                },
                **_refusals(),
            },
        }
    }


def _refusals() -> dict[str, Any]:
    by_status: dict[int, list[type[Refusal]]] = {}
    for refusal in REFUSALS:
        if refusal not in (NotFound, MethodNotAllowed):
            by_status.setdefault(refusal.status, []).append(refusal)
    return {str(status): _refused(refusals) for status, refusals in by_status.items()}


def _refused(refusals: list[type[Refusal]]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "; ".join(f"`{r.reason}`: {r.title.lower()}" for r in refusals),
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }
    if any(issubclass(refusal, Unavailable) for refusal in refusals):
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        }
    return response


def _schemas() -> dict[str, Any]:
    token = {"type": "object", "required": ["jwt"], "properties": {"jwt": {"type": "string"}}}
    outcomes = ["published", "spooled", "deferred", "quarantined", "rejected", "not_durable"]
    return {
        "Receipt": {
            "type": "object",
            "required": ["outcome"],
            "properties": {
                "outcome": {"type": "string", "enum": outcomes},
                "event_id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "reason": {"type": "string"},
            },
        },
        "Receipts": {
            "type": "object",
            "required": ["notices"],
            "properties": {"notices": {"type": "array", "items": _RECEIPT}},
        },
        "Notices": {
            "type": "object",
            "required": ["notices"],
            "properties": {"notices": {"type": "array", "minItems": 1, "items": token}},
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "reason"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "reason": {"type": "string", "enum": [refusal.reason for refusal in REFUSALS]},
                "notices": {"type": "array", "items": _RECEIPT},
            },
        },
    }
