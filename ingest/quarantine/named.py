"""Whose a token in quarantine says that it is. Nobody has checked that when it is shown."""

from msgspec import Struct

from ingest.contract import lti, strict_json
from ingest.contract.quarantine import Quarantined
from ingest.errors import Rejection
from ingest.verifying.claims import client_id_of, root_account_uuid_of, subscription_id_of
from ingest.verifying.token import UnreadableClaims, read_claims, read_token


class Named(Struct, frozen=True, kw_only=True):
    """The ids by which tenants are told apart: two of a Live Event, three of a notice."""

    root_account_uuid: str | None = None
    subscription_id: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    deployment_id: str | None = None


NOTHING = Named()


def named_in(kept: Quarantined) -> Named:
    """What the entry's token names; nothing where it has none, or none that can be read."""
    if kept.token is None:
        return NOTHING
    try:
        claims, _ = read_claims(read_token(kept.token.encode()).payload)
    except (Rejection, UnreadableClaims):
        return NOTHING
    if kept.source == "pns":
        return Named(
            issuer=strict_json.text(claims.get("iss")),
            client_id=client_id_of(claims),
            deployment_id=strict_json.text(claims.get(lti.DEPLOYMENT_ID)),
        )
    return Named(
        root_account_uuid=root_account_uuid_of(claims), subscription_id=subscription_id_of(claims)
    )
