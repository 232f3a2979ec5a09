"""A root account written into a tenants file, as a person would: all else of the file stays."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, InlineTable, Table

from ingest.shared.environment import SettingsError
from ingest.verifying.tenants import Tenant
from ingest.verifying.tenants_file import Directory, files_of, read_tenants


def adopt(
    path: Path, root_account_uuid: str, name: str, subscription_ids: Sequence[str] = ()
) -> Directory | None:
    """Has the tenant of this name, new or not, pin a root account: of these subscriptions, or all.

    Returns what the file gives then, or None where it gives that already. Raises SettingsError,
    and changes nothing, where that cannot be done or another tenant pins it.
    """
    text = _text(path)
    before = _listed(path, text)
    pins = before[name].live_events if name in before else ()
    wanted = frozenset(subscription_ids)
    same = [pin for pin in pins if pin.root_account_uuid == root_account_uuid]
    if any(not pin.subscription_ids or (wanted and wanted <= pin.subscription_ids) for pin in same):
        return None
    if same and not wanted:
        raise SettingsError(
            f"tenant {name} pins {root_account_uuid} already, of some subscriptions only:"
            " name further ones with --subscription, or edit subscription_ids"
        )
    new = _with_account(path, text, name, root_account_uuid, sorted(wanted))
    directory = read_tenants(path, instead=new.encode())  # before anything is written
    after = {tenant.name: tenant for tenant in directory.listed}
    if {**after, name: None} != {**before, name: None}:
        raise _by_hand(path, name)
    _write(path, new)
    return directory


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the tenants file: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None


def _listed(path: Path, text: str) -> dict[str, Tenant]:
    """The tenants as they are; a file without any is one that nobody has begun yet."""
    if not _parsed(path, text).get("tenant") and files_of(path) == [path]:
        return {}
    return {tenant.name: tenant for tenant in read_tenants(path, instead=text.encode()).listed}


def _with_account(
    path: Path, text: str, name: str, root_account_uuid: str, subscription_ids: list[str]
) -> str:
    text = text if not text or text.endswith("\n") else text + "\n"
    document = _parsed(path, text)
    pin: dict[str, Any] = {"root_account_uuid": root_account_uuid}
    if subscription_ids:
        pin["subscription_ids"] = subscription_ids
    try:
        tenants = document.get("tenant", tomlkit.aot())
        tenant = next((each for each in tenants if each.get("name") == name), None)
        if tenant is None and isinstance(tenants, AoT):
            entry = tomlkit.dumps({"tenant": [{"name": name, "live_events": [pin]}]})
            return f"{text.rstrip()}\n\n{entry}".lstrip()
        if tenant is None:
            _append(tenants, {"name": name, "live_events": [pin]})
        elif "live_events" in tenant:
            _append(tenant["live_events"], pin)
        elif isinstance(tenant, InlineTable):
            tenant["live_events"] = [pin]
        else:
            tenant["live_events"] = tomlkit.aot()
            _append(tenant["live_events"], pin)
        return tomlkit.dumps(document)
    except (TOMLKitError, ValueError, TypeError, AttributeError) as error:
        raise _by_hand(path, name) from error


def _by_hand(path: Path, name: str) -> SettingsError:
    return SettingsError(
        f"{path}: written in a way that cannot be added to, so nothing is changed:"
        f" give [[tenant]] {name} its [[tenant.live_events]] by hand"
    )


def _append(to: Any, members: dict[str, Any]) -> None:
    """One more table, in the form that those there have."""
    table = tomlkit.table() if isinstance(to, AoT) else tomlkit.inline_table()
    table.update(members)
    if isinstance(table, Table):
        table.add(tomlkit.nl())
    to.append(table)


def _parsed(path: Path, text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, RecursionError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None


def _write(path: Path, text: str) -> None:
    """Replaces the file, or what a link leads to, keeping who may read it."""
    real = path.resolve()
    new = real.with_name(f".{real.name}.new")
    try:
        mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else 0o600
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        new.replace(real)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror}") from None
