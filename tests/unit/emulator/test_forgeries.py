"""Each forgery is what it says: held against PyJWT, and against the true token it started from."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import orjson
import pytest

from tests.emulator import forgeries
from tests.emulator.forgeries import Forged, Forger, Forgery
from tests.emulator.key_store import Keys
from tests.emulator.school import School

LIVE_EVENTS = {forgery.name: forgery for forgery in forgeries.live_events()}
NOTICES = {forgery.name: forgery for forgery in forgeries.notices()}


@pytest.fixture
def pns_forger(forger: Forger, keys: Keys) -> Forger:
    return Forger(
        key=keys.platform.current,
        key_elsewhere=keys.live_events.current,
        other_key=forger.other_key,
        school=forger.school,
        stranger=forger.stranger,
        now_s=forger.now_s,
    )


def _token(name: str, forger: Forger) -> str:
    return LIVE_EVENTS[name].make(forger, 4).token.decode()


def _decoded(token: str, forger: Forger, algorithm: str = "RS256") -> dict[str, Any]:
    """Verify with the true key, as the reference does."""
    options: Any = {"verify_aud": False}
    decoded: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(forger.key.jwk(), algorithm), algorithms=[algorithm], options=options
    )
    return decoded


def _header(token: str) -> dict[str, Any]:
    return dict(jwt.get_unverified_header(token))


def test_every_forgery_has_a_name_of_its_own_and_an_expected_answer() -> None:
    assert len(LIVE_EVENTS) == len(forgeries.live_events())
    assert len(NOTICES) == len(forgeries.notices())
    for forgery in (*LIVE_EVENTS.values(), *NOTICES.values()):
        assert forgery.expected
        assert forgery.expected[0].status in {202, 400, 401, 403}


def test_text_that_is_no_token(forger: Forger) -> None:
    assert LIVE_EVENTS["empty"].make(forger, 0).token == b""
    for name in ("not_a_token", "two_segments"):
        with pytest.raises(jwt.DecodeError):
            jwt.get_unverified_header(_token(name, forger))


def test_an_unsigned_event_is_the_bare_json(forger: Forger) -> None:
    event = json.loads(_token("unsigned", forger))
    assert event == {name: forger.event(4).claims[name] for name in ("metadata", "body")}


@pytest.mark.parametrize("name", ["crit", "b64", "jku", "x5u", "x5c"])
def test_a_forbidden_header_member_on_a_true_signature(forger: Forger, name: str) -> None:
    token = _token(f"header_{name}", forger)
    header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert header.keys() == {"alg", "typ", "kid", name}
    signing_input, _, signature = token.rpartition(".")
    assert forger.key.signature(signing_input.encode()) == base64.urlsafe_b64decode(
        signature + "=="
    )


def test_a_key_in_the_header_would_verify_its_own_token(forger: Forger) -> None:
    token = _token("header_jwk", forger)
    jwt.decode(token, jwt.PyJWK(_header(token)["jwk"]), algorithms=["RS256"])
    with pytest.raises(jwt.InvalidSignatureError):
        _decoded(token, forger)


def test_duplicate_header_names_hide_another_algorithm(forger: Forger) -> None:
    token = _token("duplicate_header_names", forger)
    text = base64.urlsafe_b64decode(token.partition(".")[0] + "==").decode()
    assert text.count('"alg"') == 2
    assert _decoded(token, forger)["iss"] == forger.school.live_events_issuer


@pytest.mark.parametrize("name", ["padded", "loose_last_character"])
def test_loose_base64_says_the_same_bytes_otherwise(forger: Forger, name: str) -> None:
    true = forger.event(4).token(forger.key, forger.now_s)
    loose = _token(name, forger)
    assert loose != true
    signature = loose.rpartition(".")[2].rstrip("=")
    assert base64.urlsafe_b64decode(signature + "==") == base64.urlsafe_b64decode(
        true.rpartition(".")[2] + "=="
    )


def test_alg_none_has_no_signature(forger: Forger) -> None:
    token = _token("alg_none", forger)
    assert _header(token)["alg"] == "none"
    assert token.endswith(".")


def test_hs256_is_keyed_with_the_public_key(forger: Forger) -> None:
    token = _token("alg_hs256", forger)
    assert _header(token)["alg"] == "HS256"
    signing_input, _, signature = token.rpartition(".")
    mac = hmac.new(forger.key.public_pem().encode(), signing_input.encode(), hashlib.sha256)
    assert base64.urlsafe_b64decode(signature + "=") == mac.digest()


def test_ps256_is_a_true_signature_of_another_algorithm(forger: Forger) -> None:
    claims = _decoded(_token("alg_ps256", forger), forger, "PS256")
    assert claims["metadata"] == forger.event(4).claims["metadata"]


def test_an_unknown_kid_is_in_no_key_set(forger: Forger, keys: Keys) -> None:
    kid = _header(_token("unknown_kid", forger))["kid"]
    assert kid not in {key["kid"] for key in keys.live_events.jwks()["keys"]}


@pytest.mark.parametrize("name", ["signed_by_another_key", "flipped_payload", "flipped_signature"])
def test_a_bad_signature_under_a_good_kid(forger: Forger, name: str) -> None:
    token = _token(name, forger)
    assert _header(token) == {"alg": "RS256", "typ": "JWT", "kid": forger.key.kid}
    with pytest.raises(jwt.InvalidSignatureError):
        _decoded(token, forger)


def test_a_wrong_issuer_with_a_true_signature(forger: Forger) -> None:
    claims = _decoded(_token("wrong_issuer", forger), forger)
    assert claims["iss"] not in {forger.school.live_events_issuer, forger.school.platform_issuer}


def test_an_expired_token_is_true_but_old(forger: Forger) -> None:
    token = _token("expired", forger)
    with pytest.raises(jwt.ExpiredSignatureError):
        _decoded(token, forger)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 3600
    assert time.time() - claims["exp"] > 1800


def _account(claims: Mapping[str, Any]) -> tuple[str | None, str]:
    return claims["metadata"].get("root_account_uuid"), claims["subscription"]["id"]


def test_foreign_events_are_true_and_of_another_school(forger: Forger) -> None:
    own, there = forger.school, forger.stranger
    accounts = {
        name: _account(_decoded(_token(name, forger), forger))
        for name in ("foreign_school", "foreign_root_account", "nobodys_event")
    }
    assert accounts == {
        "foreign_school": (there.root_account_uuid, there.subscription_id),
        "foreign_root_account": (there.root_account_uuid, own.subscription_id),
        "nobodys_event": (None, there.subscription_id),
    }


def _notice_claims(name: str, forger: Forger) -> dict[str, Any]:
    forgery = NOTICES[name]
    [notice] = orjson.loads(forgery.body(forgery.make(forger, 2)))["notices"]
    return _decoded(notice["jwt"], forger)


def test_foreign_notices_are_true_and_for_another_tool(pns_forger: Forger) -> None:
    there = pns_forger.stranger
    client = _notice_claims("foreign_client", pns_forger)
    deployment = _notice_claims("foreign_deployment", pns_forger)
    name = "https://purl.imsglobal.org/spec/lti/claim/deployment_id"
    assert client["aud"] == client["azp"] == there.client_id
    assert client[name] == pns_forger.school.deployment_id
    assert deployment["aud"] == pns_forger.school.client_id
    assert deployment[name] == there.deployment_id


def test_a_launch_token_is_true_but_has_no_notice(pns_forger: Forger) -> None:
    claims = _notice_claims("launch_token", pns_forger)
    assert "https://purl.imsglobal.org/spec/lti/claim/notice" not in claims
    assert claims["aud"] == pns_forger.school.client_id


def test_a_token_of_the_other_endpoint_is_true_there(forger: Forger, pns_forger: Forger) -> None:
    notice = _decoded(_token("token_of_the_other_endpoint", forger), pns_forger)
    event = _notice_claims_of_other(pns_forger, forger)
    assert notice["iss"] == forger.school.platform_issuer
    assert event["iss"] == forger.school.live_events_issuer


def _notice_claims_of_other(pns_forger: Forger, forger: Forger) -> dict[str, Any]:
    forgery = NOTICES["token_of_the_other_endpoint"]
    [notice] = orjson.loads(forgery.body(forgery.make(pns_forger, 2)))["notices"]
    return _decoded(notice["jwt"], forger)


@pytest.mark.parametrize("name", ["empty", "not_json", "no_notices", "no_array"])
def test_a_body_that_holds_no_notices(pns_forger: Forger, name: str) -> None:
    forgery = NOTICES[name]
    body = forgery.body(forgery.make(pns_forger, 0))
    try:
        assert not json.loads(body).get("notices")
    except ValueError:
        assert name in {"empty", "not_json"}


def _content_key(forgery: Forgery, forger: Forger, number: int) -> str | None:
    forged: Forged = forgery.make(forger, number)
    return forged.message.content_key() if forged.message else None


def test_forged_content_is_never_that_of_a_genuine_event(forger: Forger, school: School) -> None:
    genuine = {school.live_event(n).content_key() for n in range(100)}
    for forgery in LIVE_EVENTS.values():
        assert _content_key(forgery, forger, 4) not in genuine
