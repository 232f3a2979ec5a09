"""Commands of `forebay-ingest spool`: look into it, carry it elsewhere, repair it, empty it."""

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click
from msgspec import to_builtins

from ingest import app
from ingest.commands.console import Misuse, errors_in_one_line, json_option, printable, run
from ingest.settings import Settings
from ingest.shared import logs
from ingest.shared.environment import load
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.ownership import owner
from ingest.spool.files.reader import SpoolReader
from ingest.spool.files.rebuild import REBUILT_NAME
from ingest.spool.files.reserve import RESERVE_NAME
from ingest.spool.files.store import FILE_NAME
from ingest.spool.maintenance import check
from ingest.spool.maintenance.check import Repair, Verdict
from ingest.spool.maintenance.exchange import Imported, import_lines, to_line
from ingest.verifying.tenants_file import read_tenants

_DAMAGED_FILES = "damaged-*"
_DRAIN_TIMEOUT_S = 3600.0


@click.group()
def spool() -> None:
    """What waits on the disk for Kafka, and tokens that wait for keys."""


@spool.command("status")
@json_option
@errors_in_one_line
def spool_status(as_json: bool) -> None:
    """Show what the spool holds, whether a receiver runs on it or not."""
    settings = _settings()
    shown = _status(settings, _existing(settings))
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name, value in shown.items():
        if not isinstance(value, list):
            click.echo(f"{name}: {'-' if value is None else value}")
    for found in shown["by_topic"]:
        counts = f"{found['records']:>8} {found['size_bytes']:>12} B"
        click.echo(printable(f"{counts}  {found['source']}  {found['topic']}"))
    for file in shown["damaged_files"]:
        click.echo(f"damaged, kept for a look: {file['file']}, {file['bytes']} B")


@spool.command("export")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Instead of stdout.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Another file than the spool's own, such as one that was renamed as damaged.",
)
@errors_in_one_line
def spool_export(out: Path | None, file: Path | None) -> None:
    """Print every record and token as a line of JSON. Exit 1 if some could not be read."""
    settings = _settings()
    path = _existing(settings) if file is None else _found(settings, file)
    reader = SpoolReader.open(path, whatever_it_is=file is not None)
    exported = damaged = 0
    with contextlib.closing(reader), _output(out) as lines:
        for held in reader.items():
            if held.damaged:
                damaged += 1
                continue
            lines.write(to_line(held) + b"\n")
            exported += 1
    left = damaged + reader.unreadable
    click.echo(f"{exported} exported, {left} damaged and left out", err=True)
    sys.exit(1 if left else 0)


@spool.command("import")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@json_option
@errors_in_one_line
def spool_import(files: Sequence[IO[bytes]], as_json: bool) -> None:
    """Append what `export` printed to this spool, which nobody may own. `-` is stdin.

    Exit 1 if some lines were refused. What is imported twice is published twice, which does no
    harm but costs room.
    """
    settings = _settings()
    lines = (line for file in files for line in file)
    try:
        directory, opening = SpoolDirectory.open(settings.spool_dir, reserve_bytes=0)
    except (OSError, sqlite3.Error) as error:
        raise Misuse(f"the spool cannot be opened in {settings.spool_dir}: {error}") from error
    # what is brought in may not take the room that is kept for notices
    max_bytes = settings.spool.max_bytes - settings.spool.pns_reserve_bytes
    with contextlib.closing(directory):
        result = import_lines(lines, directory.file, max_bytes=max_bytes)
    _print_imported(result, as_json)
    sys.exit(1 if result.refused or opening.unreadable else 0)


@spool.command("fsck")
@click.option("--repair", is_flag=True, help="Keep what can be read in a new file.")
@json_option
@errors_in_one_line
def spool_fsck(repair: bool, as_json: bool) -> None:
    """Check the file and each record's checksum.

    Exit 1 if something is damaged, with --repair only if records were lost.
    """
    settings = _settings()
    outcome: Repair | None = None
    if repair:
        _existing(settings, also_half_repaired=True)
        try:
            verdict, outcome = check.repair(settings.spool_dir)
        except (OSError, sqlite3.Error) as error:
            raise Misuse(f"{settings.spool_dir} cannot be repaired: {error}") from error
    else:
        verdict = check.examine(_existing(settings))
    _print_verdict(verdict, outcome, as_json)
    sys.exit(1 if (outcome.lost if outcome is not None else not verdict.is_clean) else 0)


