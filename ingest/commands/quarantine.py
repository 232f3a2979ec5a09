"""Commands of `forebay-ingest quarantine`: look at what it holds, and decide about it."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from ingest.commands.console import Misuse, errors_in_one_line, json_option, printable, run
from ingest.commands.quarantine_wiring import open_quarantine, verifier_for
from ingest.contract.quarantine import REASONS, Decision, Quarantined
from ingest.quarantine.log import Contents, Entry, contents
from ingest.quarantine.release import NO_KEYS, Outcome, Releasing, drop_all, read_key_file
from ingest.quarantine.view import content_of, line, summary
from ingest.settings import Settings
from ingest.shared import logs
from ingest.shared.environment import load
from ingest.verifying.tenants_file import read_tenants

_reason_option = click.option("--reason", type=click.Choice(REASONS), help="Only of this reason.")
_all_option = click.option("--all", "everything", is_flag=True, help="Everything of the reason.")
_keys_argument = click.argument("keys", nargs=-1, metavar="[KEY]...")

Wanted = Callable[[Quarantined], bool]


@click.group()
def quarantine() -> None:
    """What is authentic but could not be used: list it, look at it, release or drop it."""


@quarantine.command("list")
@_reason_option
@click.option("--all", "everything", is_flag=True, help="Also what was released or dropped.")
@json_option
@errors_in_one_line
def quarantine_list(reason: str | None, everything: bool, as_json: bool) -> None:
    """List what is kept and waits for a decision, oldest first."""
    found = run(_contents(_settings(), lambda kept: False))
    shown = [
        entry
        for entry in found.entries
        if (everything or entry.state == "open") and reason in (None, entry.kept.reason)
    ]
    if as_json:
        click.echo(json.dumps([summary(entry) for entry in shown]))
    else:
        for entry in shown:
            click.echo(printable(line(entry)))
        counts = Counter((entry.state, entry.kept.reason) for entry in shown)
        for (state, name), count in sorted(counts.items()):
            click.echo(f"{count} {state}, {name}", err=True)
    _warn_of_unreadable(found)


@quarantine.command("show")
@click.argument("key")
@click.option("--token", "only_token", is_flag=True, help="Print the raw token alone.")
@json_option
@errors_in_one_line
def quarantine_show(key: str, only_token: bool, as_json: bool) -> None:
    """Show one entry by its key, or the beginning of it; its claims are shown UNVERIFIED."""
    wanted = key.encode()
    found = run(_contents(_settings(), lambda kept: kept.key.startswith(wanted)))
    entry = _the_one(found.entries, key)
    if only_token:
        if entry.kept.token is None:
            raise Misuse(f"{key} has no token: it is a record that was too large for its topic")
        click.echo(entry.kept.token)
        return
    content = content_of(entry.kept)
    if as_json:
        decided = {"decided_at": entry.decided_at, "unverified": entry.unverified}
        click.echo(json.dumps({**summary(entry), **decided, **content}))
        return
    for name, value in summary(entry).items():
        click.echo(f"{name}: {printable(str(value or '-'))}")
    for name, value in content.items():
        click.echo(f"{name.replace('_', ' ')}:")
        click.echo(json.dumps(value, indent=2))


@quarantine.command("release")
@_keys_argument
@_reason_option
@_all_option
@click.option(
    "--subscription",
    "subscriptions",
    multiple=True,
    metavar="ID",
    help="Of --all only what names this subscription; may be repeated.",
)
@click.option("--unverified", is_flag=True, help="Also what has no token that could be verified.")
@click.option("--tenant", help="Whose it is, where it was kept as tenant_unknown.")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The key that signed it, PEM or JWK, where it was kept as key_gone.",
)
@json_option
@errors_in_one_line
def quarantine_release(
    keys: tuple[str, ...],
    reason: str | None,
    everything: bool,
    subscriptions: tuple[str, ...],
    unverified: bool,
    tenant: str | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Verify entries again, but for the reason they are kept, and publish them.

    Exit 1 if one of them stays.
    """
    settings = _settings()
    directory = read_tenants(settings.tenants_file)
    if tenant is not None and tenant not in directory.names:
        raise Misuse(f"the tenants file has no tenant {tenant}")
    vouched_for = read_key_file(key_file) if key_file is not None else NO_KEYS
    choose = _Choice(keys, reason, everything, subscriptions)
    choose.may_be_released()

    async def release() -> list[Outcome]:
        async with open_quarantine(settings) as log:
            found = await contents(log, content_of=choose.wants)
            chosen, decided = choose.among(found, "released")
            async with verifier_for(settings, directory, chosen) as verifier:
                releasing = Releasing(
                    log,
                    verifier,
                    prefix=settings.topics.prefix,
                    tenant=tenant,
                    key_file=vouched_for,
                    unverified=unverified,
                )
                return decided + await releasing.release([entry.kept for entry in chosen])

    _finish(run(release()), as_json)


