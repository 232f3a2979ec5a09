"""What operators are shown of an entry in quarantine. Nothing here says that it is genuine."""

from typing import Any

from msgspec.structs import asdict

from ingest.contract.quarantine import Quarantined
from ingest.errors import Rejection
from ingest.quarantine.log import Entry
from ingest.quarantine.named import NOTHING
from ingest.verifying.token import UnreadableClaims, read_claims, read_token


def summary(entry: Entry) -> dict[str, str | None]:
    """What a list shows of an entry; the ids are those that its token names, unverified."""
    kept = entry.kept
    return {
        "key": entry.name,
        "reason": kept.reason,
        "source": kept.source,
        "tenant": kept.tenant,
        "received_at": kept.received_at,
        "event_id": kept.event_id,
        "state": entry.state,
        **asdict(entry.named),
    }


def line(entry: Entry) -> str:
    """The same in one line, in which an id that is not named takes no room."""
    ids = {name: value for name, value in asdict(entry.named).items() if value is not None}
    texts = [value or "-" for name, value in summary(entry).items() if name not in asdict(NOTHING)]
    return "  ".join(texts + [f"{name}={value}" for name, value in ids.items()])


def content_of(kept: Quarantined) -> dict[str, Any]:
    """What is kept, taken apart: `record`, or `unverified_claims` of a token."""
    if kept.record is not None:
        return {
            "record": {
                "topic": kept.record.topic,
                "key": kept.record.key.decode(),
                "headers": {name: value.decode() for name, value in kept.record.headers},
                "value": kept.record.value.decode(),
            }
        }
    return {"unverified_claims": _claims((kept.token or "").encode())}


def _claims(token: bytes) -> Any:
    """What a token says, whoever may have written it; as text where no strict parser reads it."""
    try:
        payload = read_token(token).payload
    except Rejection:
        return token.decode()
    try:
        claims, irregular = read_claims(payload)
    except UnreadableClaims:
        irregular = True
    return payload.decode(errors="backslashreplace") if irregular else claims
