"""Commands of `forebay-ingest tenants`: who may send, who else does, and taking one of them in."""

import json
from typing import Any

import click
from msgspec.structs import asdict

from ingest.commands.console import Misuse, errors_in_one_line, json_option, printable
from ingest.errors import TenantNotAllowed
from ingest.observing import tenants_seen_store
from ingest.observing.tenants_seen import Sender, Sighting
from ingest.settings import Settings
from ingest.shared.environment import SettingsError, load
from ingest.verifying.tenants import Tenant, Tenants, TenantUnknown
from ingest.verifying.tenants_edit import adopt
from ingest.verifying.tenants_file import read_tenants

_COLUMNS = ("events", "first_seen", "last_seen", "reason", "tenant", "hostname", "ids")


@click.group()
def tenants() -> None:
    """Who may send, and who else sends authentic events."""


@tenants.command("check")
@json_option
@errors_in_one_line
def tenants_check(as_json: bool) -> None:
    """Say whether the tenants file can be used, and what each tenant pins."""
    directory = read_tenants(load(Settings).tenants_file)
    if as_json:
        click.echo(json.dumps([_members(tenant) for tenant in directory.listed]))
        return
    for tenant in directory.listed:
        click.echo(tenant.name + ("  at paths of its own alone" if tenant.slug else ""))
        for account in tenant.live_events:
            which = _which(account.subscription_ids, "subscription")
            click.echo(printable(f"  live events of {account.root_account_uuid}, {which}"))
        for client in tenant.pns:
            which = _which(client.deployment_ids, "deployment")
            whose = f"{client.client_id} at {client.issuer}"
            click.echo(printable(f"  notices for {whose}, {which}"))
        if not (tenant.live_events or tenant.pns):
            click.echo("  nothing")


@tenants.command("seen")
@json_option
@errors_in_one_line
def tenants_seen(as_json: bool) -> None:
    """List whose authentic events came that no tenant took, the latest last.

    The receiver writes them down every few seconds; `tenant` is who would take them now.
    """
    settings = load(Settings)
    file = settings.data_dir / tenants_seen_store.FILE_NAME
    try:
        seen = tenants_seen_store.read(file)
    except OSError as error:
        raise Misuse(f"{file} cannot be read: {error.strerror}") from None
    now = _tenants_now(settings)
    rows = [_row(sender, sighting, now) for sender, sighting in seen.items()]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        _print_table(rows)
    else:
        click.echo(f"nothing: no receiver has written any to {file.absolute()}", err=True)


@tenants.command("adopt")
@click.argument("root_account_uuid", metavar="UUID")
@click.option("--name", required=True, help="The tenant, a new one or one that is there.")
@click.option(
    "--subscription",
    "subscriptions",
    multiple=True,
    metavar="ID",
    help="Pin this subscription alone; may be repeated.",
)
@errors_in_one_line
def tenants_adopt(root_account_uuid: str, name: str, subscriptions: tuple[str, ...]) -> None:
    """Write a root account into the tenants file; a running receiver follows within seconds."""
    settings = load(Settings)
    path = settings.tenants_file
    if path is None:
        raise SettingsError("FOREBAY_TENANTS_FILE: a tenants file is needed, and none is named")
    if adopt(path, root_account_uuid, name, subscriptions) is None:
        click.echo(printable(f"tenant {name} pins {root_account_uuid} already"))
        return
    click.echo(printable(f"tenant {name} pins {root_account_uuid} now, in {path}"))
    if root_account_uuid not in _accounts_seen(settings):
        hint = "no event of it has been seen by the receiver with this data directory"
        click.echo(f"forebay-ingest: {hint}", err=True)


def _members(tenant: Tenant) -> dict[str, Any]:
    return {
        "name": tenant.name,
        "live_events": [
            {
                "root_account_uuid": pin.root_account_uuid,
                "subscription_ids": sorted(pin.subscription_ids),
            }
            for pin in tenant.live_events
        ],
        "pns": [
            {
                "issuer": pin.issuer,
                "client_id": pin.client_id,
                "deployment_ids": sorted(pin.deployment_ids),
            }
            for pin in tenant.pns
        ],
        "has_slug": tenant.slug is not None,
    }


def _which(ids: frozenset[str], what: str) -> str:
    return f"{what} {', '.join(sorted(ids))}" if ids else f"every {what}"


def _tenants_now(settings: Settings) -> Tenants:
    try:
        return read_tenants(settings.tenants_file).tenants
    except SettingsError as error:  # what was seen is worth showing all the same
        click.echo(f"forebay-ingest: {error}", err=True)
        return Tenants([])


def _row(sender: Sender, sighting: Sighting, now: Tenants) -> dict[str, Any]:
    return {**asdict(sender), **asdict(sighting), "tenant": _taken_by(sender, now)}


def _taken_by(sender: Sender, now: Tenants) -> str | None:
    try:
        if sender.source == "pns":
            return now.of_notice(sender.issuer, sender.client_id or "", sender.deployment_id)
        return now.of_live_event(sender.root_account_uuid, sender.subscription_id)
    except (TenantNotAllowed, TenantUnknown):
        return None


def _accounts_seen(settings: Settings) -> set[str | None]:
    try:
        seen = tenants_seen_store.read(settings.data_dir / tenants_seen_store.FILE_NAME)
    except OSError:
        return set()
    return {sender.root_account_uuid for sender in seen}


def _print_table(rows: list[dict[str, Any]]) -> None:
    cells = [list(_COLUMNS), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    for line in cells:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _cells(row: dict[str, Any]) -> list[str]:
    names = ("root_account_uuid", "subscription_id", "issuer", "client_id", "deployment_id")
    shown = [name for name in names if row[name] and (name != "issuer" or row["source"] == "pns")]
    texts = {**row, "events": row["count"], "ids": " ".join(f"{n}={row[n]}" for n in shown)}
    return [printable(str(texts[column] or "-")) for column in _COLUMNS]