@quarantine.command("drop")
@_keys_argument
@_reason_option
@_all_option
@json_option
@errors_in_one_line
def quarantine_drop(
    keys: tuple[str, ...], reason: str | None, everything: bool, as_json: bool
) -> None:
    """Decide that entries are not wanted. They stay in the log for as long as it keeps anything."""
    settings = _settings()
    choose = _Choice(keys, reason, everything)

    async def drop() -> list[Outcome]:
        async with open_quarantine(settings) as log:
            found = await contents(log, content_of=lambda kept: False)
            chosen, decided = choose.among(found, "dropped")
            return decided + await drop_all(
                log, settings.topics.prefix, [entry.kept for entry in chosen]
            )

    _finish(run(drop()), as_json)


class _Choice:
    """Which entries a command is about: those named, or all open ones of a reason, or those of
    these that name one of some subscriptions."""

    def __init__(
        self,
        keys: Sequence[str],
        reason: str | None,
        everything: bool,
        subscriptions: Sequence[str] = (),
    ) -> None:
        """Raises Misuse where that is not said clearly."""
        if bool(keys) == everything or everything != (reason is not None):
            raise Misuse("name keys, or give --reason and --all")
        if keys and subscriptions:
            raise Misuse("--subscription narrows --all: leave it out where keys are named")
        self._keys = keys
        self._reason = reason
        self._subscriptions = subscriptions

    def may_be_released(self) -> None:
        """Raises Misuse where events of others could be among what nobody has named."""
        if self._reason == "tenant_unknown" and not self._subscriptions:
            raise Misuse(
                "events of other schools may be among these: say which are yours by"
                " --subscription ID, or name single keys;"
                " `quarantine list --reason tenant_unknown` shows both"
            )

    def wants(self, kept: Quarantined) -> bool:
        """Whether it may be among them."""
        if self._reason is not None:
            return kept.reason == self._reason
        return any(kept.key.startswith(key.encode()) for key in self._keys)

    def among(self, found: Contents, wish: Decision) -> tuple[list[Entry], list[Outcome]]:
        """The open ones, and what is to be said of the others. Raises Misuse."""
        _warn_of_unreadable(found)
        if self._reason is not None:
            return [e for e in found.entries if self._is_among(e)], []
        named = {(e := _the_one(found.entries, key)).name: e for key in self._keys}.values()
        already = [
            Outcome(
                key=e.name,
                outcome=f"already {e.state}",
                event_id=e.kept.event_id,
                why=None if e.state == wish else f"decided at {e.decided_at}",
            )
            for e in named
            if e.state != "open"
        ]
        return [e for e in named if e.state == "open"], already

    def _is_among(self, entry: Entry) -> bool:
        if self._subscriptions and entry.named.subscription_id not in self._subscriptions:
            return False
        return entry.state == "open" and self.wants(entry.kept)


def _the_one(entries: Sequence[Entry], key: str) -> Entry:
    """The entry of this key, or of the only key that begins with it."""
    matching = [entry for entry in entries if entry.name.startswith(key)]
    exact = [entry for entry in matching if entry.name == key]
    if len(exact or matching) == 1:
        return (exact or matching)[0]
    if matching:
        raise Misuse(f"{len(matching)} keys begin with {printable(key)}")
    raise Misuse(f"nothing in quarantine has a key that begins with {printable(key)}")


def _settings() -> Settings:
    settings = load(Settings)
    logs.configure(settings.log)
    return settings


async def _contents(settings: Settings, content_of: Wanted) -> Contents:
    async with open_quarantine(settings) as log:
        return await contents(log, content_of=content_of)


def _finish(outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Says what became of each, and ends with 1 if one stays that should not."""
    rows = [
        {"key": o.key, "outcome": o.outcome, "event_id": o.event_id, "why": o.why} for o in outcomes
    ]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        for o in outcomes:
            click.echo(printable(f"{o.key}  {o.outcome}" + (f": {o.why}" if o.why else "")))
    sys.exit(1 if any(outcome.why for outcome in outcomes) else 0)


def _warn_of_unreadable(found: Contents) -> None:
    if found.unreadable:
        what = "records of the quarantine topic are not of a form that this release reads"
        click.echo(f"forebay-ingest: {found.unreadable} {what}", err=True)
