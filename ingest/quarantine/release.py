"""Out of quarantine: judge a token again but for one reason, publish it, record the decision."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct

from ingest.contract import strict_json
from ingest.contract.codec import encode
from ingest.contract.moments import moment, rfc3339
from ingest.contract.quarantine import Decision, Quarantined, decision_record
from ingest.contract.record import Record
from ingest.contract.topics import MAX_RECORD_BYTES, event_topics
from ingest.errors import (
    NotDurable,
    Overloaded,
    RecordTooLarge,
    Refusal,
    TopicRefused,
    Uncheckable,
    Unusable,
)
from ingest.normalising import normalise
from ingest.quarantine.log import QuarantineLog
from ingest.shared.environment import SettingsError
from ingest.values import SignedRequest
from ingest.verifying.jwks import MIN_KEY_BITS, KeysUnavailable, read_key_set
from ingest.verifying.token import read_token
from ingest.verifying.verifier import Verifier

_AT_ONCE = 100
_NOT_TRIED = "not tried: the log takes no records"
# received_at was cut to milliseconds when it was written; the middle of one reads back as the same
_HALF_A_MILLISECOND_S = 0.0005


class KeyFile(Struct, frozen=True, kw_only=True):
    """Keys that an operator vouches for: by id, or one without an id that fits any."""

    by_id: Mapping[str, RSAPublicKey]
    any_id: RSAPublicKey | None = None

    def key_for(self, kid: str) -> RSAPublicKey | None:
        """The key to be tried for a token with this key id."""
        return self.by_id.get(kid, self.any_id)


NO_KEYS = KeyFile(by_id={})


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one entry; `why` says why it stays as it was, if it does."""

    key: str
    outcome: str
    event_id: str | None = None
    why: str | None = None


class Releasing:
    """Takes entries of one quarantine out of it."""

    def __init__(
        self,
        log: QuarantineLog,
        verifier: Verifier,
        *,
        prefix: str,
        tenant: str | None = None,
        key_file: KeyFile = NO_KEYS,
        unverified: bool = False,
    ) -> None:
        """`unverified` lets go what has no token, so that no signature of it can be checked."""
        self._log = log
        self._verifier = verifier
        self._prefix = prefix
        self._tenant = tenant
        self._key_file = key_file
        self._unverified = unverified
        self._topics = frozenset(event_topics(prefix))
        self._log_failed = False

    async def release(self, entries: Sequence[Quarantined]) -> list[Outcome]:
        """Each in its turn, many at once. One that fails a check keeps no other; when the log takes
        nothing any more, the rest is not tried."""
        outcomes: list[Outcome] = []
        for start in range(0, len(entries), _AT_ONCE):
            part = entries[start : start + _AT_ONCE]
            outcomes += await asyncio.gather(*map(self._release, part))
        return outcomes

    async def _release(self, kept: Quarantined) -> Outcome:
        """Verify, normalise, publish, and only then record it: cut short, it can be done again."""
        name = kept.key.decode(errors="backslashreplace")
        event_id = kept.event_id
        try:
            record = self.record_of(kept)
            event_id = dict(record.headers).get("ce_id", b"").decode() or event_id
            await self._publish(record)
        except Withheld as refusal:
            return Outcome(key=name, outcome="kept", event_id=event_id, why=str(refusal))
        failure = await decide(
            self._log, self._prefix, kept.key, "released", unverified=kept.token is None
        )
        if failure is None:
            return Outcome(key=name, outcome="released", event_id=event_id)
        why = f"published, but the decision could not be recorded: {failure}"
        return Outcome(key=name, outcome="published", event_id=event_id, why=why)

    async def _publish(self, record: Record) -> None:
        """Raises Withheld where the log does not confirm; it may have the record all the same."""
        if self._log_failed:
            raise Withheld(_NOT_TRIED)
        try:
            await self._log.append(record)
        except RecordTooLarge:
            raise Withheld("too_large_for_topic") from None
        except TopicRefused as refusal:
            raise Withheld(str(refusal)) from refusal
        except (NotDurable, Overloaded) as error:
            self._log_failed = True
            raise Withheld(f"{error or type(error).__name__}") from error

    def record_of(self, kept: Quarantined) -> Record:
        """The record for the trusted topic. Raises Withheld."""
        if kept.record is not None:
            if not self._unverified:
                raise Withheld(_UNVERIFIABLE)
            if kept.record.topic not in self._topics:
                raise Withheld(f"{kept.record.topic} is no topic of events")
            return kept.record
        if kept.token is None:
            raise Withheld("its token was not read")
        try:
            return self._judged(kept, kept.token.encode())
        except Uncheckable as error:
            raise Withheld(str(error)) from error
        except Unusable as flaw:
            raise Withheld(flaw.reason + _HINTS.get(flaw.reason, "")) from flaw
        except Refusal as refusal:
            hint = _HINTS.get(refusal.reason, "") if refusal.reason == kept.reason else ""
            raise Withheld(refusal.reason + hint) from refusal

    def _judged(self, kept: Quarantined, token: bytes) -> Record:
        request = SignedRequest(
            token=token, source=kept.source, received_at=_unix_s(kept.received_at)
        )
        key = self._key_file.key_for(read_token(token).header.kid)
        claims = self._verifier.verify_again(
            request, waived=kept.reason, tenant=self._tenant, key=key
        )
        if self._tenant not in (None, claims.tenant):
            raise Withheld(f"it belongs to tenant {claims.tenant}")
        envelope = normalise(claims)
        if kept.event_id not in (None, envelope.event_id):
            raise Withheld(f"its event id would be {envelope.event_id} now")
        record = encode(envelope, prefix=self._prefix)
        if record.size_bytes > MAX_RECORD_BYTES:
            raise Unusable("too_large_for_topic", claims)
        return record


