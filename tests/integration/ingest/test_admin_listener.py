"""The admin listener says nothing of what it is made of, and answers under its own names only."""

from __future__ import annotations

from pathlib import Path

from tests.integration.ingest.site import Site, running_site
from tests.integration.ingest.wire import Answer, exchange
from tests.support.each import each_case


def _port(site: Site) -> int:
    return int(site.program.admin_url.rpartition(":")[2])


async def _get(site: Site, host: str, path: str = "/livez") -> Answer:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    return await exchange(_port(site), request.encode())


async def test_it_names_neither_python_nor_aiohttp(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        with each_case() as case:
            for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/nowhere"):
                with case(path):
                    answer = await _get(site, "127.0.0.1", path)
                    assert answer.headers["server"] == "forebay"
            with case("no HTTP"):
                answer = await exchange(_port(site), b"\x16\x03\x01\r\n\r\n")
                assert (answer.status, answer.headers["server"]) == (400, "forebay")


async def test_it_answers_under_its_own_names_only(tmp_path: Path) -> None:
    settings = {"FOREBAY_ADMIN__ALLOWED_HOSTS": '["metrics.example.edu", "Ingest"]'}
    allowed = (
        "127.0.0.1",
        "127.0.0.1:9464",
        "localhost:9464",
        "a.localhost",
        "10.1.2.3:9464",  # as a probe of Kubernetes or Prometheus comes
        "[2001:db8::1]:9464",
        "[::1]",
        "metrics.example.edu",
        "METRICS.example.edu.:9464",
        "ingest:80",
    )
    strange = (
        "rebound.example.com",
        "rebound.example.com:9464",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "x@127.0.0.1",
        "metrics.example.edu.example.com",
        "",
    )
    async with running_site(tmp_path, settings=settings) as site:
        with each_case() as case:
            for host in (*allowed, *strange):
                with case(repr(host)):
                    for path in ("/livez", "/metrics", "/nowhere"):
                        answer = await _get(site, host, path)
                        assert (answer.status == 421) == (host in strange)
            with case("no name, as HTTP/1.0 may have none"):
                answer = await exchange(_port(site), b"GET /livez HTTP/1.0\r\n\r\n")
                assert answer.status == 200
