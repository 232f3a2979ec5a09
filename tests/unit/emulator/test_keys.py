from __future__ import annotations

import re
from pathlib import Path

import jwt
import pytest

from tests.emulator.key_store import KEYS_FILE, Keys, KeyStoreError, load_or_generate, save
from tests.support.keys import KeyRing, SigningKey


def test_a_signed_token_has_canvas_header_and_decodes_with_the_public_jwk(keys: Keys) -> None:
    key = keys.live_events.current
    token = key.sign({"iss": "x", "n": 1})
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key.kid}
    assert jwt.decode(token, jwt.PyJWK(key.jwk()), algorithms=["RS256"]) == {"iss": "x", "n": 1}


def test_extra_headers_are_laid_over_the_usual_ones(keys: Keys) -> None:
    token = keys.live_events.current.sign({}, headers={"jku": "https://k.example", "kid": "z"})
    assert jwt.get_unverified_header(token) == {
        "alg": "RS256",
        "typ": "JWT",
        "kid": "z",
        "jku": "https://k.example",
    }


def test_a_jwk_shows_nothing_of_the_private_half(keys: Keys) -> None:
    jwk = keys.live_events.current.jwk()
    assert jwk.keys() == {"kty", "n", "e", "kid", "alg", "use"}
    assert (jwk["kty"], jwk["e"], jwk["alg"], jwk["use"]) == ("RSA", "AQAB", "RS256", "sig")


def test_kids_have_the_two_forms_that_canvas_uses(keys: Keys) -> None:
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    for key in (keys.live_events.previous, keys.live_events.current, keys.live_events.next):
        assert re.fullmatch(time, key.kid)
    for key in (keys.platform.previous, keys.platform.current, keys.platform.next):
        assert re.fullmatch(time + r"_[0-9a-f-]{36}", key.kid)


def _kids(ring: KeyRing) -> list[str]:
    return [key["kid"] for key in ring.jwks()["keys"]]


@pytest.mark.parametrize("lane", ["live_events", "platform"])
def test_rotation_moves_every_key_on_and_adds_a_fresh_one(keys: Keys, lane: str) -> None:
    ring: KeyRing = getattr(keys, lane)
    rotated = ring.rotated()
    assert _kids(rotated)[:2] == _kids(ring)[1:]
    assert _kids(rotated)[2] not in _kids(ring)
    assert rotated.kid_suffix == ring.kid_suffix
    assert _kids(rotated) == sorted(_kids(rotated))


def test_kept_keys_are_the_same_in_the_next_run(tmp_path: Path) -> None:
    first = load_or_generate(tmp_path / "keys")
    again = load_or_generate(tmp_path / "keys")
    assert again.live_events.jwks() == first.live_events.jwks()
    assert again.platform.jwks() == first.platform.jwks()
    assert again.platform.rotated().kid_suffix


def test_kept_keys_are_for_the_owner_alone(tmp_path: Path, keys: Keys) -> None:
    save(keys, tmp_path)
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == [KEYS_FILE]


@pytest.mark.parametrize("text", ["", "{}", '{"live_events": 3}', "[]"])
def test_unreadable_kept_keys_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / KEYS_FILE).write_text(text)
    with pytest.raises(KeyStoreError, match=KEYS_FILE):
        load_or_generate(tmp_path)


def test_a_key_survives_its_pem_text(keys: Keys) -> None:
    key = keys.live_events.current
    assert SigningKey.from_pem(key.kid, key.private_pem()).jwk() == key.jwk()