@spool.command("drain")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=_DRAIN_TIMEOUT_S,
    show_default=True,
    help="Seconds.",
)
@json_option
@errors_in_one_line
def spool_drain(timeout_s: float, as_json: bool) -> None:
    """Publish all that the spool holds to Kafka, judge its tokens, and end.

    Exit 1 if something is left at the timeout or SIGTERM.
    """
    settings = _settings()
    directory = read_tenants(settings.tenants_file)
    _existing(settings, also_half_repaired=True)
    records, tokens = run(app.drained(settings, directory, timeout_s=timeout_s))
    if as_json:
        click.echo(json.dumps({"records_left": records, "tokens_left": tokens}))
    else:
        click.echo(f"{records} records and {tokens} tokens are left")
    sys.exit(1 if records or tokens else 0)


def _settings() -> Settings:
    settings = load(Settings)
    logs.configure(settings.log)
    return settings


def _existing(settings: Settings, *, also_half_repaired: bool = False) -> Path:
    """The spool's file. Raises Misuse if there is none."""
    directory = settings.spool_dir
    path = directory / FILE_NAME
    if path.exists():
        return path
    if not (directory / REBUILT_NAME).exists():
        raise Misuse(f"there is no spool in {directory}")
    if not also_half_repaired:
        raise Misuse(f"a repair in {directory} was cut short: run `spool fsck --repair`")
    return path


def _found(settings: Settings, file: Path) -> Path:
    """A file by its path, or by its name in the spool's directory."""
    return file if file.exists() else settings.spool_dir / file


def _status(settings: Settings, path: Path) -> dict[str, Any]:
    directory, limits = path.parent, settings.spool
    owned_by = owner(directory)
    reserve = directory / RESERVE_NAME
    with contextlib.closing(SpoolReader.open(path)) as reader:
        found, oldest_ms = reader.contents(), reader.oldest_ms()
        return {
            "path": str(path),
            "owned": owned_by is not None,
            "owner_pid": owned_by.pid if owned_by else None,
            "records": sum(each.records for each in found.records),
            "tokens": sum(each.tokens for each in found.tokens),
            "used_bytes": reader.usage.used_bytes(),
            "file_bytes": reader.usage.file_bytes(),
            "max_bytes": limits.max_bytes,
            "oldest_age_s": None if oldest_ms is None else round(time.time() - oldest_ms / 1000, 1),
            "reserve_bytes": limits.pns_reserve_bytes,
            "reserve_held": reserve.exists() and reserve.stat().st_size == limits.pns_reserve_bytes,
            "damaged": reader.moved(),
            "by_topic": [to_builtins(each) for each in found.records],
            "damaged_files": [
                {"file": file.name, "bytes": file.stat().st_size}
                for file in sorted(directory.glob(_DAMAGED_FILES))
            ],
        }


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[IO[bytes]]:
    """Stdout, or a file that is on the disk when the block ends. Raises Misuse."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with out.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Misuse(f"{out} cannot be written: {error.strerror}") from error


def _print_imported(result: Imported, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"taken": result.taken, "refused": dict(result.refused)}))
        return
    click.echo(f"{result.taken} taken")
    for reason, count in result.refused.items():
        click.echo(f"{count} refused: {reason}")


def _print_verdict(verdict: Verdict, outcome: Repair | None, as_json: bool) -> None:
    if as_json:
        repaired = None if outcome is None else to_builtins(outcome)
        click.echo(json.dumps({**to_builtins(verdict), "repair": repaired}))
        return
    for flaw in verdict.flaws:
        click.echo(f"file: {printable(flaw)}")
    click.echo(f"{verdict.sound} events are sound")
    for id_ in verdict.damaged_records:
        click.echo(f"record {id_}: its checksum is wrong")
    for id_ in verdict.damaged_tokens:
        click.echo(f"token {id_}: its checksum is wrong")
    if verdict.unreadable:
        click.echo(f"{verdict.unreadable} rows cannot be read")
    if verdict.moved:
        click.echo(f"{verdict.moved} damaged rows were moved out of the way earlier")
    if outcome is not None:
        click.echo(f"{outcome.kept} kept in a new file, {outcome.lost} lost; the old is renamed")
