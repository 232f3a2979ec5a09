"""The public listener's certificate: real contexts, real files, real handshakes in memory."""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from ingest.http import tls
from ingest.http.tls import Certificate
from ingest.shared.environment import SettingsError

_NAME = "receiver.example.edu"


class Files:
    """The pair of files, and certificates to put there."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self._authority = trustme.CA()
        self.client = ssl.create_default_context()
        self._authority.configure_trust(self.client)

    def issue(self) -> trustme.LeafCert:
        return self._authority.issue_cert(_NAME)

    def put(self, *, cert: trustme.LeafCert, key: trustme.LeafCert) -> bytes:
        """Replaces both files; the certificate in DER."""
        self._replace(self.key, key.private_key_pem.bytes())
        pem = cert.cert_chain_pems[0].bytes()
        self._replace(self.cert, pem)
        return ssl.PEM_cert_to_DER_cert(pem.decode())

    def put_new(self) -> bytes:
        issued = self.issue()
        return self.put(cert=issued, key=issued)

    def _replace(self, path: Path, content: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def shown(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = _NAME) -> bytes:
    """The certificate of a whole handshake, in DER. Raises ssl.SSLError where it fails."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [here, there]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    there.write(b"hello")
    assert here.read(5) == b"hello"
    certificate = here.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_certificate_and_key_make_a_modern_server(files: Files) -> None:
    files.put_new()
    context = Certificate(files.cert, files.key).context
    assert context.protocol == ssl.PROTOCOL_TLS_SERVER
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda cert, key: cert.unlink(), "No such file"),
        (lambda cert, key: key.unlink(), "No such file"),
        (lambda cert, key: cert.write_text("no certificate"), None),
        (lambda cert, key: key.write_bytes(cert.read_bytes()), None),
    ],
)
def test_unusable_files_are_named_in_one_line(
    files: Files, spoil: Callable[[Path, Path], Any], reason: str | None
) -> None:
    files.put_new()
    spoil(files.cert, files.key)
    with pytest.raises(SettingsError, match=reason) as caught:
        Certificate(files.cert, files.key)
    assert str(files.cert) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_key_of_another_certificate_is_refused(files: Files) -> None:
    files.put(cert=files.issue(), key=files.issue())
    with pytest.raises(SettingsError):
        Certificate(files.cert, files.key)


def test_encrypted_key_is_refused(files: Files) -> None:
    files.put_new()
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret
    )
    files.key.write_bytes(encrypted)
    with pytest.raises(SettingsError):
        Certificate(files.cert, files.key)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_renewed_pair_is_shown_to_new_connections(
    files: Files, version: ssl.TLSVersion
) -> None:
    files.client.maximum_version = version
    first = files.put_new()
    certificate = Certificate(files.cert, files.key)
    assert shown(certificate.context, files.client) == first
    second = files.put_new()
    assert await certificate.look()
    assert shown(certificate.context, files.client) == second != first


async def test_client_that_names_no_server_gets_the_renewed_pair_too(files: Files) -> None:
    files.put_new()
    certificate = Certificate(files.cert, files.key)
    second = files.put_new()
    await certificate.look()
    files.client.check_hostname = False
    assert shown(certificate.context, files.client, name=None) == second


def _renew_certificate_only(files: Files) -> None:
    renewed = files.issue()
    (files.cert).write_bytes(renewed.cert_chain_pems[0].bytes())


def _directory_in_place_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


HALF_RENEWED: dict[str, Callable[[Files], object]] = {
    "certificate before its key": _renew_certificate_only,
    "key before its certificate": lambda f: f.key.write_bytes(f.issue().private_key_pem.bytes()),
    "certificate cut": lambda f: f.cert.write_bytes(f.cert.read_bytes()[:200]),
    "key cut": lambda f: f.key.write_bytes(f.key.read_bytes()[:200]),
    "key empty": lambda f: f.key.write_bytes(b""),
    "key gone": lambda f: f.key.unlink(),
    "key unreadable": lambda f: _directory_in_place_of(f.key),
}


@pytest.mark.parametrize("spoil", HALF_RENEWED.values(), ids=HALF_RENEWED)
async def test_pair_that_works_serves_on_until_another_does(
    files: Files, spoil: Callable[[Files], object]
) -> None:
    first = files.put_new()
    certificate = Certificate(files.cert, files.key)
    spoil(files)
    with capture_logs() as lines:
        assert not await certificate.look()
        assert lines == []  # this look may have come between the two files of a renewal
        assert [await certificate.look() for _ in range(3)] == [False] * 3
    assert [line["log_level"] for line in lines] == ["error"]
    assert str(files.key) in lines[0]["cause"]
    assert shown(certificate.context, files.client) == first
    if files.key.is_dir():
        files.key.rmdir()
    second = files.put_new()
    assert await certificate.look()
    assert shown(certificate.context, files.client) == second


async def test_trouble_that_comes_back_is_said_again(files: Files) -> None:
    files.put_new()
    certificate = Certificate(files.cert, files.key)
    with capture_logs() as lines:
        for _ in range(2):
            _renew_certificate_only(files)
            await certificate.look()
            await certificate.look()
            files.put_new()
            await certificate.look()
    assert [line["log_level"] for line in lines] == ["error", "info"] * 2


async def test_files_that_have_not_changed_are_not_read_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put_new()
    certificate = Certificate(files.cert, files.key)
    monkeypatch.setattr(tls, "server_context", None)
    assert await certificate.look()


async def test_pair_of_the_same_age_as_the_one_before_is_seen(files: Files) -> None:
    files.put_new()
    certificate = Certificate(files.cert, files.key)
    times = [(path, path.stat().st_mtime_ns) for path in (files.cert, files.key)]
    second = files.put_new()
    for path, at_ns in times:
        os.utime(path, ns=(at_ns, at_ns))
    await certificate.look()
    assert shown(certificate.context, files.client) == second


async def test_run_tells_of_each_look_in_vain(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_EVERY_S", 0.001)
    files.put_new()
    certificate = Certificate(files.cert, files.key)
    failures = asyncio.Semaphore(0)
    running = asyncio.create_task(certificate.run(failures.release))
    files.key.unlink()
    await failures.acquire()
    await failures.acquire()
    second = files.put_new()
    async with asyncio.timeout(10):
        while shown(certificate.context, files.client) != second:  # noqa: ASYNC110 - real files
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
