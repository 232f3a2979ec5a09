"""A root account written into the tenants file: where it goes, what stays, and what is refused."""

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import TenantNotAllowed
from ingest.shared.environment import SettingsError
from ingest.verifying import tenants_edit
from ingest.verifying.tenants_edit import adopt
from ingest.verifying.tenants_file import ADDED_NAME, Directory, read_tenants

_WRITTEN = """\
# who may send to us
[[platform]]   # our own Canvas
issuer = "https://lms.example.edu"
jwks_url = "https://lms.example.edu/keys"

[[tenant]]
name = "north"      # the first of them

# its account
[[tenant.live_events]]
root_account_uuid = "account-m"   # mistyped
subscription_ids = ["s1"]

[[tenant.pns]]
issuer = "https://lms.example.edu"
client_id = "7"

[[tenant]]
name = "south"
# nothing of theirs yet, and no line after this one"""
_COMMENTS = [line[line.index("#") :] for line in _WRITTEN.splitlines() if "#" in line]

FORMS = {
    "as people write it": _WRITTEN,
    "with CRLF": _WRITTEN.replace("\n", "\r\n"),
    "inline": 'tenant = [{ name = "north", live_events = [{ root_account_uuid = "r" }] }]  # one\n',
    "accounts inline": '[[tenant]]\nname = "north"\nlive_events = [{ root_account_uuid = "r" }]\n',
    "tenants apart": '[[tenant]]\nname = "north"\n[[platform]]\nissuer = "i"\n'
    'jwks_url = "https://k.example.edu"\n[[tenant]]\nname = "south"\n',
    "no tenant yet": "# to be filled\n",
    "empty": "",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tenants.toml"


def _owner(directory: Directory, account: str, subscription: str | None = None) -> str:
    return directory.tenants.of_live_event(account, subscription)


def _without(data: dict[str, Any], account: str) -> dict[str, Any]:
    """What the file says, but for one root account and what would be empty without it."""
    tenants = []
    for tenant in data.get("tenant", []):
        accounts = [a for a in tenant.get("live_events", []) if a["root_account_uuid"] != account]
        rest = {name: value for name, value in tenant.items() if name != "live_events"}
        tenants.append({**rest, **({"live_events": accounts} if accounts else {})})
    return {**data, "tenant": tenants}


@pytest.mark.parametrize("subscriptions", [(), ("s2", "s3")])
@pytest.mark.parametrize("name", ["north", "south", "new"])
@pytest.mark.parametrize("form", FORMS)
def test_account_is_pinned_and_everything_else_stays(
    path: Path, form: str, name: str, subscriptions: tuple[str, ...]
) -> None:
    path.write_bytes(FORMS[form].encode())
    before = tomllib.loads(FORMS[form])
    assert adopt(path, "account-n", name, subscriptions) is not None
    directory = read_tenants(path)
    assert _owner(directory, "account-n", "s3") == name
    if subscriptions:
        with pytest.raises(TenantNotAllowed):
            _owner(directory, "account-n", "s1")
    after = _without(tomllib.loads(path.read_text()), "account-n")
    was = _without(before, "account-n")
    if name not in {tenant["name"] for tenant in was["tenant"]}:
        was["tenant"].append({"name": name})
    assert after == was


@pytest.mark.parametrize("name", ["north", "south", "new"])
def test_comments_and_spacing_stay(path: Path, name: str) -> None:
    path.write_text(_WRITTEN)
    adopt(path, "account-n", name)
    text = path.read_text()
    assert [comment for comment in _COMMENTS if comment not in text] == []
    assert 'name = "north"      # the first of them\n' in text


def test_missing_file_is_made_for_its_owner_alone(path: Path) -> None:
    adopt(path, "account-n", "north")
    assert _owner(read_tenants(path), "account-n") == "north"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rights_and_links_stay(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text(_WRITTEN)
    real.chmod(0o640)
    path.symlink_to(real)
    adopt(path, "account-n", "north")
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert _owner(read_tenants(path), "account-n") == "north"


def test_what_is_pinned_already_changes_nothing(path: Path) -> None:
    path.write_text(_WRITTEN)
    assert adopt(path, "account-m", "north", ["s1"]) is None
    assert path.read_text() == _WRITTEN
    adopt(path, "account-n", "north")
    text = path.read_text()
    assert adopt(path, "account-n", "north") is None
    assert adopt(path, "account-n", "north", ["s9"]) is None
    assert path.read_text() == text


def test_a_further_subscription_is_added(path: Path) -> None:
    path.write_text(_WRITTEN)
    adopt(path, "account-m", "north", ["s2"])
    assert [_owner(read_tenants(path), "account-m", s) for s in ("s1", "s2")] == ["north"] * 2


@pytest.mark.parametrize(
    ("account", "name", "subscriptions", "says"),
    [
        ("account-m", "south", (), "tenants north and south both claim root account account-m"),
        ("account-m", "south", ("s1",), "both claim root account account-m"),
        ("account-n", "south", ("s1",), "both claim subscription s1"),
        ("account-m", "north", (), "of some subscriptions only"),
        ("account-n", "no name", (), "name"),
        ("", "north", (), "root_account_uuid"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    path: Path, account: str, name: str, subscriptions: tuple[str, ...], says: str
) -> None:
    path.write_text(_WRITTEN)
    with pytest.raises(SettingsError) as caught:
        adopt(path, account, name, subscriptions)
    (line,) = str(caught.value).splitlines()
    assert says in line
    assert path.read_text() == _WRITTEN
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_account_that_a_file_beside_it_pins_is_refused(path: Path) -> None:
    path.write_text(_WRITTEN)
    added = path.parent / ADDED_NAME / "launched.toml"
    added.parent.mkdir()
    added.write_text(
        '[[tenant]]\nname = "west"\n[[tenant.live_events]]\nroot_account_uuid = "account-w"\n'
    )
    with pytest.raises(SettingsError, match="north and west both claim"):
        adopt(path, "account-w", "north")
    assert adopt(path, "account-w", "west") is None
    assert path.read_text() == _WRITTEN


@pytest.mark.parametrize(
    ("text", "says"), [(b"[[tenant", "not TOML"), (b"\xff", "not TOML"), (b"a = 1\n", "a: ")]
)
def test_file_that_cannot_be_used_is_left_as_it_is(path: Path, text: bytes, says: str) -> None:
    path.write_bytes(text)
    with pytest.raises(SettingsError, match=says):
        adopt(path, "account-n", "north")
    assert path.read_bytes() == text


def test_directory_that_cannot_be_written_is_said(path: Path) -> None:
    path.mkdir()
    with pytest.raises(SettingsError, match="cannot read the tenants file"):
        adopt(path, "account-n", "north")


def test_edit_that_would_lose_another_tenant_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(_WRITTEN)
    monkeypatch.setattr(tenants_edit, "_with_account", lambda *_: '[[tenant]]\nname = "north"\n')
    with pytest.raises(SettingsError, match="by hand"):
        adopt(path, "account-n", "north")
    assert path.read_text() == _WRITTEN
