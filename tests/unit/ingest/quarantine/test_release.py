"""Out of quarantine: who may leave, and on which terms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.contract.codec import decode, encode
from ingest.contract.moments import rfc3339
from ingest.contract.quarantine import (
    Decided,
    QuarantineReason,
    quarantine_record,
    read_quarantine,
)
from ingest.contract.record import Record
from ingest.errors import NotDurable
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.quarantine.log import contents
from ingest.quarantine.release import NO_KEYS, KeyFile, Releasing, drop_all, read_key_file
from ingest.shared.environment import SettingsError
from ingest.verifying.tenants import LiveEventsPin, Tenant, Tenants
from ingest.verifying.verifier import Verifier
from tests.support import builders
from tests.support.keys import SigningKey
from tests.unit.ingest.quarantine.stored_records import (
    LATE_S,
    PREFIX,
    TOPIC,
    MemoryLog,
    expired_record,
    kept_record,
    stored_record,
)


def _verifier(*keys: SigningKey, tenants: Tenants | None = None) -> Verifier:
    live = builders.FixedKeys(builders.LIVE_EVENTS_ISSUER, *keys)
    notices = builders.FixedKeys(builders.PLATFORM, *keys)
    live.answers = notices.answers = True
    return Verifier(
        keys={
            "live-events": {builders.LIVE_EVENTS_ISSUER: live},
            "pns": {builders.PLATFORM: notices},
        },
        tenants=tenants or builders.tenants(),
        leeway_s=300,
        may_keep_unknown_tenant=lambda now_s, of: True,
        on_ignored_members=lambda count: None,
    )


async def _released(
    log: MemoryLog,
    *,
    verifier: Verifier | None = None,
    tenant: str | None = None,
    key_file: KeyFile = NO_KEYS,
    unverified: bool = False,
) -> list[tuple[str, str | None]]:
    """Outcome and reason of each open entry."""
    found = await contents(log, content_of=lambda kept: True)
    releasing = Releasing(
        log,
        verifier or _verifier(builders.signing_key()),
        prefix=PREFIX,
        tenant=tenant,
        key_file=key_file,
        unverified=unverified,
    )
    opened = [entry.kept for entry in found.entries if entry.state == "open"]
    return [(o.outcome, o.why) for o in await releasing.release(opened)]


def _published(log: MemoryLog) -> list[Record]:
    return [record for record in log.appended if record.topic != TOPIC]


# who may leave


async def test_expired_event_is_published_as_it_would_have_been() -> None:
    payload = builders.live_event_claims()
    at_s = builders.NOW_S + LATE_S
    claims = builders.live_event(payload)
    log = MemoryLog(
        kept_record(builders.token(payload), "expired", at_s=at_s, event_id=event_id(claims))
    )
    assert await _released(log) == [("released", None)]
    (record,) = _published(log)
    envelope = decode(record)
    assert envelope.event_id == event_id(claims)
    assert envelope.metadata["received_at"] == rfc3339(at_s)
    assert envelope.body == normalise(claims).body
    decided = read_quarantine(stored_record(log.appended[-1], offset=9))
    assert isinstance(decided, Decided)
    assert (decided.key, decided.decision) == (event_id(claims).encode(), "released")


async def test_received_at_survives_to_the_millisecond() -> None:
    token = builders.token(builders.live_event_claims())
    for millisecond in range(1000):
        at_s = builders.NOW_S + LATE_S + millisecond / 1000
        log = MemoryLog(kept_record(token, "expired", at_s=at_s))
        assert await _released(log) == [("released", None)]
        assert decode(_published(log)[0]).metadata["received_at"] == rfc3339(at_s)


async def test_released_entry_is_not_open_any_more() -> None:
    log = MemoryLog(expired_record())
    await _released(log)
    assert await _released(log) == []
    assert len(_published(log)) == 1


@pytest.mark.parametrize("reason", ["tenant_unknown", "key_gone", "unsupported_format"])
async def test_only_the_named_reason_is_waived(reason: QuarantineReason) -> None:
    late = kept_record(
        builders.token(builders.live_event_claims()), reason, at_s=builders.NOW_S + LATE_S
    )
    log = MemoryLog(late)
    key = builders.signing_key().private_key.public_key()
    released = await _released(log, tenant=builders.TENANT, key_file=KeyFile(by_id={}, any_id=key))
    assert released == [("kept", "expired")]
    assert log.appended == [late]


async def test_forged_token_stays_whatever_it_is_kept_for() -> None:
    forged = builders.token(builders.live_event_claims(), key="stranger", kid="key-current")
    reasons: list[QuarantineReason] = ["expired", "tenant_unknown", "key_gone"]
    log = MemoryLog(*(kept_record(forged, reason, event_id=reason) for reason in reasons))
    assert await _released(log, tenant=builders.TENANT) == [("kept", "bad_signature")] * 3
    assert _published(log) == []


async def test_foreign_tenant_stays() -> None:
    metadata = builders.live_event_metadata(root_account_uuid="another-school")
    log = MemoryLog(
        kept_record(builders.token(builders.live_event_claims(metadata=metadata)), "expired")
    )
    assert await _released(log) == [("kept", "tenant_not_allowed")]
    assert await _released(log, tenant=builders.TENANT) == [("kept", "tenant_not_allowed")]


async def test_event_without_a_tenant_needs_one_to_be_named() -> None:
    metadata = builders.without(builders.live_event_metadata(), "root_account_uuid")
    payload = builders.live_event_claims(metadata=metadata)
    log = MemoryLog(kept_record(builders.token(payload), "tenant_unknown"))
    ((outcome, why),) = await _released(log)
    assert outcome == "kept"
    assert why is not None
    assert why.startswith("tenant_unknown")
    assert await _released(log, tenant="south-campus") == [("released", None)]
    assert decode(_published(log)[0]).metadata["tenant"] == "south-campus"


async def test_event_that_is_pinned_by_now_needs_no_name_and_takes_no_other() -> None:
    metadata = builders.without(builders.live_event_metadata(), "root_account_uuid")
    payload = builders.live_event_claims(metadata=metadata)
    pin = LiveEventsPin(
        root_account_uuid=builders.ROOT_ACCOUNT,
        subscription_ids=frozenset({builders.SUBSCRIPTION}),
    )
    tenants = Tenants([Tenant(name="north-campus", live_events=(pin,))])
    verifier = _verifier(builders.signing_key(), tenants=tenants)
    log = MemoryLog(kept_record(builders.token(payload), "tenant_unknown"))
    refused = await _released(log, verifier=verifier, tenant="south-campus")
    assert refused == [("kept", "it belongs to tenant north-campus")]
    assert await _released(log, verifier=verifier) == [("released", None)]
    assert decode(_published(log)[0]).metadata["tenant"] == "north-campus"


async def test_token_whose_key_is_gone_needs_that_key() -> None:
    log = MemoryLog(kept_record(builders.token(builders.live_event_claims()), "key_gone"))
    bare = _verifier()
    ((outcome, why),) = await _released(log, verifier=bare)
    assert (outcome, (why or "").partition(":")[0]) == ("kept", "key_gone")
    stranger = builders.signing_key("stranger").private_key.public_key()
    wrong = KeyFile(by_id={}, any_id=stranger)
    assert await _released(log, verifier=bare, key_file=wrong) == [("kept", "bad_signature")]
    key = builders.signing_key().private_key.public_key()
    right = KeyFile(by_id={"key-current": key})
    assert await _released(log, verifier=bare, key_file=right) == [("released", None)]


async def test_a_key_that_is_handed_in_helps_nothing_else() -> None:
    log = MemoryLog(expired_record())
    key = KeyFile(by_id={}, any_id=builders.signing_key().private_key.public_key())
    ((outcome, why),) = await _released(log, verifier=_verifier(), key_file=key)
    assert (outcome, (why or "").partition(":")[0]) == ("kept", "key_gone")


async def test_keys_that_cannot_be_had_now_are_said_so() -> None:
    live = builders.FixedKeys(builders.LIVE_EVENTS_ISSUER)  # never fetched
    verifier = Verifier(
        keys={"live-events": {builders.LIVE_EVENTS_ISSUER: live}, "pns": {}},
        tenants=builders.tenants(),
        leeway_s=300,
        may_keep_unknown_tenant=lambda now_s, of: True,
        on_ignored_members=lambda count: None,
    )
    log = MemoryLog(expired_record())
    assert await _released(log, verifier=verifier) == [("kept", "the key source does not answer")]


@pytest.mark.parametrize(
    ("reason", "claims"),
    [
        ("unsupported_format", {"metadata": None}),
        ("unreadable_claims", {"exp": "tomorrow"}),
    ],
)
async def test_what_cannot_be_read_stays(
    reason: QuarantineReason, claims: Mapping[str, Any]
) -> None:
    metadata = builders.live_event_metadata()
    payload = builders.live_event_claims(**{"metadata": metadata, **claims})
    tenants = Tenants(
        [
            Tenant(
                name=builders.TENANT,
                live_events=(
                    LiveEventsPin(
                        root_account_uuid=builders.ROOT_ACCOUNT,
                        subscription_ids=frozenset({builders.SUBSCRIPTION}),
                    ),
                ),
            )
        ]
    )
    verifier = _verifier(builders.signing_key(), tenants=tenants)
    log = MemoryLog(kept_record(builders.token(payload), reason))
    assert await _released(log, verifier=verifier) == [("kept", reason)]


@pytest.mark.parametrize("reason", ["unsupported_format", "unreadable_claims"])
async def test_what_passes_by_now_leaves(reason: QuarantineReason) -> None:
    log = MemoryLog(kept_record(builders.token(builders.live_event_claims()), reason))
    assert await _released(log) == [("released", None)]


async def test_other_event_id_than_it_had_is_not_published() -> None:
    token = builders.token(builders.live_event_claims())
    log = MemoryLog(kept_record(token, "unreadable_claims", event_id="00" * 32))
    ((outcome, why),) = await _released(log)
    assert outcome == "kept"
    assert "event id" in (why or "")


async def test_notice_is_released_as_one() -> None:
    token = builders.token(builders.notice_claims())
    at_s = builders.NOW_S + LATE_S
    log = MemoryLog(kept_record(token, "expired", source="pns", at_s=at_s))
    assert await _released(log) == [("released", None)]
    assert _published(log)[0].topic == "canvas.pns.lti-context-copy-notice.v1"


async def test_launch_token_never_passes_as_a_notice() -> None:
    claims = builders.without(builders.notice_claims(), builders.NOTICE_CLAIM)
    log = MemoryLog(kept_record(builders.token(claims), "expired", source="pns"))
    assert await _released(log) == [("kept", "malformed")]


async def test_finished_record_is_published_as_it_is_but_only_to_topics_of_events() -> None:
    record = encode(builders.envelope(), prefix=PREFIX)
    foreign = Record(topic="payroll", key=b"k", value=b"v", headers=(("ce_id", b"other"),))
    log = MemoryLog(
        *(
            quarantine_record(PREFIX, each, reason="too_large_for_topic", source="live-events")
            for each in (record, foreign)
        )
    )
    assert await _released(log, unverified=True) == [
        ("released", None),
        ("kept", "payroll is no topic of events"),
    ]
    assert _published(log) == [record]


async def test_what_has_no_token_goes_only_unverified_and_the_decision_says_so() -> None:
    record = encode(builders.envelope(), prefix=PREFIX)
    planted = quarantine_record(PREFIX, record, reason="too_large_for_topic", source="live-events")
    log = MemoryLog(planted, expired_record())
    (stays, goes) = await _released(log)
    assert (stays[0], "--unverified" in str(stays[1]), goes) == ("kept", True, ("released", None))
    assert await _released(log, unverified=True) == [("released", None)]
    decisions = [
        read_quarantine(stored_record(r, offset=9)) for r in log.appended if r.topic == TOPIC
    ]
    assert [d.unverified for d in decisions if isinstance(d, Decided)] == [False, True]


async def test_no_decision_without_an_acknowledgement_and_no_flood_of_tries() -> None:
    entries = [expired_record(number) for number in range(250)]
    log = MemoryLog(*entries)
    log.failing["canvas.live-events.course-created.v1"] = NotDurable("no answer")
    outcomes = await _released(log)
    assert {outcome for outcome, _ in outcomes} == {"kept"}
    assert outcomes[0] == ("kept", "no answer")
    assert outcomes[-1] == ("kept", "not tried: the log takes no records")
    assert log.appended == entries


async def test_published_without_its_decision_is_said_and_stays_open() -> None:
    log = MemoryLog(expired_record())
    log.failing[TOPIC] = NotDurable("no answer")
    ((outcome, why),) = await _released(log)
    assert outcome == "published"
    assert "no answer" in (why or "")
    log.failing.clear()
    assert await _released(log) == [("released", None)]
    first, again = _published(log)
    assert first == again


async def test_drops_end_at_the_first_that_is_not_recorded() -> None:
    log = MemoryLog(*(expired_record(number) for number in range(3)))
    log.failing[TOPIC] = NotDurable("no answer")
    found = await contents(log, content_of=lambda kept: False)
    outcomes = await drop_all(log, PREFIX, [entry.kept for entry in found.entries])
    assert {o.outcome for o in outcomes} == {"kept"}
    not_tried = "not tried: the log takes no records"
    assert [o.why for o in outcomes] == ["no answer", not_tried, not_tried]


# key files


@pytest.mark.parametrize("form", ["pem", "jwk", "set"])
async def test_key_file_may_be_pem_jwk_or_a_set(tmp_path: Path, form: str) -> None:
    key = builders.signing_key()
    texts = {
        "pem": key.public_pem().encode(),
        "jwk": orjson.dumps(key.jwk()),
        "set": orjson.dumps({"keys": [builders.signing_key("stranger").jwk(), key.jwk()]}),
    }
    path = tmp_path / "key"
    path.write_bytes(texts[form])
    log = MemoryLog(kept_record(builders.token(builders.live_event_claims()), "key_gone"))
    released = await _released(log, verifier=_verifier(), key_file=read_key_file(path))
    assert released == [("released", None)]


def test_jwk_is_for_its_own_id_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(orjson.dumps(builders.signing_key().jwk()))
    assert read_key_file(path).key_for("key-current") is not None
    assert read_key_file(path).key_for("key-other") is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"kty": "oct", "k": "AAAA"}',
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"\xff",
    ],
)
def test_file_without_a_usable_key_is_misuse(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    with pytest.raises(SettingsError, match="no RSA public key"):
        read_key_file(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_key_file(tmp_path / "absent")


async def test_what_nobody_pinned_leaves_once_somebody_does_and_only_that() -> None:
    def kept(account: str) -> Record:
        metadata = builders.live_event_metadata(root_account_uuid=account)
        text = builders.token(builders.live_event_claims(metadata=metadata))
        return kept_record(text, "tenant_not_allowed")

    log = MemoryLog(kept(builders.ROOT_ACCOUNT), kept("of-another-school"))
    released, stays = await _released(log)
    assert released == ("released", None)
    assert (stays[0], (stays[1] or "").partition(":")[0]) == ("kept", "tenant_not_allowed")
    (record,) = [r for r in log.appended if r.topic != TOPIC]
    assert decode(record).metadata["tenant"] == builders.TENANT


async def test_what_nobody_pinned_is_verified_in_all_else() -> None:
    expired = builders.live_event_claims(exp=int(builders.NOW_S) - 9_999)
    forged = builders.token(builders.live_event_claims(), key="stranger", kid="key-current")
    for text, why in ((builders.token(expired), "expired"), (forged, "bad_signature")):
        log = MemoryLog(kept_record(text, "tenant_not_allowed"))
        assert await _released(log) == [("kept", why)]
