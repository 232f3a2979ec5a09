"""What other libraries make of a token: the references for what our verifier lets in."""

import math
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter

from ingest.values import HugeNumber

LEEWAY_S = 300
_JUDGED = ("iss", "exp", "nbf")
# header members that say nothing of the signature, which we and PyJWT take whatever they are
_IGNORED = {
    name: HeaderParameter("ignored", lambda value: None)
    for name in ("typ", "cty", "x5t", "x5t#S256")
}


def pyjwt_claims(token: str, key: RSAPublicKey, issuer: str) -> dict[str, Any] | None:
    """The claims, if PyJWT accepts the token now."""
    try:
        return jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            issuer=issuer,
            leeway=LEEWAY_S,
            options={"verify_aud": False, "verify_iat": False, "require": ["exp"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def joserfc_claims(token: str, key: RSAKey, issuer: str) -> dict[str, Any] | None:
    """The claims, if joserfc accepts the token now; its own bounds of size are lifted."""
    registry = JWSRegistry(_IGNORED, algorithms=["RS256"], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = 4 * 1024**2
    asked = joserfc_jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S, iss={"essential": True, "value": issuer}, exp={"essential": True}
    )
    try:
        found = joserfc_jwt.decode(token, key, registry=registry)
        asked.validate(
            {name: found.claims[name] for name in ("iss", "exp", "nbf") if name in found.claims}
        )
    except (JoseError, ValueError, TypeError):
        return None
    return found.claims


def comparable(value: Any) -> Any:
    """Claims in a form in which NaN equals itself and digits beyond a double are an infinity."""
    if isinstance(value, dict):
        return {name: comparable(child) for name, child in value.items()}
    if isinstance(value, list):
        return [comparable(child) for child in value]
    if isinstance(value, HugeNumber):
        return ("float", repr(float(value)))
    if isinstance(value, float) and not math.isfinite(value):
        return ("float", repr(value))
    return (type(value).__name__, value)
