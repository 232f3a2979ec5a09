"""The tenants file while the receiver runs: changes are taken, what is broken changes nothing."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingest.verifying import tenants_reload
from ingest.verifying.tenants_file import ADDED_NAME, Directory, read_tenants
from ingest.verifying.tenants_reload import TenantsReload

_SLUG = "a-slug-that-nobody-guesses"


def _tenant(name: str, account: str = "account", slug: str | None = None) -> str:
    own = f'slug = "{slug}"\n' if slug else ""
    pin = f'[[tenant.live_events]]\nroot_account_uuid = "{account}"\n'
    return f'[[tenant]]\nname = "{name}"\n{own}{pin}'


class _File:
    """A tenants file with north in it, and who follows it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tenants.toml"
        self.path.write_text(_tenant("north"))
        self.failures = 0
        self.taken: list[Directory] = []
        self.reload = TenantsReload(self.path, read_tenants(self.path), failed=self._failed)
        self.reload.follow(self.taken.append)

    def _failed(self) -> None:
        self.failures += 1

    @property
    def names(self) -> set[str]:
        return set(self.reload.directory.names)


@pytest.fixture
def file(tmp_path: Path) -> _File:
    return _File(tmp_path)


async def test_changed_file_is_taken_and_said(file: _File) -> None:
    file.path.write_text(_tenant("south"))
    with capture_logs() as lines:
        assert await file.reload.look()
    assert [directory.names for directory in file.taken] == [{"south"}]
    assert file.names == {"south"}
    (line,) = lines
    assert (line["added"], line["removed"]) == (["south"], ["north"])


async def test_file_that_stays_as_it_is_is_taken_once_however_often_it_is_touched(
    file: _File,
) -> None:
    for at_ns in range(3):
        os.utime(file.path, ns=(at_ns, at_ns))
        assert await file.reload.look()
    assert file.taken == []
    file.path.write_text(_tenant("south"))
    for _ in range(3):
        assert await file.reload.look()
    assert len(file.taken) == 1


async def test_change_between_the_start_and_the_first_look_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text(_tenant("north"))
    directory = read_tenants(path)
    path.write_text(_tenant("south"))
    reload = TenantsReload(path, directory, failed=lambda: None)
    assert await reload.look()
    assert reload.directory.names == {"south"}


async def test_file_beside_it_is_added_changed_and_removed(file: _File) -> None:
    added = file.path.parent / ADDED_NAME / "west.toml"
    added.parent.mkdir()
    for text in (_tenant("west", "w1"), _tenant("east", "e1")):
        added.write_text(text)
        assert await file.reload.look()
    assert [set(directory.names) for directory in file.taken] == [
        {"north", "west"},
        {"north", "east"},
    ]
    added.unlink()
    assert await file.reload.look()
    assert file.names == {"north"}


@pytest.mark.parametrize("broken", ["[[tenant", "", "colour = 1\n" + _tenant("north"), None])
async def test_broken_file_keeps_the_tenants_before_it_and_is_named(
    file: _File, broken: str | None
) -> None:
    if broken is None:
        file.path.unlink()
    else:
        file.path.write_text(broken)
    with capture_logs() as lines:
        assert not await file.reload.look()
        assert lines == []  # an editor may be half-way
        for _ in range(4):
            assert not await file.reload.look()
    assert (file.names, file.taken, file.failures) == ({"north"}, [], 5)
    (line,) = lines
    assert (line["log_level"], line["file"]) == ("error", str(file.path))
    assert line["cause"]
    file.path.write_text(_tenant("south"))
    assert await file.reload.look()
    assert file.names == {"south"}


async def test_what_is_asked_for_is_said_at_once(file: _File) -> None:
    with capture_logs() as lines:
        assert await file.reload.look(asked=True)
        file.path.write_text("[[tenant")
        assert not await file.reload.look(asked=True)
    assert [line["log_level"] for line in lines] == ["info", "error"]


async def test_slug_is_in_no_log_line(file: _File) -> None:
    texts = (
        _tenant("north", slug=_SLUG),
        _tenant("north", slug=_SLUG) + _tenant("south", "other", slug=_SLUG),
        _tenant("north", slug=_SLUG + "!"),
        f'[[tenant]]\nname = "north"\nslug = "{_SLUG}\n',
    )
    with capture_logs() as lines:
        for text in texts:
            file.path.write_text(text)
            await file.reload.look(asked=True)
    assert [line["log_level"] for line in lines] == ["info", "error", "error", "error"]
    assert _SLUG not in str(lines) + repr(file.taken)


async def test_it_looks_by_itself_and_at_once_when_asked(
    file: _File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants_reload, "_LOOK_EVERY_S", 0.01)
    running = asyncio.create_task(file.reload.run())
    file.path.write_text(_tenant("south"))
    await _until(lambda: file.names == {"south"})
    running.cancel()
    await asyncio.wait([running])
    monkeypatch.setattr(tenants_reload, "_LOOK_EVERY_S", 3_600)
    running = asyncio.create_task(file.reload.run())
    await asyncio.sleep(0)
    file.path.write_text(_tenant("west"))
    file.reload.ask()
    await _until(lambda: file.names == {"west"})
    running.cancel()
    await asyncio.wait([running])


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it waits for a file
            await asyncio.sleep(0.01)
