"""Which issuers' keys there are, and whose are asked for, as the tenants file changes."""

from pathlib import Path

import pytest

from ingest.verifying.jwks import KeySource
from ingest.verifying.key_sources import KeySources
from ingest.verifying.tenants_file import CANVAS_PLATFORMS, Directory, read_tenants
from tests.support.builders import PLATFORM, FixedKeys

_LIVE = "live"
_ACCOUNT = 'live_events = [{ root_account_uuid = "r" }]'
_CLIENT = f'pns = [{{ issuer = "{PLATFORM}", client_id = "1" }}]'


def _directory(folder: Path, pins: str = "", url: str = "https://k.example.edu") -> Directory:
    file = folder / "tenants.toml"
    platform = f'[[platform]]\nissuer = "{PLATFORM}"\njwks_url = "{url}"\n'
    file.write_text(f'{platform if url else ""}[[tenant]]\nname = "north"\n{pins}\n')
    return read_tenants(file)


def _made(issuer: str, url: str) -> KeySource:
    return FixedKeys(issuer)


@pytest.fixture
def keys() -> KeySources:
    return KeySources((_LIVE, "https://l.example.edu"), _made)


@pytest.mark.parametrize(
    ("pins", "asked"), [(_ACCOUNT, {_LIVE}), (_CLIENT, {PLATFORM}), ("", set())]
)
def test_only_issuers_that_a_tenant_pins_are_asked_for_keys(
    tmp_path: Path, keys: KeySources, pins: str, asked: set[str]
) -> None:
    keys.follow(_directory(tmp_path, pins))
    assert keys.pinned.keys() == asked
    assert keys.by_endpoint["pns"].keys() == {PLATFORM, *CANVAS_PLATFORMS}
    assert keys.by_endpoint["live-events"].keys() == {_LIVE}


def test_who_holds_the_mappings_sees_what_changes(tmp_path: Path, keys: KeySources) -> None:
    pinned, by_endpoint = keys.pinned.values(), keys.by_endpoint
    keys.follow(_directory(tmp_path, _ACCOUNT))
    assert [source.issuer for source in pinned] == [_LIVE]
    keys.follow(_directory(tmp_path, _CLIENT))
    assert [source.issuer for source in pinned] == [PLATFORM]
    keys.follow(_directory(tmp_path, _ACCOUNT, url=""))
    assert [source.issuer for source in pinned] == [_LIVE]
    assert PLATFORM not in by_endpoint["pns"]


def test_issuer_keeps_its_keys_while_its_url_stays(tmp_path: Path, keys: KeySources) -> None:
    keys.follow(_directory(tmp_path, _CLIENT))
    first = keys.pinned[PLATFORM]
    keys.follow(_directory(tmp_path, _CLIENT + "\n" + _ACCOUNT))
    assert keys.pinned[PLATFORM] is first
    keys.follow(_directory(tmp_path, _CLIENT, url="https://moved.example.edu"))
    assert keys.pinned[PLATFORM] is not first
    assert keys.by_endpoint["pns"][PLATFORM] is keys.pinned[PLATFORM]
