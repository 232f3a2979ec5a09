"""The named task ends with an error, once, be it at work or about to begin; the others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.shared.background import Background, TaskEnded
from tests.faults.ending_tasks import TaskEnder, tasks_file


class Work:
    """Tells when it is begun, and does not end."""

    def __init__(self) -> None:
        self.begun = asyncio.Queue[None]()

    async def __call__(self) -> None:
        self.begun.put_nowait(None)
        await asyncio.Event().wait()


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Background, "start", Background.start)  # is put back at the end
    control = tmp_path / "task"
    TaskEnder(control).install()
    return control


def name(control: Path, task: str) -> None:
    control.write_text(task)


def was_taken(control: Path, *started: str) -> bool:
    lines = [line.replace("\t", " ") for line in tasks_file(control).read_text().splitlines()]
    return not control.exists() and lines == [*started]


async def test_the_named_task_alone_is_begun_again(control: Path) -> None:
    named, other, restarted = Work(), Work(), asyncio.Queue[str]()
    async with (
        asyncio.timeout(10),
        Background(restarted=restarted.put_nowait, first_pause_s=0.001) as background,
    ):
        background.start("keys", named)
        background.start("alarms", other)
        await asyncio.gather(named.begun.get(), other.begun.get())
        name(control, "keys")
        assert await restarted.get() == "keys"
        await named.begun.get()
    assert other.begun.empty()
    assert restarted.empty()
    assert was_taken(control, "restarted keys", "restarted alarms")


async def test_a_needed_task_ends_the_program(control: Path) -> None:
    async with asyncio.timeout(10), Background() as background:
        background.start("drainer", Work(), needed=True)
        name(control, "drainer")
        with pytest.raises(TaskEnded, match="drainer"):
            await background.wait_for_end()
    assert was_taken(control, "needed drainer")


async def test_a_task_that_ends_soon_is_met_at_its_beginning(control: Path) -> None:
    restarted = asyncio.Queue[str]()

    async def once() -> None:
        return

    name(control, "topic check")
    async with (
        asyncio.timeout(10),
        Background(restarted=restarted.put_nowait, first_pause_s=0.001) as background,
    ):
        background.start("topic check", once)
        assert await restarted.get() == "topic check"
    assert was_taken(control, "restarted topic check")
