"""Claims, tokens and tenants for tests: each passes by default, to be spoilt one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, cast

import aiohttp
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ingest.contract.envelope import Envelope, Source
from ingest.errors import UnknownKey
from ingest.values import Claims, Format, SignedRequest
from ingest.verifying.jwks import KeySource
from ingest.verifying.tenants import LiveEventsPin, NoticesPin, Tenant, Tenants
from tests.support.keys import SigningKey

NOW_S = 1_790_000_000.0
"""The moment at which tests receive, in Unix seconds."""

LIVE_EVENTS_ISSUER = "https://live-events.example.edu"
PLATFORM = "https://canvas.example.edu"
ROOT_ACCOUNT = "root-account-of-north-campus"
SUBSCRIPTION = "subscription-7"
CLIENT = "10000000000777"
DEPLOYMENT = "31:deployment-of-north-campus"
TENANT = "north-campus"

_LTI = "https://purl.imsglobal.org/spec/lti/claim/"
NOTICE_CLAIM = _LTI + "notice"
CANVAS = "com.instructure.canvas"
"""Under which name Caliper's extensions have Canvas's."""
DEPLOYMENT_CLAIM = _LTI + "deployment_id"

KeyName = Literal["current", "stranger"]


def signing_key(name: KeyName = "current") -> SigningKey:
    """An RSA key, made once per run: making one takes a tenth of a second."""
    return _made(name)


def live_event_claims(**members: Any) -> dict[str, Any]:
    """Claims of a Live Event in Canvas's format; `members` replace whole top-level claims."""
    return {
        "iss": LIVE_EVENTS_ISSUER,
        "iat": int(NOW_S) - 5,
        "exp": int(NOW_S) + 3595,
        "subscription": {"id": SUBSCRIPTION, "owner_id": "10000000000042"},
        "metadata": live_event_metadata(),
        "body": {"course_id": "3012", "name": "Tides and Currents"},
        **members,
    }


def live_event_metadata(**members: Any) -> dict[str, Any]:
    """The metadata of a Live Event that a person caused."""
    return {
        "event_name": "course_created",
        "event_time": "2026-09-21T14:13:15.250Z",
        "producer": "canvas",
        "root_account_id": "10000000000001",
        "root_account_uuid": ROOT_ACCOUNT,
        "user_id": "10000000000042",
        "request_id": "request-11",
        **members,
    }


def caliper_claims(**members: Any) -> dict[str, Any]:
    """Claims of a Live Event in Caliper format; `members` replace whole top-level claims."""
    return {
        "iss": LIVE_EVENTS_ISSUER,
        "iat": int(NOW_S) - 5,
        "exp": int(NOW_S) + 3595,
        "subscription": {"id": SUBSCRIPTION, "owner_id": "10000000000042"},
        "sensor": "https://canvas.example.edu/",
        "sendTime": "2026-09-21T14:13:16.000Z",
        "dataVersion": "http://purl.imsglobal.org/ctx/caliper/v1p1",
        "data": [caliper_event()],
        **members,
    }


def caliper_event(**members: Any) -> dict[str, Any]:
    """The Caliper event of a course that a person made."""
    return {
        "@context": "http://purl.imsglobal.org/ctx/caliper/v1p1",
        "id": "urn:uuid:0b7d5a52-7c1e-4f0c-9a34-5d2f7e1c8a60",
        "type": "Event",
        "action": "Created",
        "eventTime": "2026-09-21T14:13:15.250Z",
        "actor": caliper_entity(
            "user",
            "10000000000042",
            "Person",
            user_login="mjolsen",
            user_sis_id=None,
            root_account_id="10000000000001",
            root_account_uuid=ROOT_ACCOUNT,
            root_account_lti_guid="guid-of-north-campus",
        ),
        "object": caliper_entity("course", "10000000003012", "CourseOffering"),
        "group": caliper_entity(
            "course", "10000000003000", "CourseOffering", context_type="Course"
        ),
        "session": {"id": "urn:instructure:canvas:session:5e55", "type": "Session"},
        "referrer": "https://canvas.example.edu/accounts/1",
        "extensions": {
            CANVAS: {
                "hostname": "canvas.example.edu",
                "request_id": "request-11",
                "user_agent": "Browser/1.0",
                "client_ip": "203.0.113.9",
                "request_url": "https://canvas.example.edu/courses",
                "version": "1.0.0",
            }
        },
        **members,
    }


