"""File descriptors: counted, kept back for what is ours, and not needed on the way of a request."""

from __future__ import annotations

import contextlib
import resource
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import trustme

from tests.integration.ingest.site import Site, eventually, notices, running_site
from tests.integration.ingest.wire import Connection, connected, exchange, post, read_answer

LIVE, PNS = "/live-events", "/pns"
NAME = "receiver.example.edu"
_GONE = "connections cannot be accepted"


async def test_nothing_is_opened_on_the_way_of_a_request(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site, connected(site.port) as kept:
        await eventually(lambda: _is_accepted(site, 1))
        events = (
            (LIVE, site.live_event(1)),
            (LIVE, site.signed(site.canvas.school.caliper_event(2, stream="by hand").claims)),
            (LIVE, site.signed_text(b"[]")),
            (PNS, notices([site.notice(4)])),
        )
        with _allowed(site, 0):
            for path, body in events:
                assert await _status(kept, path, body) == 202


async def test_newcomer_is_served_although_descriptors_have_run_out(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site, contextlib.AsyncExitStack() as on:
        for _ in range(40):
            await on.enter_async_context(connected(site.port))
        await eventually(lambda: _is_accepted(site, 40))
        with _allowed(site, _lowest_free(site)):
            for number in range(5):
                answer = await exchange(site.port, post(LIVE, site.live_event(number)))
                assert answer.status == 202
        scrape = await site.metrics()
        assert scrape.value("forebay_requests_aborted_total", reason="no_descriptor") > 0
        assert site.program.log_file.read_text().count(_GONE) == 1


async def test_connections_are_capped_by_the_descriptors_there_are(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = str(hard + 1)
    settings = {"FOREBAY_HTTP__MAX_CONNECTIONS": wanted}
    async with running_site(tmp_path, settings=settings) as site:
        soft, _ = resource.prlimit(site.program.pid, resource.RLIMIT_NOFILE)
        assert soft == hard
        log = site.program.log_file.read_text()
    (line,) = [line for line in log.splitlines() if "MAX_CONNECTIONS" in line]
    assert wanted in line
    assert str(hard - min(256, hard // 4)) in line


async def test_unfinished_handshakes_count_and_make_room(tmp_path: Path) -> None:
    async with _over_tls(tmp_path, max_connections=20) as (site, client, on):
        before = await _descriptors(site)
        for _ in range(50):
            await on.enter_async_context(connected(site.port))
        await eventually(lambda: _is_accepted(site, 20))
        scrape = await site.metrics()
        assert scrape.value("forebay_requests_aborted_total", reason="too_many_connections") >= 30
        async with connected(site.port, tls=client, name=NAME) as kept:
            assert await _status(kept, LIVE, site.live_event(1)) == 202
            for _ in range(50):
                _, writer = await on.enter_async_context(connected(site.port))
                writer.write(b"no handshake\r\n\r\n")
            assert await _status(kept, LIVE, site.live_event(2)) == 202
        await on.aclose()
        await eventually(lambda: _is_accepted(site, 0))
        assert await _descriptors(site) <= before


async def test_unfinished_handshakes_take_a_share_of_the_connections(tmp_path: Path) -> None:
    async with _over_tls(tmp_path, max_connections=700) as (site, client, on):
        for _ in range(400):
            await on.enter_async_context(connected(site.port))
        await eventually(lambda: _are_ended(site, 50))
        assert (await site.metrics()).value("forebay_open_connections") <= 350
        async with connected(site.port, tls=client, name=NAME) as kept:
            assert await _status(kept, LIVE, site.live_event(1)) == 202


@contextlib.asynccontextmanager
async def _over_tls(
    directory: Path, *, max_connections: int
) -> AsyncIterator[tuple[Site, ssl.SSLContext, contextlib.AsyncExitStack]]:
    """A receiver behind TLS, a client that trusts it, and what is to be closed at the end."""
    client, settings = _tls(directory)
    settings["FOREBAY_HTTP__MAX_CONNECTIONS"] = str(max_connections)
    async with (
        running_site(directory / "site", settings=settings) as site,
        contextlib.AsyncExitStack() as on,
    ):
        yield site, client, on


def _tls(directory: Path) -> tuple[ssl.SSLContext, dict[str, str]]:
    """A client, and settings of a receiver that it trusts."""
    authority = trustme.CA()
    issued = authority.issue_cert(NAME)
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return client, {
        "FOREBAY_HTTP__TLS_CERT_FILE": str(directory / "cert.pem"),
        "FOREBAY_HTTP__TLS_KEY_FILE": str(directory / "key.pem"),
    }


async def _is_accepted(site: Site, count: int) -> bool:
    return (await site.metrics()).value("forebay_open_connections") == count


async def _are_ended(site: Site, handshakes: int) -> bool:
    scrape = await site.metrics()
    return scrape.value("forebay_requests_aborted_total", reason="tls_handshake") >= handshakes


async def _descriptors(site: Site) -> float:
    return (await site.metrics()).value("process_open_fds")


@contextlib.contextmanager
def _allowed(site: Site, limit: int) -> Iterator[None]:
    """While the block runs, the process opens nothing of this number or a higher one."""
    soft, hard = resource.prlimit(site.program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(site.program.pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(site.program.pid, resource.RLIMIT_NOFILE, (soft, hard))


def _lowest_free(site: Site) -> int:
    there = {int(entry.name) for entry in Path(f"/proc/{site.program.pid}/fd").iterdir()}
    return next(number for number in range(len(there) + 1) if number not in there)


async def _status(connection: Connection, path: str, body: bytes) -> int:
    reader, writer = connection
    writer.write(post(path, body))
    return (await read_answer(reader)).status
