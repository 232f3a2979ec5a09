"""What Canvas says: one event, or one notice, apart from its signing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.emulator.content import event_content_key, notice_content_key
from tests.support.keys import SigningKey

TOKEN_LIFETIME_S: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvent:
    """One event in either format: its name, and its claims without `iat` and `exp`."""

    name: str
    claims: Mapping[str, Any]

    def content_key(self) -> str:
        """What makes it this event, however often it is signed."""
        return event_content_key(self.claims)

    def token(self, key: SigningKey, signed_at_s: int) -> str:
        """The JWT as Canvas would sign it at `signed_at_s`, in Unix seconds."""
        return key.sign(timed(self.claims, signed_at_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One platform notification: its type, and its claims without `iat` and `exp`."""

    name: str
    claims: Mapping[str, Any]

    def content_key(self) -> str:
        """What makes it this notice, however often it is signed."""
        return notice_content_key(self.claims)

    def token(self, key: SigningKey, signed_at_s: int) -> str:
        """The JWT as Canvas would sign it at `signed_at_s`, in Unix seconds."""
        return key.sign(timed(self.claims, signed_at_s))


def timed(claims: Mapping[str, Any], signed_at_s: int) -> dict[str, Any]:
    """The claims with `iat` and an `exp` one hour later, as both senders of Canvas set them."""
    return {**claims, "iat": signed_at_s, "exp": signed_at_s + TOKEN_LIFETIME_S}