class Withheld(Exception):
    """The entry cannot be released; the text says which check it fails."""


_UNVERIFIABLE = (
    "it has no token, so whoever may write to the topic can have put it there:"
    " look at it with `quarantine show`, and release it with --unverified"
)
_HINTS = {
    "tenant_unknown": ": name the tenant with --tenant",
    "tenant_not_allowed": ": no tenant pins it, see `forebay-ingest tenants seen`",
    "key_gone": ": the key that signed it is not in the key set, give it with --key-file",
}


async def drop_all(
    log: QuarantineLog, prefix: str, entries: Sequence[Quarantined]
) -> list[Outcome]:
    """Records that none is wanted, one by one; once the log fails, the rest is not tried."""
    outcomes: list[Outcome] = []
    failed = False
    for kept in entries:
        why: str | None = _NOT_TRIED
        if not failed:
            why = await decide(log, prefix, kept.key, "dropped")
            failed = why is not None
        name = kept.key.decode(errors="backslashreplace")
        outcome = "kept" if why else "dropped"
        outcomes.append(Outcome(key=name, outcome=outcome, event_id=kept.event_id, why=why))
    return outcomes


async def decide(
    log: QuarantineLog, prefix: str, key: bytes, decision: Decision, *, unverified: bool = False
) -> str | None:
    """Records a decision; returns why that failed, None if it did not."""
    at = rfc3339(time.time())
    try:
        await log.append(decision_record(prefix, key, decision, at=at, unverified=unverified))
    except (NotDurable, Overloaded, TopicRefused, RecordTooLarge) as error:
        return str(error) or type(error).__name__
    return None


def read_key_file(path: Path) -> KeyFile:
    """RSA public keys in a file: PEM, a JSON Web Key, or a set of them. Raises SettingsError."""
    try:
        text = path.read_bytes()
        if text.lstrip().startswith(b"-----"):
            return KeyFile(by_id={}, any_id=_strong(load_pem_public_key(text)))
        return _json_keys(text)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError, KeysUnavailable):
        raise SettingsError(
            f"{path} holds no RSA public key of at least {MIN_KEY_BITS} bits, as PEM or JWK"
        ) from None


def _json_keys(text: bytes) -> KeyFile:
    members = strict_json.loads(text)
    if not isinstance(members, dict):
        raise ValueError("not a key")
    if "keys" in members:
        return KeyFile(by_id=read_key_set(text))
    key = _strong(jwt.PyJWK(members, algorithm="RS256").key)
    kid = members.get("kid")
    return KeyFile(by_id={kid: key}) if isinstance(kid, str) else KeyFile(by_id={}, any_id=key)


def _strong(key: object) -> RSAPublicKey:
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError("not such a key")
    return key


def _unix_s(text: str) -> float:
    try:
        return moment(text).timestamp() + _HALF_A_MILLISECOND_S
    except ValueError:
        raise Withheld("received_at is not a time") from None
