"""The tenants file: what it gives, and one clear line for each thing wrong."""

from pathlib import Path

import pytest

from ingest.errors import TenantNotAllowed
from ingest.shared.environment import SettingsError
from ingest.verifying.key_url import key_set_url
from ingest.verifying.tenants_file import ADDED_NAME, CANVAS_PLATFORMS, Directory, read_tenants

_CANVAS = "https://canvas.instructure.com"
_TENANT = '[[tenant]]\nname = "north-campus"\n'
_ACCOUNT = '[[tenant.live_events]]\nroot_account_uuid = "account-n"\n'
_CLIENT = f'[[tenant.pns]]\nissuer = "{_CANVAS}"\nclient_id = "10000000000777"\n'


def _platform(issuer: str, url: str) -> str:
    return f'[[platform]]\nissuer = "{issuer}"\njwks_url = "{url}"\n'


def _read(folder: Path, text: str) -> Directory:
    path = folder / "tenants.toml"
    path.write_text(text)
    return read_tenants(path)


def _error(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        _read(folder, text)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"{folder / 'tenants.toml'}: ")


def test_tenant_with_both_kinds_of_pins_is_read(tmp_path: Path) -> None:
    pins = 'subscription_ids = ["s1", 7]\n', 'deployment_ids = ["d1"]\n'
    directory = _read(tmp_path, _TENANT + _ACCOUNT + pins[0] + _CLIENT + pins[1])
    assert directory.tenants.of_live_event("account-n", "7") == "north-campus"
    assert directory.tenants.of_notice(_CANVAS, "10000000000777", "d1") == "north-campus"
    with pytest.raises(TenantNotAllowed):
        directory.tenants.of_live_event("account-n", "s2")
    assert directory.pinned_platforms == {_CANVAS}
    assert directory.unpinned == ()


def test_hosted_platforms_are_built_in(tmp_path: Path) -> None:
    assert _read(tmp_path, _TENANT).platforms == CANVAS_PLATFORMS
    assert len(CANVAS_PLATFORMS) == 3


def test_platform_of_the_file_is_added_or_takes_the_place_of_a_built_in_one(
    tmp_path: Path,
) -> None:
    own = _platform("https://lms.example.edu", "https://lms.example.edu/keys")
    again = _platform(_CANVAS, "http://127.0.0.1:9/keys")
    platforms = _read(tmp_path, own + again + _TENANT).platforms
    assert platforms["https://lms.example.edu"] == "https://lms.example.edu/keys"
    assert platforms[_CANVAS] == "http://127.0.0.1:9/keys"
    assert len(platforms) == 4


def test_client_id_may_be_a_number(tmp_path: Path) -> None:
    directory = _read(tmp_path, _TENANT + _CLIENT.replace('"10000000000777"', "10000000000777"))
    assert directory.tenants.of_notice(_CANVAS, "10000000000777", None) == "north-campus"


def test_tenants_that_beta_can_reach_are_named(tmp_path: Path) -> None:
    assert _read(tmp_path, _TENANT + _ACCOUNT).unpinned == ("north-campus",)
    assert _read(tmp_path, _TENANT + _CLIENT).unpinned == ()


def test_no_file_named_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"^FOREBAY_TENANTS_FILE: [^\n]+$"):
        read_tenants(None)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"^[^\n]+: cannot read the tenants file: [^\n]+$"):
        read_tenants(tmp_path / name)


def test_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not TOML"):
        read_tenants(tmp_path / "tenants.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "tenant: at least one"),
        ("tenant = []", "tenant: "),
        ("[[tenant]\n", "not TOML: "),
        ("name = north", "not TOML: "),
        (_TENANT + "colour = 'red'\n", "tenant[1].colour: "),
        (
            _TENANT + _ACCOUNT + "subscription_id = 's'\n",
            "tenant[1].live_events[1].subscription_id",
        ),
        ("[[tenants]]\nname = 'x'\n" + _TENANT, "tenants: "),
        ("[[tenant]]\n", "tenant[1].name: Field required"),
        ("[[tenant]]\nname = ''\n", "tenant[1].name: "),
        ("[[tenant]]\nname = 'a b'\n", "tenant[1].name: "),
        ("[[tenant]]\nname = 'größe'\n", "tenant[1].name: "),
        (_TENANT + "[[tenant.live_events]]\nroot_account_uuid = ''\n", "tenant[1].live_events[1]."),
        (_TENANT + "[[tenant.pns]]\nissuer = 'x'\n", "tenant[1].pns[1].client_id: Field required"),
        (_TENANT + _TENANT, "north-campus"),
        (_TENANT + _ACCOUNT + _TENANT.replace("north", "south") + _ACCOUNT, "account-n"),
        (_TENANT + _CLIENT + _TENANT.replace("north", "south") + _CLIENT, "10000000000777"),
        (_TENANT + _CLIENT.replace(_CANVAS, "https://x.example.edu"), "https://x.example.edu"),
        (_platform("i", "http://lms.example.edu/keys") + _TENANT, "platform[1].jwks_url: "),
        (_platform("i", "ftp://lms.example.edu/keys") + _TENANT, "platform[1].jwks_url: "),
        (_platform("", "https://lms.example.edu/keys") + _TENANT, "platform[1].issuer: "),
        (_platform("i", "https://a") + _platform("i", "https://b") + _TENANT, "platform"),
        (_TENANT + 'slug = "too-short"\n', "tenant[1].slug: "),
        (_TENANT + 'slug = "with/a/slash/in/the/middle/of/it"\n', "tenant[1].slug: "),
    ],
)
def test_everything_wrong_has_its_line(tmp_path: Path, text: str, says: str) -> None:
    assert says in _error(tmp_path, text)