def caliper_entity(kind: str, id_: str, entity_type: str, **extensions: Any) -> dict[str, Any]:
    """Something that a Caliper event names, with Canvas's extensions."""
    return {
        "id": f"urn:instructure:canvas:{kind}:{id_}",
        "type": entity_type,
        "extensions": {CANVAS: {"entity_id": id_, **extensions}},
    }


def notice_claims(**members: Any) -> dict[str, Any]:
    """Claims of a platform notice; `members` replace whole top-level claims."""
    return {
        "iss": PLATFORM,
        "aud": CLIENT,
        "azp": CLIENT,
        "iat": int(NOW_S) - 5,
        "exp": int(NOW_S) + 3595,
        "nonce": "nonce-1",
        DEPLOYMENT_CLAIM: DEPLOYMENT,
        _LTI + "version": "1.3.0",
        NOTICE_CLAIM: notice_claim(),
        **members,
    }


def notice_claim(**members: Any) -> dict[str, Any]:
    """The notice claim itself."""
    return {
        "id": "notice-5",
        "timestamp": "2026-09-21T14:13:15Z",
        "type": "LtiContextCopyNotice",
        **members,
    }


def without(claims: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`claims` less some of them."""
    return {name: value for name, value in claims.items() if name not in names}


def token(claims: Mapping[str, Any], *, key: KeyName = "current", **header: Any) -> bytes:
    """A signed token; `header` is put over the usual header."""
    return signing_key(key).sign(claims, headers=header).encode()


def request(text: bytes, *, source: Source = "live-events", at: float = NOW_S) -> SignedRequest:
    """A token as the receiver hands it on."""
    return SignedRequest(token=text, source=source, received_at=at)


def live_event(
    payload: Mapping[str, Any] | None = None,
    *,
    irregular: bool = False,
    format_: Format = "canvas",
) -> Claims:
    """Verified claims of a Live Event."""
    return Claims(
        source="live-events",
        format=format_,
        issuer=LIVE_EVENTS_ISSUER,
        tenant=TENANT,
        received_at=NOW_S,
        payload=live_event_claims() if payload is None else payload,
        irregular=irregular,
    )


def notice(
    payload: Mapping[str, Any] | None = None,
    *,
    irregular: bool = False,
    deployment_id: str | None = DEPLOYMENT,
) -> Claims:
    """Verified claims of a notice."""
    return Claims(
        source="pns",
        format="pns",
        issuer=PLATFORM,
        tenant=TENANT,
        received_at=NOW_S,
        payload=notice_claims() if payload is None else payload,
        irregular=irregular,
        client_id=CLIENT,
        deployment_id=deployment_id,
    )


def envelope(
    metadata: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
) -> Envelope:
    """An envelope of a Live Event; `metadata` is put over the usual, None removes a name."""
    members: dict[str, Any] = {
        "event_id": "7e" * 32,
        "event_type": "course_created",
        "event_time": "2026-09-21T14:13:15.250Z",
        "received_at": "2026-09-21T14:13:20.000Z",
        "source": "live-events",
        "format": "canvas",
        "tenant": TENANT,
        "issuer": LIVE_EVENTS_ISSUER,
        "root_account_uuid": ROOT_ACCOUNT,
        "user_id": "10000000000042",
        **(metadata or {}),
    }
    present = {name: value for name, value in members.items() if value is not None}
    return Envelope(present, {"course_id": "3012"} if body is None else body)


def tenants() -> Tenants:
    """One tenant, with a root account and a client, neither of them narrowed."""
    return Tenants(
        [
            Tenant(
                name=TENANT,
                live_events=(LiveEventsPin(root_account_uuid=ROOT_ACCOUNT),),
                pns=(NoticesPin(issuer=PLATFORM, client_id=CLIENT),),
            )
        ]
    )


class FixedKeys(KeySource):
    """A key source that has its keys from the start and never finds another."""

    def __init__(self, issuer: str, *keys: SigningKey) -> None:
        session = cast(aiohttp.ClientSession, None)  # never asked
        super().__init__(issuer=issuer, url="https://keys.example.edu", session=session)
        self._fixed = {key.kid: key.private_key.public_key() for key in keys}

    def known(self, kid: str) -> RSAPublicKey | None:
        """The key, if it is one of ours."""
        return self._fixed.get(kid)

    async def find(self, kid: str) -> RSAPublicKey:
        """Raises UnknownKey, as after a fetch that brought nothing new."""
        raise UnknownKey("not in the key set")


@cache
def _made(name: KeyName) -> SigningKey:
    return SigningKey.generate(f"key-{name}")
