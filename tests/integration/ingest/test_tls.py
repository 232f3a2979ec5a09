"""HTTPS, and a certificate that is exchanged while the receiver runs."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path

import aiohttp
import trustme

from tests.integration.ingest.site import Site, eventually, running_site

NAME = "receiver.example.edu"
SEEN_WITHIN_S = 10.0


class Authority:
    """Issues certificates for the receiver, and a client that trusts them."""

    def __init__(self, directory: Path) -> None:
        self.cert_file = directory / "cert.pem"
        self.key_file = directory / "key.pem"
        self._authority = trustme.CA()
        self.client = ssl.create_default_context()
        self._authority.configure_trust(self.client)

    def issue(self, *, with_key: bool = True) -> bytes:
        """Writes a new certificate and, first, its key; the certificate in DER."""
        issued = self._authority.issue_cert(NAME)
        if with_key:
            issued.private_key_pem.write_to_path(str(self.key_file))
        pem = issued.cert_chain_pems[0].bytes()
        self.cert_file.write_bytes(pem)
        return ssl.PEM_cert_to_DER_cert(pem.decode())

    async def seen_at(self, port: int) -> bytes:
        """The certificate that a new connection is shown, in DER."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.client, server_hostname=NAME
        )
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return shown


async def test_a_renewed_certificate_is_shown_to_new_connections_once_its_key_is_there(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    first = authority.issue()
    settings = {
        "FOREBAY_HTTP__TLS_CERT_FILE": str(authority.cert_file),
        "FOREBAY_HTTP__TLS_KEY_FILE": str(authority.key_file),
    }
    async with running_site(tmp_path / "site", settings=settings) as site:
        url = f"https://127.0.0.1:{site.port}/live-events"

        async def is_accepted(number: int) -> bool:
            async with session.post(
                url, data=site.live_event(number), ssl=authority.client, server_hostname=NAME
            ) as response:
                return response.status == 202

        async def second_is_seen() -> bool:
            return await authority.seen_at(site.port) == second

        async with aiohttp.ClientSession() as session:
            assert await is_accepted(1)
            assert await authority.seen_at(site.port) == first
            authority.issue(with_key=False)
            await eventually(partial(_reload_failed, site), timeout_s=SEEN_WITHIN_S)
            assert await authority.seen_at(site.port) == first
            second = authority.issue()
            await eventually(second_is_seen, timeout_s=SEEN_WITHIN_S)
            assert await is_accepted(2)  # on the connection of before
        plain = await _plain(site.port)
    assert b"HTTP/1.1 2" not in plain


async def _reload_failed(site: Site) -> bool:
    return (await site.metrics()).value("forebay_tls_reload_failures_total") > 0


async def _plain(port: int) -> bytes:
    """What a client without TLS gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /live-events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
