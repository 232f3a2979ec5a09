"""The public listener's certificate."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from ingest.http import tls
from ingest.shared.environment import SettingsError


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _write(authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
    issued = authority.issue_cert(name)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key


def test_certificate_and_key_make_a_modern_server(authority: trustme.CA, tmp_path: Path) -> None:
    context = tls.server_context(*_write(authority, tmp_path, "receiver.example.edu"))
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
    authority: trustme.CA,
    tmp_path: Path,
    spoil: Callable[[Path, Path], Any],
    reason: str | None,
) -> None:
    cert, key = _write(authority, tmp_path, "receiver.example.edu")
    spoil(cert, key)
    with pytest.raises(SettingsError, match=reason) as caught:
        tls.server_context(cert, key)
    assert str(cert) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_key_of_another_certificate_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = _write(authority, tmp_path, "one.example.edu")
    own = key.read_bytes()
    _write(authority, tmp_path, "two.example.edu")
    key.write_bytes(own)
    with pytest.raises(SettingsError):
        tls.server_context(cert, key)


class _Context:
    def __init__(self) -> None:
        self.loaded = 0

    def load_cert_chain(self, cert: Path, key: Path) -> None:
        if b"broken" in cert.read_bytes():
            raise ssl.SSLError("half written")
        self.loaded += 1


async def test_changed_files_are_loaded_again_and_broken_ones_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_EVERY_S", 0.001)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("old")
    key.write_text("old")
    context = _Context()
    keeping = asyncio.create_task(tls.keep_current(cast(ssl.SSLContext, context), cert, key))
    await asyncio.sleep(0.02)
    assert context.loaded == 0
    for text in ("broken", None, "new"):
        cert.unlink() if text is None else cert.write_text(text)
        await asyncio.sleep(0.02)
        assert context.loaded == (1 if text == "new" else 0)
    os.utime(key, ns=(1, 1))
    await asyncio.sleep(0.02)
    assert context.loaded == 2
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
