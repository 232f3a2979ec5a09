"""Whose authentic events no tenant took: counted in memory, and added up in a file."""

from pathlib import Path

import pytest

from ingest.observing.tenants_seen import MAX_SENDERS, Sender, Sighting, TenantsSeen
from ingest.observing.tenants_seen_store import FILE_NAME, TenantsSeenStore, add, read


def _sender(account: str = "a") -> Sender:
    return Sender(
        reason="tenant_not_allowed",
        missing="root_account",
        source="live-events",
        issuer="i",
        root_account_uuid=account,
    )


def _sighting(count: int, first: str, last: str, hostname: str | None = None) -> Sighting:
    return Sighting(count=count, first_seen=first, last_seen=last, hostname=hostname)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / FILE_NAME


def _store(seen: TenantsSeen, path: Path) -> TenantsSeenStore:
    return TenantsSeenStore(seen, path, every_s=0.01, failed=lambda file: None)


def test_sightings_are_counted_with_first_and_last_time_and_the_latest_host() -> None:
    seen = TenantsSeen()
    for at, hostname in (("1", "old"), ("2", "new"), ("3", None)):
        seen.see(_sender(), hostname, at)
    assert seen.seen() == {_sender(): _sighting(3, "1", "3", "new")}


def test_who_came_longest_ago_makes_room() -> None:
    seen = TenantsSeen()
    seen.see(_sender("first"), None, "0")
    for number in range(MAX_SENDERS - 1):
        seen.see(_sender(f"{number}"), None, "1")
    seen.see(_sender("first"), None, "2")
    seen.see(_sender("last"), None, "3")
    assert len(seen.seen()) == MAX_SENDERS
    assert _sender("first") in seen.seen()
    assert _sender("0") not in seen.seen()


def test_file_adds_up_over_processes(path: Path) -> None:
    add(path, {_sender(): _sighting(2, "b", "c", "host")})
    add(path, {_sender(): _sighting(3, "a", "d")})
    assert read(path) == {_sender(): _sighting(5, "a", "d", "host")}


def test_file_is_bounded_and_lets_go_of_what_is_oldest(path: Path) -> None:
    add(path, {_sender("old"): _sighting(9, "a", "a")})
    add(path, {_sender(f"{n}"): _sighting(1, "b", f"c{n:05}") for n in range(MAX_SENDERS)})
    kept = read(path)
    assert len(kept) == MAX_SENDERS
    assert _sender("old") not in kept
    assert list(kept)[-1] == _sender(f"{MAX_SENDERS - 1}")


def test_file_that_is_none_of_ours_is_as_none(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"not": "ours"}')
    assert read(path) == {}


async def test_store_adds_what_is_new_and_nothing_twice(path: Path) -> None:
    seen = TenantsSeen()
    store = _store(seen, path)
    for _ in range(2):
        seen.see(_sender(), None, "1")
        await store.write()
        await store.write()
    assert read(path)[_sender()].count == 2
    seen.see(_sender(), None, "2")
    await store.close()
    assert read(path) == {_sender(): _sighting(3, "1", "2")}


async def test_sender_that_had_made_room_is_counted_on(path: Path) -> None:
    seen = TenantsSeen()
    store = _store(seen, path)
    for _ in range(5):
        seen.see(_sender(), None, "1")
    await store.write()
    for number in range(MAX_SENDERS):
        seen.see(_sender(f"{number}"), None, "2")
    seen.see(_sender(), None, "3")
    await store.write()
    assert read(path)[_sender()].count == 6
