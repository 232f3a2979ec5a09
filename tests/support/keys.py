"""Signing keys of a platform: one RSA key, and the ring of three that a key set shows."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY_BITS = 2048

_PADDING = padding.PKCS1v15()
_HASH = hashes.SHA256()


def base64url(data: bytes) -> str:
    """Base64url without padding, as RFC 7515 section 2 asks."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _unsigned_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An RSA key with its key id. Signs as RS256, about 1 ms of processor time each."""

    kid: str
    private_key: rsa.RSAPrivateKey

    @classmethod
    def generate(cls, kid: str) -> Self:
        """A new key of 2048 bits, the length that Canvas uses."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        return cls(kid=kid, private_key=key)

    @classmethod
    def from_pem(cls, kid: str, pem: str) -> Self:
        """The key in an unencrypted PEM text. ValueError when it holds no RSA private key."""
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"key {kid} is not an RSA private key")
        return cls(kid=kid, private_key=key)

    def private_pem(self) -> str:
        """The private half, PKCS #8, unencrypted."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii")

    def public_pem(self) -> str:
        """The public half, as a PEM text."""
        return (
            self.private_key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode("ascii")
        )

    def jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517)."""
        numbers = self.private_key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "e": base64url(_unsigned_bytes(numbers.e)),
            "n": base64url(_unsigned_bytes(numbers.n)),
            "kid": self.kid,
            "alg": "RS256",
            "use": "sig",
        }

    def sign(self, claims: Mapping[str, Any], *, headers: Mapping[str, Any] | None = None) -> str:
        """A compact JWT of `claims`. `headers` are put over the usual alg, typ and kid."""
        header = {"alg": "RS256", "typ": "JWT", "kid": self.kid, **(headers or {})}
        return self.sign_text(orjson.dumps(header), orjson.dumps(claims))

    def sign_text(self, header: bytes, payload: bytes) -> str:
        """A compact JWS of two JSON texts taken as they are, be they sensible or not."""
        signing_input = f"{base64url(header)}.{base64url(payload)}"
        return f"{signing_input}.{base64url(self.signature(signing_input.encode('ascii')))}"

    def signature(self, data: bytes) -> bytes:
        """The RS256 signature of `data`: 256 bytes."""
        return self.private_key.sign(data, _PADDING, _HASH)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The previous, the current and the next key: what Canvas shows at any time.

    `kid_suffix` tells the two kinds of key ids apart: Live Events keys are named by a bare time,
    LTI keys by a time and a UUID (canvas-lms gems/canvas_security, jwk_key_pair.rb).
    """

    previous: SigningKey
    current: SigningKey
    next: SigningKey
    kid_suffix: bool = False

    @classmethod
    def generate(cls, *, made_at: datetime | None = None, kid_suffix: bool = False) -> Self:
        """Three fresh keys, made a month apart; the current one is dated `made_at`."""
        at = made_at or datetime.now(UTC)
        month = timedelta(days=30)
        made = [_fresh_key(at + n * month, kid_suffix) for n in (-1, 0, 1)]
        return cls(previous=made[0], current=made[1], next=made[2], kid_suffix=kid_suffix)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public key set (RFC 7517 section 5), oldest key first."""
        return {"keys": [key.jwk() for key in (self.previous, self.current, self.next)]}

    def rotated(self) -> KeyRing:
        """The ring a rotation later: every key moves on one place, and a fresh one is next."""
        after = datetime.fromisoformat(self.next.kid.partition("_")[0]) + timedelta(days=30)
        return KeyRing(
            previous=self.current,
            current=self.next,
            next=_fresh_key(after, self.kid_suffix),
            kid_suffix=self.kid_suffix,
        )


def _fresh_key(made_at: datetime, with_suffix: bool) -> SigningKey:
    kid = made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return SigningKey.generate(f"{kid}_{uuid.uuid4()}" if with_suffix else kid)
