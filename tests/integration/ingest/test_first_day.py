"""A school's first day: what is refused says why and to whom, and goes on without a restart."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ingest.contract.codec import decode
from ingest.contract.topics import quarantine_topic
from ingest.observing.tenants_seen_store import FILE_NAME, read
from tests.emulator.school import School
from tests.emulator.templates import DEPLOYMENT_CLAIM
from tests.integration.ingest.commands import run
from tests.integration.ingest.site import Site, eventually, notices, running_site
from tests.integration.ingest.wire import Answer
from tests.support.keys import SigningKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVE = "/live-events"
KEPT = 100
"""So many events come before anybody has put the mistyped root account right."""
NAME = "course_created"
SLUG = "north-3f0c9a7be5d1482693bb7d0e8f64a1c2"
OTHER = '[[tenant]]\nname = "other"\n[[tenant.live_events]]\nroot_account_uuid = "other"\n'


class Desk:
    """An administrator before one site, whose tenants file is not right yet."""

    def __init__(self, site: Site, scratch: Path) -> None:
        self.site = site
        self.school = site.canvas.school
        self.file = site.directory / "tenants.toml"
        self.right = self.file.read_text()
        self._scratch = scratch
        self._settings = {
            **site.canvas.receiver_environment(),
            "FOREBAY_DATA_DIR": str(site.directory / "data"),
            "FOREBAY_TENANTS_FILE": str(self.file),
        }

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of `forebay-ingest`, as it ends."""
        return await asyncio.to_thread(run, self._scratch, *arguments, **self._settings)

    async def seen(self) -> list[Mapping[str, Any]]:
        """What `tenants seen --json` prints."""
        found: list[Mapping[str, Any]] = json.loads(
            (await self.run("tenants", "seen", "--json")).stdout
        )
        return found

    async def write(self, text: str) -> None:
        """Changes the tenants file, and returns when the receiver has taken it."""
        before = self.loaded()
        self.file.write_text(text)
        self.site.program.send(signal.SIGHUP)
        await self.loads_again(before)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The receiver's log."""
        for line in self.site.program.log_file.read_text().splitlines():
            yield json.loads(line)

    def published(self) -> set[str]:
        """Ids of all events that are in a topic of events."""
        return {
            decode(record).event_id
            for record in self.site.log()
            if record.topic != quarantine_topic("canvas")
        }

    def loaded(self) -> int:
        """How often the receiver has taken a changed tenants file."""
        return sum(line["event"] == "tenants file loaded again" for line in self.lines())

    async def loads_again(self, before: int) -> None:
        """Returns when it has done so once more."""

        async def is_loaded() -> bool:
            return self.loaded() > before

        await eventually(is_loaded)

    async def settled(self, outcome: str) -> int:
        """Events of this outcome that no tenant took."""
        return (await self.site.metrics()).settled()[outcome, "tenant_not_allowed"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    directory = tmp_path_factory.mktemp("first-day")
    settings = {"FOREBAY_QUARANTINE__KEEP_UNPINNED": "true"}
    async with running_site(directory / "site", settings=settings) as site:
        yield Desk(site, directory)


async def test_mistyped_root_account_is_named_adopted_and_its_events_are_released(
    desk: Desk,
) -> None:
    account = desk.school.root_account_uuid
    subscription = f'subscription_ids = ["{desk.school.subscription_id}"]\n'
    typo = desk.right.replace(account, "mistyped").replace(subscription, "")
    await desk.write(f"# of the first day\n{typo}")
    tokens = [desk.site.live_event(number, name=NAME) for number in range(KEPT)]
    other = School.from_seed(99, name="another")
    tokens.append(desk.site.signed(other.live_event(1, name=NAME).claims))
    answers = [(await desk.site.post(LIVE, token)).json() for token in tokens]
    assert {(answer["outcome"], answer["reason"]) for answer in answers} == {
        ("quarantined", "tenant_not_allowed")
    }
    ids = [answer["event_id"] for answer in answers]

    # the log and `tenants seen` name it
    counts = {account: KEPT, other.root_account_uuid: 1}

    async def is_written() -> bool:
        seen = read(desk.site.directory / "data" / FILE_NAME)
        return {sender.root_account_uuid: seen[sender].count for sender in seen} == counts

    await eventually(is_written)
    assert {row["root_account_uuid"]: row["count"] for row in await desk.seen()} == counts
    said = [line for line in desk.lines() if line.get("root_account_uuid") == account]
    assert [line["level"] for line in said] == ["warning"]
    assert "tenants adopt" in said[0]["event"]
    assert said[0]["subscription_id"] == desk.school.subscription_id

    # adopted, and without a restart its events are published
    process = desk.site.program.pid
    before = desk.loaded()
    adopted = await desk.run("tenants", "adopt", account, "--name", desk.school.name)
    assert (adopted.returncode, adopted.stderr) == (0, "")
    await desk.loads_again(before)
    assert desk.file.read_text().startswith("# of the first day\n")
    answer = (await desk.site.post(LIVE, desk.site.live_event(KEPT, name=NAME))).json()
    assert answer["outcome"] == "published"

    # the earlier ones by one command, and nobody else's
    assert desk.published() == {answer["event_id"]}
    released = await desk.run(
        "quarantine", "release", "--reason", "tenant_not_allowed", "--all", "--json"
    )
    outcomes = {row["key"]: row["outcome"] for row in json.loads(released.stdout)}
    assert outcomes == {**dict.fromkeys(ids[:-1], "released"), ids[-1]: "kept"}
    assert desk.published() == {*ids[:-1], answer["event_id"]}
    assert desk.site.program.pid == process
    assert {row["root_account_uuid"]: row["tenant"] for row in await desk.seen()} == {
        account: desk.school.name,
        other.root_account_uuid: None,
    }


async def test_tokens_of_what_is_not_pinned_are_refused_and_counted(desk: Desk) -> None:
    await desk.write(desk.right + "# as it was\n")
    before = await desk.settled("rejected")
    event = desk.school.live_event(1_000, name=NAME).claims
    another = School.from_seed(98, name="another").live_event(1, name=NAME).claims
    live = desk.site.canvas.keys.live_events.current
    for claims in (another, {**event, "subscription": {"id": "another"}}):
        _assert_refused(await desk.site.post(LIVE, _late(live, claims)))
    notice = desk.school.notice(1_000, "LtiContextCopyNotice").claims
    platform = desk.site.canvas.keys.platform.current
    for over in ({"aud": "8", "azp": "8"}, {DEPLOYMENT_CLAIM: "9:another"}):
        body = notices([_late(platform, {**notice, **over})])
        _assert_refused(await desk.site.post("/pns", body))
    assert await desk.settled("rejected") == before + 4


async def test_school_that_a_reload_removed_is_refused_and_counted(desk: Desk) -> None:
    await desk.write(desk.right + "# with the school\n")
    token = desk.site.live_event(2_000, name=NAME)
    assert (await desk.site.post(LIVE, token)).json()["outcome"] == "published"
    of_it = {"tenant": desk.school.name}
    assert (await desk.site.metrics()).value("forebay_tenant_events_total", **of_it) > 0
    await desk.write(OTHER)
    assert (await desk.site.metrics()).value("forebay_tenant_events_total", **of_it) == 0
    rejected, kept = await desk.settled("rejected"), await desk.settled("quarantined")
    # the very token that was published a moment ago is kept, as any that no tenant pins
    again = (await desk.site.post(LIVE, token)).json()
    assert (again["outcome"], again["reason"]) == ("quarantined", "tenant_not_allowed")
    live = desk.site.canvas.keys.live_events.current
    late = _late(live, desk.school.live_event(2_001, name=NAME).claims)
    _assert_refused(await desk.site.post(LIVE, late))
    _assert_refused(await desk.site.post("/pns", notices([desk.site.notice(2_000)])))
    assert await desk.settled("rejected") == rejected + 2
    assert await desk.settled("quarantined") == kept + 1
    await desk.write(desk.right + "# with the school again\n")
    for path, body in (
        (LIVE, desk.site.live_event(2_002)),
        ("/pns", notices([desk.site.notice(2_001)])),
    ):
        assert (await desk.site.post(path, body)).status == 202


async def test_broken_file_keeps_the_tenants_before_it_and_is_said(desk: Desk) -> None:
    desk.file.write_text("[[tenant")
    desk.site.program.send(signal.SIGHUP)

    async def is_said() -> bool:
        return any(
            line["level"] == "error" and "not TOML" in line.get("cause", "")
            for line in desk.lines()
        )

    await eventually(is_said)
    metrics = await desk.site.metrics()
    assert metrics.value("forebay_tenants_reload_failures_total") >= 1
    assert (await desk.site.post(LIVE, desk.site.live_event(3_000))).status == 202
    checked = await desk.run("tenants", "check")
    assert (checked.returncode, checked.stdout) == (2, "")
    await desk.write(desk.right + "# put right\n")


async def test_tenant_with_a_slug_is_taken_by_its_own_path_alone(desk: Desk) -> None:
    name = f'name = "{desk.school.name}"\n'
    await desk.write(desk.right.replace(name, f'{name}slug = "{SLUG}"\n') + OTHER)
    token = desk.site.live_event(4_000, name=NAME)
    notice = notices([desk.site.notice(4_000)])
    claims = desk.school.live_event(4_001, name=NAME).claims
    metadata = {**claims["metadata"], "root_account_uuid": "other"}
    of_other = desk.site.live_event(4_001, name=NAME, metadata=metadata)
    refused = [
        await desk.site.post(LIVE, token),
        await desk.site.post("/pns", notice),
        await desk.site.post(f"{LIVE}/{SLUG}", of_other),
    ]
    for answer in refused:
        _assert_refused(answer)
    assert (await desk.site.post(f"{LIVE}/{SLUG[:-1]}", token)).status == 404
    for path, body in ((f"{LIVE}/{SLUG}", token), (f"/pns/{SLUG}", notice), (LIVE, of_other)):
        assert (await desk.site.post(path, body)).status == 202, path
    metrics = (await desk.site.admin("/metrics")).body.decode()
    assert SLUG not in desk.site.program.log_file.read_text() + metrics


async def test_start_names_the_data_directory(desk: Desk) -> None:
    (said,) = [line for line in desk.lines() if line["event"] == "receiving"]
    assert said["data_dir"] == str((desk.site.directory / "data").absolute())


async def test_ledger_balances_after_all_of_it(desk: Desk) -> None:
    metrics = await desk.site.metrics()
    assert [metrics.imbalance(source) for source in ("live-events", "pns")] == [0, 0]


def _assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.json()["reason"]) == (403, "tenant_not_allowed")


def _late(key: SigningKey, claims: Mapping[str, Any]) -> bytes:
    """A good signature, but too late for an event that no tenant pins to be kept."""
    return key.sign({**claims, "iat": 1, "exp": 2}).encode()
