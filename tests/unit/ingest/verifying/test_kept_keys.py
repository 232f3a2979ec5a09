"""Keys that outlive the process, and how long they serve while their source is silent."""

import asyncio
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.kept_keys import KeptKeys
from tests.unit.ingest.verifying.scripted import (
    ISSUER,
    JWK,
    OTHER_JWK,
    URL,
    Download,
    KeySourceOf,
    always,
    failing_always,
    key_set,
    until,
)


class _Clock:
    """The wall clock, which goes as fast as a test says."""

    now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


class _Kept:
    """The files of one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.failed: list[str] = []

    def of(self, issuer: str = ISSUER, url: str = URL) -> KeptKeys:
        return KeptKeys.of(self.directory, issuer, url, failed=self.failed.append)

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.glob("jwks-*.json"))

    async def written(self, source: KeySource) -> None:
        await source.refresh()
        assert source._kept is not None
        assert source._kept._writing is not None
        await asyncio.wait([source._kept._writing])


@pytest.fixture
def kept(tmp_path: Path) -> _Kept:
    return _Kept(tmp_path / "data")


async def test_keys_outlive_the_process_with_their_age(kept: _Kept, clock: _Clock) -> None:
    await kept.written(KeySourceOf(always(key_set(JWK)), kept=kept.of()))
    fetched_at, clock.now_s = clock.now_s, clock.now_s + 3_600
    later = KeySourceOf(failing_always, kept=kept.of())
    later.recall()
    assert later.known(JWK["kid"]) is not None
    assert later.fetched_at == fetched_at
    # only a fetch of its own tells it that a key does not exist
    assert (later.answers, later.failing) == (False, False)
    with pytest.raises(KeysUnavailable):
        await later.find("another")
    assert later.known(JWK["kid"]) is not None
    assert kept.failed == []


async def test_kept_keys_are_only_their_owners_to_read(kept: _Kept) -> None:
    await kept.written(KeySourceOf(always(key_set(JWK)), kept=kept.of()))
    (file,) = kept.files
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_fetch_takes_the_place_of_kept_keys(kept: _Kept) -> None:
    await kept.written(KeySourceOf(always(key_set(JWK)), kept=kept.of()))
    later = KeySourceOf(always(key_set(OTHER_JWK)), kept=kept.of())
    later.recall()
    await kept.written(later)
    assert (later.known(JWK["kid"]), later.answers) == (None, True)
    last = KeySourceOf(failing_always, kept=kept.of())
    last.recall()
    assert last.known(OTHER_JWK["kid"]) is not None


async def test_each_issuer_and_address_has_keys_of_its_own(kept: _Kept) -> None:
    await kept.written(KeySourceOf(always(key_set(JWK)), kept=kept.of()))
    for other in (kept.of(issuer="https://other.example.edu"), kept.of(url=URL + "/elsewhere")):
        source = KeySourceOf(failing_always, kept=other)
        source.recall()
        assert source.known(JWK["kid"]) is None
        assert source.fetched_at is None


_BROKEN = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"issuer":"i","fetched_at":1}',
    b'{"issuer":"i","fetched_at":"soon","key_set":"{}"}',
    b'{"issuer":"i","fetched_at":1,"key_set":"{}"}',
    b'{"issuer":"i","fetched_at":1,"key_set":"{\\"keys\\":[]}"}',
    b'{"issuer":"i","fetched_at":1,"key_set":"\\ud800"}',
]


async def test_broken_file_is_said_and_ignored_and_written_anew(kept: _Kept) -> None:
    await kept.written(KeySourceOf(always(key_set(JWK)), kept=kept.of()))
    (file,) = kept.files
    for n, content in enumerate(_BROKEN, start=1):
        file.write_bytes(content)
        source = KeySourceOf(always(key_set(JWK)), kept=kept.of())
        with capture_logs() as lines:
            source.recall()
        assert [line["log_level"] for line in lines] == ["warning"], content
        assert (source.known(JWK["kid"]), source.fetched_at) == (None, None)
        assert kept.failed == [file.name] * n
        await kept.written(source)
        assert b"fetched_at" in file.read_bytes()


async def test_file_from_the_future_makes_no_key_young(kept: _Kept, clock: _Clock) -> None:
    clock.now_s += 10**6
    await kept.written(KeySourceOf(always(key_set(JWK)), kept=kept.of()))
    clock.now_s -= 10**6
    later = KeySourceOf(failing_always, kept=kept.of())
    later.recall()
    assert later.fetched_at == clock.now_s


async def test_keys_that_cannot_be_kept_are_used_and_it_is_said_once(kept: _Kept) -> None:
    kept.directory.write_text("a file where the directory should be")
    source = KeySourceOf(always(key_set(JWK)), kept=kept.of())
    with capture_logs() as lines:
        for _ in range(3):
            await kept.written(source)
    assert source.known(JWK["kid"]) is not None
    assert [line["log_level"] for line in lines if line["log_level"] != "info"] == ["warning"]
    assert len(kept.failed) == 3


async def test_keys_beyond_their_age_serve_nobody(kept: _Kept, clock: _Clock) -> None:
    answers: list[Download] = [always(key_set(JWK)), failing_always, failing_always]

    async def in_turn(count: int) -> bytes:
        return await answers[count - 1](count)

    source = KeySourceOf(in_turn, max_age_s=1_000, kept=kept.of())
    await kept.written(source)
    known = []
    for age_s in (1_000, 1):
        clock.now_s += age_s
        with pytest.raises(KeysUnavailable):
            await source.refresh()
        known.append(source.known(JWK["kid"]) is not None)
    assert known == [True, False]
    later = KeySourceOf(failing_always, max_age_s=1_000, kept=kept.of())
    later.recall()
    assert later.known(JWK["kid"]) is None
    assert later.fetched_at == clock.now_s - 1_001  # its age is told all the same


async def test_old_keys_are_warned_of_now_and_then(clock: _Clock) -> None:
    async def aging(count: int) -> bytes:
        if count == 1:
            return key_set(JWK)
        clock.now_s += 31
        if count > 200:  # 6,169 s later
            await asyncio.Event().wait()
        raise KeysUnavailable("status 500")

    source = KeySourceOf(aging, cooldown_s=0)
    with capture_logs() as lines:
        keeping = asyncio.create_task(source.keep_fresh(0.001))
        await until(lambda: len(source.began_at) > 200)
        keeping.cancel()
        source.close()
        await asyncio.wait([keeping])
    warned = [line["age_s"] for line in lines if line["log_level"] == "warning"]
    assert len(warned) == 2
    assert warned[1] - warned[0] >= 3_600
