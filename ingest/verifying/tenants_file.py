"""The tenants file and what launches add beside it: TOML, read and checked as a whole."""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from ingest.shared.environment import Section, SettingsError, problems
from ingest.verifying.key_url import key_set_url
from ingest.verifying.tenants import (
    LiveEventsPin,
    NoticesPin,
    Tenant,
    TenantConflict,
    Tenants,
)

# Source: Canvas documentation, LTI 1.3: issuers and key sets of the hosted environments
CANVAS_PLATFORMS: Mapping[str, str] = {
    "https://canvas.instructure.com": "https://sso.canvaslms.com/api/lti/security/jwks",
    "https://canvas.beta.instructure.com": "https://sso.beta.canvaslms.com/api/lti/security/jwks",
    "https://canvas.test.instructure.com": "https://sso.test.canvaslms.com/api/lti/security/jwks",
}
ADDED_NAME = "tenants.d"
"""The directory beside the tenants file whose `*.toml` are read like it."""

Text = Annotated[str, Field(min_length=1)]
Id = Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Who may send: all tenants, and where each platform's keys are.

    `pinned_platforms` are those that a tenant names. `with_live_events` names the tenants with a
    root account, `unpinned` those of them without a subscription: beta's events pass as theirs.
    `listed` is what was read; `fingerprint` tells one content of the files from another.
    """

    tenants: Tenants
    names: frozenset[str]
    platforms: Mapping[str, str]
    pinned_platforms: frozenset[str]
    with_live_events: frozenset[str]
    unpinned: tuple[str, ...]
    listed: tuple[Tenant, ...]
    fingerprint: str = field(repr=False)


class _Platform(Section):
    issuer: Text
    jwks_url: Annotated[str, AfterValidator(key_set_url)]


class _LiveEvents(Section):
    root_account_uuid: Text
    subscription_ids: frozenset[Id] = frozenset()


class _Notices(Section):
    issuer: Text
    client_id: Id
    deployment_ids: frozenset[Id] = frozenset()


class _Tenant(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    slug: Slug | None = None
    live_events: tuple[_LiveEvents, ...] = ()
    pns: tuple[_Notices, ...] = ()


class _File(Section):
    platform: tuple[_Platform, ...] = ()
    tenant: tuple[_Tenant, ...] = ()


def read_tenants(path: Path | None, *, instead: bytes | None = None) -> Directory:
    """The directory in a tenants file and those beside it; with `instead`, as if the tenants file
    had that content. Raises SettingsError with a line for each thing wrong."""
    if path is None:
        raise SettingsError("FOREBAY_TENANTS_FILE: a tenants file is needed, and none is named")
    added = [(file, _content(file)) for file in files_of(path)[1:]]
    contents = [(path, _content(path) if instead is None else instead), *added]
    files = [_parsed(file, content) for file, content in contents]
    said = hashlib.sha256(repr([(file.name, content) for file, content in contents]).encode())
    try:
        return _directory(_platforms(files), _tenants(files), said.hexdigest())
    except TenantConflict as error:
        raise SettingsError(f"{path}: {error}") from None


def files_of(path: Path) -> list[Path]:
    """The tenants file, there or not, and those beside it by name. Raises SettingsError."""
    added = path.parent / ADDED_NAME
    try:
        names = sorted(each.name for each in added.iterdir() if each.suffix == ".toml")
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise SettingsError(f"{added}: cannot read the directory: {error.strerror}") from None
    return [path, *(added / name for name in names)]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: cannot read the tenants file: {error.strerror}") from None


def _parsed(file: Path, content: bytes) -> _File:
    try:
        parsed = _File.model_validate(tomllib.loads(content.decode()))
        _check_unique("tenant", [tenant.name for tenant in parsed.tenant])
        _check_unique("platform", [platform.issuer for platform in parsed.platform])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{file}: not TOML: {error}") from None
    except ValidationError as error:
        raise SettingsError(problems(error, lambda at: f"{file}: {_place(at)}")) from None
    except TenantConflict as error:
        raise SettingsError(f"{file}: {error}") from None
    return parsed


def _place(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def _check_unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise TenantConflict(f"more than one {what} is called {name}")


def _platforms(files: Iterable[_File]) -> dict[str, str]:
    own: dict[str, str] = {}
    for platform in (platform for file in files for platform in file.platform):
        if own.setdefault(platform.issuer, platform.jwks_url) != platform.jwks_url:
            raise TenantConflict(f"platform {platform.issuer} has two jwks_url")
    return {**CANVAS_PLATFORMS, **own}


def _tenants(files: Iterable[_File]) -> list[_Tenant]:
    """What several files say of one tenant belongs together."""
    found: dict[str, _Tenant] = {}
    for tenant in (tenant for file in files for tenant in file.tenant):
        before = found.get(tenant.name)
        found[tenant.name] = tenant if before is None else _joined(before, tenant)
    return list(found.values())


def _joined(one: _Tenant, other: _Tenant) -> _Tenant:
    if one.slug and other.slug and one.slug != other.slug:
        raise TenantConflict(f"tenant {one.name} has two slugs")
    return one.model_copy(
        update={
            "slug": one.slug or other.slug,
            "live_events": one.live_events + other.live_events,
            "pns": one.pns + other.pns,
        }
    )


def _directory(
    platforms: Mapping[str, str], found: Iterable[_Tenant], fingerprint: str
) -> Directory:
    listed = tuple(map(_tenant, found))
    if not listed:
        raise TenantConflict("tenant: at least one [[tenant]] is needed")
    for tenant in listed:
        for pin in tenant.pns:
            if pin.issuer not in platforms:
                raise TenantConflict(
                    f"tenant {tenant.name} names issuer {pin.issuer}, which is no platform"
                )
    return Directory(
        tenants=Tenants(listed),
        names=frozenset(tenant.name for tenant in listed),
        platforms=platforms,
        pinned_platforms=frozenset(pin.issuer for tenant in listed for pin in tenant.pns),
        with_live_events=frozenset(tenant.name for tenant in listed if tenant.live_events),
        unpinned=tuple(
            tenant.name
            for tenant in listed
            if any(not pin.subscription_ids for pin in tenant.live_events)
        ),
        listed=listed,
        fingerprint=fingerprint,
    )


def _tenant(tenant: _Tenant) -> Tenant:
    return Tenant(
        name=tenant.name,
        live_events=tuple(LiveEventsPin(**dict(pin)) for pin in tenant.live_events),
        pns=tuple(NoticesPin(**dict(pin)) for pin in tenant.pns),
        slug=tenant.slug,
    )
