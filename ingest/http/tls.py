"""The public listener's certificate, read again when its files change."""

import asyncio
import ssl
from pathlib import Path

import structlog

from ingest.shared.environment import SettingsError

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 5.0


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A context for a server. Raises SettingsError where the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or "not a certificate and its key"
        raise SettingsError(f"{cert_file}, {key_file}: {reason}") from None
    return context


async def keep_current(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    """Loads the files again whenever they change, for ever; new connections get the new ones."""
    loaded = _stamp(cert_file, key_file)
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        try:
            stamp = _stamp(cert_file, key_file)
            if stamp != loaded:
                context.load_cert_chain(cert_file, key_file)
                loaded = stamp
                log.info("certificate loaded again")
        except OSError as error:
            # the old one serves on; a half-written pair is tried again at the next look
            log.warning("certificate could not be loaded again", cause=type(error).__name__)


def _stamp(*paths: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in paths]
