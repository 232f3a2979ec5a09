"""`forebay-consumers offsets`: how far the tables are complete, and from where to read again."""

from collections.abc import Mapping

import click

from consumers.commands.console import (
    Misuse,
    dry_run_option,
    errors_in_one_line,
    json_option,
    once_free,
    run,
    settings,
    show_rows,
)
from consumers.settings import Settings
from consumers.sinks.base import OffsetStore
from consumers.sources.base import LogBounds
from consumers.values import NextOffsets, Partition
from consumers.wiring import log_bounds, open_sink


@click.group()
def offsets() -> None:
    """How far this worker's tables are complete."""


@offsets.command()
@json_option
@errors_in_one_line
def show(as_json: bool) -> None:
    """List the offsets that the store has for this worker, by log and partition."""
    rows = [
        {"source_id": source_id, **_row(partition), "next_offset": offset}
        for source_id, stored in run(_stored(settings())).items()
        for partition, offset in sorted(stored.items())
    ]
    show_rows(rows, as_json=as_json)


@offsets.command()
@click.option("--to", "to", required=True, metavar="earliest|latest|OFFSET", help="Where to.")
@click.option("--topic", help="Only of this topic.")
@click.option("--partition", type=int, help="Only this partition.")
@dry_run_option
@json_option
@errors_in_one_line
def reset(to: str, topic: str | None, partition: int | None, dry_run: bool, as_json: bool) -> None:
    """Let this worker go on from other offsets of its log. It must not be running.

    Events that the tables have already change nothing when they come again.
    """
    rows = run(_reset(settings(), to, topic, partition, dry_run=dry_run))
    show_rows(rows, as_json=as_json)


async def _stored(ours: Settings) -> Mapping[str, NextOffsets]:
    async with open_sink(ours) as sink:
        return await once_free(sink.all_offsets)


async def _reset(
    ours: Settings, to: str, topic: str | None, partition: int | None, *, dry_run: bool
) -> list[dict[str, object]]:
    bounds = await log_bounds(ours)
    chosen = _chosen(bounds, topic, partition)
    wanted = {where: _offset(where, to, *bounds.partitions[where]) for where in chosen}
    async with open_sink(ours) as sink:
        before = (await once_free(sink.all_offsets)).get(bounds.source_id, {})
        if not dry_run:
            await _replace(sink, bounds, before, wanted)
    return [
        {**_row(where), "from": _before(where, before), "to": offset}
        for where, offset in sorted(wanted.items())
    ]


async def _replace(
    sink: OffsetStore, bounds: LogBounds, before: NextOffsets, wanted: NextOffsets
) -> None:
    # a log with one sequence for all topics is read from the greatest offset stored
    kept = {} if any(where.is_all for where in wanted) else before
    after = {**kept, **wanted}
    await once_free(lambda: sink.replace_offsets(bounds.source_id, after))


def _chosen(bounds: LogBounds, topic: str | None, partition: int | None) -> list[Partition]:
    """The partitions that are meant. Raises Misuse."""
    if any(where.is_all for where in bounds.partitions) and (topic, partition) != (None, None):
        raise Misuse(
            "the embedded log has one sequence of offsets for all topics: leave out --topic and"
            " --partition"
        )
    chosen = [
        where
        for where in bounds.partitions
        if topic in (None, where.topic) and partition in (None, where.number)
    ]
    if not chosen:
        raise Misuse("the log has no such topic or partition")
    return chosen


def _offset(where: Partition, to: str, first: int, end: int) -> int:
    if to in ("earliest", "latest"):
        return first if to == "earliest" else end
    if not to.isdecimal() or not first <= int(to) <= end:
        raise Misuse(
            f"--to must be earliest, latest or an offset; {where.topic}/{where.number} holds"
            f" {first} up to {end}"
        )
    return int(to)


def _before(where: Partition, stored: NextOffsets) -> int | None:
    return max(stored.values(), default=None) if where.is_all else stored.get(where)


def _row(where: Partition) -> dict[str, object]:
    return {"topic": where.topic, "partition": where.number}
