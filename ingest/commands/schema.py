"""Commands of `forebay-ingest schema`: the published contract, to look at, to take, to compare."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from msgspec.structs import asdict

from ingest.commands.console import Misuse, json_option
from ingest.commands.past_contracts import NoContract, contracts
from ingest.contract.catalogue import catalogue
from ingest.contract.describe import compatibility, published
from ingest.contract.describe.schemas import Schema, schemas
from ingest.contract.topics import schema_name
from ingest.observing import drift_store
from ingest.observing.drift import Sighting, Unknown
from ingest.settings import Settings
from ingest.shared.environment import SettingsError, load


@click.group()
def schema() -> None:
    """The contract with subscribers: a JSON Schema per topic, and an AsyncAPI document."""


@schema.command("list")
@json_option
def schema_list(as_json: bool) -> None:
    """List the schemas: name, and what it describes."""
    titles = {name: found["title"] for name, found in schemas().items()}
    if as_json:
        rows = [{"schema": name, "title": title} for name, title in titles.items()]
        click.echo(json.dumps(rows))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:{width}} {title}")


@schema.command("show")
@click.argument("name")
def schema_show(name: str) -> None:
    """Print a schema. NAME is an event type, a schema's name or id, or a topic."""
    click.echo(published.text(_find(name)), nl=False)


@schema.command("export")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def schema_export(out: Path) -> None:
    """Write schemas, AsyncAPI document and examples below a directory."""
    try:
        count = published.export(out, version("forebay"))
    except OSError as error:
        raise Misuse(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"{count} files in {out}", err=True)


@schema.command("check")
@click.option("--against", required=True, metavar="REVISION|PATH", help="What to compare with.")
@json_option
def schema_check(against: str, as_json: bool) -> None:
    """Exit 1 if subscribers of an older contract could not read what is written now.

    Of a git revision all later states of deploy/contract count too.
    """
    new, found = schemas(), dict[str, str]()
    try:
        for older, contract in contracts(against):
            for line in compatibility.breaks(contract, new):
                found.setdefault(line, older)
    except NoContract as error:
        raise Misuse(str(error)) from error
    _print_breaks(found, as_json)
    sys.exit(1 if found else 0)


@schema.command("drift")
@json_option
def schema_drift(as_json: bool) -> None:
    """List types and fields that came and that no schema has, as this data directory's receiver
    saw them: how often, since when, and in what shape, without values.
    """
    try:
        seen = drift_store.read(load(Settings).data_dir / drift_store.FILE_NAME)
    except (OSError, SettingsError) as error:
        raise Misuse(str(error)) from error
    rows = sorted((_row(unknown, sighting) for unknown, sighting in seen.items()), key=_oldest)
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        name = " ".join(filter(None, (row["event_type"], row["field"])))
        shape = json.dumps(row["shape"], ensure_ascii=False)
        click.echo(f"{row['first_seen']} {row['count']:>8} {row['source']:11} {name} {shape}")


def _row(unknown: Unknown, sighting: Sighting) -> dict[str, Any]:
    return {"kind": unknown.kind, **asdict(unknown), **asdict(sighting)}


def _oldest(row: dict[str, Any]) -> tuple[str, ...]:
    return row["first_seen"], row["source"], row["event_type"], row["field"]


def _print_breaks(found: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"break": line, "since": older} for line, older in found.items()]))
        return
    for line, older in found.items():
        click.echo(f"{line} (as of {older})")


def _find(name: str) -> Schema:
    every = schemas()
    types = {entry.name: schema_name(entry.source, entry.name) for entry in catalogue()}
    short = types.get(name, name.rpartition(":")[2])
    for known, found in every.items():
        if short == known or short.endswith(f".{known}"):
            return found
    raise Misuse(f"there is no schema {name!r}: see `forebay-ingest schema list`")
