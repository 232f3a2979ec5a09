"""Row 31: each background task of both programs ends with an error that nobody foresaw."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import aiohttp

from tests.faults.certificates import Pair, trusting_anybody
from tests.faults.crowd import Crowd, crowding
from tests.faults.ending_tasks import tasks_file
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.programs import Part
from tests.faults.rows.expecting import expect_within_budget
from tests.faults.rows.tls import with_tls
from tests.faults.site import Site, streaming
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.faults.watching import Scrape
from tests.support.processes import NotReady

RATE: Final = 60.0
NOTICE_SHARE: Final = 0.1
BETWEEN: Final = 30
"""Events that are accepted before the next task ends."""

TAKEN_WITHIN_S: Final = 10.0
ENDED_WITHIN_S: Final = 30.0
EXIT_CODE: Final = 1
RESTARTS: Final = "forebay_background_restarts_total"
KNOWN_NEEDED: Final = frozenset({"kafka publisher", "drainer"})
KNOWN_EMBEDDED: Final = frozenset({"event log maintenance", "tls reload"})
"""Without these nothing was tried."""

Metrics = Callable[[], Awaitable[Scrape]]


class Task(NamedTuple):
    """A background task as the program starts it."""

    kind: str
    name: str


async def each_task_of_the_receiver(grounds: Grounds, seed: int) -> Tally:
    """Restarted and counted, or the process ends and says why; what was promised is kept."""
    async with grounds.site(seed) as site:
        tasks = await _with_tasks_that_end(site.receiver, site)
        names = {task.name for task in tasks if task.kind == "needed"}
        site.expect(names >= KNOWN_NEEDED, f"needed tasks are {sorted(names)}")
        async with streaming(site, rate=RATE, repeat_share=0, notice_share=NOTICE_SHARE):
            for task in tasks:
                await _end(site, site.receiver, site.metrics, task)
        expect_within_budget(site)
        _tell(site, tasks)
        await settle(site)
        return await judge(site)


async def each_task_beside_the_embedded_log(grounds: Grounds, seed: int) -> Tally:
    """The same without Kafka and with a certificate: the tasks are others."""
    async with (
        grounds.site(seed, brokers=0) as plain,
        with_tls(plain, Pair.made()) as (site, _),
        Crowd(site.url, site.witness.record, tls=trusting_anybody()) as crowd,
    ):
        tasks = await _with_tasks_that_end(site.receiver, site)
        names = {task.name for task in tasks}
        site.expect(names >= KNOWN_EMBEDDED, f"tasks are {sorted(names)}")
        async with crowding(crowd, site.ahead.events(), rate=RATE):
            for task in tasks:
                await _end(site, site.receiver, site.metrics, task)
        _tell(site, tasks)
        await settle(site)
        return await judge(site)


async def each_task_of_the_worker(grounds: Grounds, seed: int) -> Tally:
    """The same for the worker: its tables are complete afterwards."""
    async with grounds.site(seed) as site:
        tasks = await _with_tasks_that_end(site.worker, site)
        site.expect(tasks, "the worker has no background tasks")
        async with streaming(site, rate=RATE, repeat_share=0):
            for task in tasks:
                await _end(site, site.worker, site.worker_metrics, task)
        _tell(site, tasks)
        await settle(site)
        return await judge(site)


async def _with_tasks_that_end(part: Part, site: Site) -> Sequence[Task]:
    """Starts the program again, as one whose tasks can be ended; the tasks that it has."""
    part.task_control = site.directory / f"{part.log_file.stem}-task"
    await part.restart()
    file = tasks_file(part.task_control)
    lines = file.read_text().splitlines() if file.exists() else []
    return [Task(*line.split("\t", 1)) for line in dict.fromkeys(lines)]


async def _end(site: Site, part: Part, metrics: Metrics, task: Task) -> None:
    """Ends the task, and expects what its kind promises."""
    assert part.task_control is not None
    seen = site.witness.counts().accepted
    await until(lambda: site.witness.counts().accepted >= seen + BETWEEN)
    process = part.process
    part.task_control.write_text(task.name)
    if not await _is_taken(part):
        # a task that has done its work, as a look at the start, is met at the next start
        await part.restart()
        process = part.process
        if not await _is_taken(part):
            site.expect(False, f"{task.name} could not be ended")
            part.task_control.unlink(missing_ok=True)
            return
    if task.kind == "needed":
        await _expect_end(site, part, task)
    else:
        await _expect_restart(site, part, metrics, task, process)


async def _is_taken(part: Part) -> bool:
    control = part.task_control
    assert control is not None
    try:
        await until(lambda: not control.exists(), timeout_s=TAKEN_WITHIN_S)
    except TimeoutError:
        return False
    return True


async def _expect_restart(
    site: Site, part: Part, metrics: Metrics, task: Task, process: int | None
) -> None:
    async def is_counted() -> bool:
        try:
            return (await metrics()).value(RESTARTS, task=task.name) >= 1
        except (aiohttp.ClientError, OSError):
            return False

    try:
        await until(is_counted, timeout_s=ENDED_WITHIN_S)
    except TimeoutError:
        site.expect(False, f"no restart of {task.name} is counted")
    site.expect(not part.has_ended and part.process == process, f"{task.name} ended the process")


async def _expect_end(site: Site, part: Part, task: Task) -> None:
    try:
        code = await part.ended(timeout_s=ENDED_WITHIN_S)
    except TimeoutError:
        site.expect(False, f"the process lives on without {task.name}")
        await part.restart()
        return
    site.expect(code == EXIT_CODE, f"without {task.name} the process ended with {code}")
    said = [line for line in part.logged("error") if line.get("task") == task.name]
    site.expect(said, f"the log does not say that {task.name} ended")
    try:
        await part.start()
    except NotReady as error:
        raise RuntimeError(f"after {task.name}: {error}") from error


def _tell(site: Site, tasks: Sequence[Task]) -> None:
    for kind in ("needed", "restarted"):
        names = ", ".join(sorted(task.name for task in tasks if task.kind == kind))
        site.measured.append(f"{kind}: {names or 'none'}")
