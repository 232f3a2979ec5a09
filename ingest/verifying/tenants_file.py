"""The tenants file: TOML, read and checked once at start."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

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

Text = Annotated[str, Field(min_length=1)]
Id = Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Who may send: all tenants, and where each platform's keys are.

    `pinned_platforms` are those that a tenant names. `with_live_events` names the tenants with a
    root account, `unpinned` those of them without a subscription: beta's events pass as theirs.
    """

    tenants: Tenants
    names: frozenset[str]
    platforms: Mapping[str, str]
    pinned_platforms: frozenset[str]
    with_live_events: frozenset[str]
    unpinned: tuple[str, ...]


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
    live_events: tuple[_LiveEvents, ...] = ()
    pns: tuple[_Notices, ...] = ()


class _File(Section):
    platform: tuple[_Platform, ...] = ()
    tenant: tuple[_Tenant, ...] = ()


def read_tenants(path: Path | None) -> Directory:
    """The directory in a tenants file. Raises SettingsError with a line for each thing wrong."""
    if path is None:
        raise SettingsError("FOREBAY_TENANTS_FILE: a tenants file is needed, and none is named")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return _directory(_File.model_validate(data))
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the tenants file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        raise SettingsError(problems(error, lambda at: f"{path}: {_place(at)}")) from None
    except TenantConflict as error:
        raise SettingsError(f"{path}: {error}") from None


def _place(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def _directory(file: _File) -> Directory:
    own: dict[str, Any] = {platform.issuer: platform.jwks_url for platform in file.platform}
    platforms = {**CANVAS_PLATFORMS, **own}
    if not file.tenant:
        raise TenantConflict("tenant: at least one [[tenant]] is needed")
    _check_unique("tenant", [tenant.name for tenant in file.tenant])
    _check_unique("platform", [platform.issuer for platform in file.platform])
    for tenant in file.tenant:
        for notices in tenant.pns:
            if notices.issuer not in platforms:
                raise TenantConflict(
                    f"tenant {tenant.name} names issuer {notices.issuer}, which is no platform"
                )
    return Directory(
        tenants=Tenants(_tenant(tenant) for tenant in file.tenant),
        names=frozenset(tenant.name for tenant in file.tenant),
        platforms=platforms,
        pinned_platforms=frozenset(pin.issuer for tenant in file.tenant for pin in tenant.pns),
        with_live_events=frozenset(tenant.name for tenant in file.tenant if tenant.live_events),
        unpinned=tuple(
            tenant.name
            for tenant in file.tenant
            if any(not pin.subscription_ids for pin in tenant.live_events)
        ),
    )


def _check_unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise TenantConflict(f"more than one {what} is called {name}")


def _tenant(tenant: _Tenant) -> Tenant:
    return Tenant(
        name=tenant.name,
        live_events=tuple(LiveEventsPin(**dict(pin)) for pin in tenant.live_events),
        pns=tuple(NoticesPin(**dict(pin)) for pin in tenant.pns),
    )