def test_two_things_wrong_have_two_lines(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, "[[tenant]]\ncolour = 1\n")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example.edu/jwks",
        "http://localhost:8000/jwks",
        "http://127.0.0.1/jwks",
        "http://127.8.9.1/jwks",
        "http://[::1]:80/jwks",
    ],
)
def test_keys_come_over_https_or_from_this_machine(url: str) -> None:
    assert key_set_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "keys.example.edu",
        "https://",
        "http://",
        "http://keys.example.edu/jwks",
        "http://10.0.0.1/jwks",
        "http://0.0.0.0/jwks",
        "http://127.0.0.1.example.edu/jwks",
        "http://localhost.example.edu/jwks",
        "http://localhost@keys.example.edu/jwks",
        "http://[::2]/jwks",
        "https://[::1",
        "file:///etc/keys",
    ],
)
def test_keys_come_from_nowhere_else(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - a split URL has its own texts
        key_set_url(url)


def test_nesting_deeper_than_any_parser_goes_is_one_line(tmp_path: Path) -> None:
    assert _error(tmp_path, f"a = {'[' * 2_000}").startswith("not TOML: ")


def test_a_url_that_is_none_is_refused_without_being_quoted() -> None:
    for url in ("https://reader:open-sesame@\u2100.example", "https://reader:open-sesame@[::1"):
        with pytest.raises(ValueError, match="must be an https:// URL") as caught:
            key_set_url(url)
        assert "sesame" not in str(caught.value)


def _add(folder: Path, **files: str) -> None:
    (folder / ADDED_NAME).mkdir()
    for name, text in files.items():
        (folder / ADDED_NAME / f"{name}.toml").write_text(text)


def test_files_beside_it_are_read_like_it(tmp_path: Path) -> None:
    (tmp_path / ADDED_NAME).mkdir()
    (tmp_path / ADDED_NAME / "half-written.new").write_text("[[tenant")
    south = _TENANT.replace("north", "south") + _ACCOUNT
    (tmp_path / ADDED_NAME / "south.toml").write_text(_platform("i", "https://a") + south)
    directory = _read(tmp_path, _TENANT)
    assert directory.names == {"north-campus", "south-campus"}
    assert directory.tenants.of_live_event("account-n", None) == "south-campus"
    assert directory.platforms["i"] == "https://a"


def test_what_several_files_say_of_one_tenant_belongs_together(tmp_path: Path) -> None:
    _add(tmp_path, a=_TENANT + _CLIENT, b=_TENANT + 'slug = "0123456789abcdef"\n')
    directory = _read(tmp_path, _TENANT + _ACCOUNT)
    assert directory.tenants.of_live_event("account-n", None) == "north-campus"
    assert directory.tenants.of_notice(_CANVAS, "10000000000777", None) == "north-campus"
    assert directory.tenants.of_slug("0123456789abcdef") == "north-campus"
    assert directory.names == {"north-campus"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[tenant", "not TOML"),
        (_TENANT.replace("north", "south") + _ACCOUNT, "north-campus and south-campus both claim"),
        (_TENANT + _TENANT, "more than one tenant is called north-campus"),
        (_TENANT + 'slug = "fedcba9876543210"\n', "two slugs"),
        (_platform("i", "https://b"), "two jwks_url"),
    ],
)
def test_what_is_wrong_beside_it_has_its_line(tmp_path: Path, text: str, says: str) -> None:
    _add(tmp_path, added=text)
    own = _platform("i", "https://a") + _TENANT + 'slug = "0123456789abcdef"\n' + _ACCOUNT
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, own)
    (line,) = str(caught.value).splitlines()
    assert says in line
    assert "0123456789abcdef" not in line


def test_same_platform_may_be_in_two_files(tmp_path: Path) -> None:
    _add(tmp_path, added=_platform("i", "https://a"))
    assert _read(tmp_path, _platform("i", "https://a") + _TENANT).platforms["i"] == "https://a"


def test_contents_have_a_fingerprint(tmp_path: Path) -> None:
    first, again = _read(tmp_path, _TENANT), _read(tmp_path, _TENANT)
    assert first.fingerprint == again.fingerprint
    assert _read(tmp_path, _TENANT + "# a comment\n").fingerprint != first.fingerprint
    _add(tmp_path, added=_platform("i", "https://a"))
    assert _read(tmp_path, _TENANT).fingerprint != first.fingerprint
