"""The public listener's certificate, read again when its files change."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from ingest.shared.environment import SettingsError
from ingest.storage.stamps import stamps as _stamps

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 5.0
# a renewal writes two files, one after the other; who looks in between need not be woken
_ALARM_AT_FAILURE = 2


class Certificate:
    """A certificate and its key in two files.

    Handshakes on `context` get the latest pair that was whole; whatever the files become, a pair
    that works is never given up for one that does not.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Raises SettingsError where the files cannot be used."""
        self._files = (cert_file, key_file)
        self._failures = 0
        self._loaded = _stamps(self._files)
        self.context = self._current = server_context(cert_file, key_file)
        # to load a pair into a context that serves is to break it where the two do not fit
        self.context.sni_callback = self._choose

    async def run(self, failed: Callable[[], None]) -> None:
        """Looks at the files until it is cancelled; tells `failed` of each look in vain."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if not await self.look():
                failed()

    async def look(self) -> bool:
        """Takes a changed pair for new connections; False if that cannot be used."""
        try:
            renewed = await asyncio.to_thread(self._renewed)
        except SettingsError as error:
            self._failures += 1
            if self._failures == _ALARM_AT_FAILURE:
                log.error(
                    "changed certificate cannot be used, the one before it serves on:"
                    " put a certificate and its key there",
                    cause=str(error),
                )
            return False
        self._failures = 0
        if renewed is not None:
            self._current, self._loaded = renewed
            log.info("certificate loaded again")
        return True

    def _choose(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _renewed(self) -> tuple[ssl.SSLContext, list[object]] | None:
        stamps = _stamps(self._files)  # first: what changes meanwhile is seen at the next look
        return None if stamps == self._loaded else (server_context(*self._files), stamps)


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A context for a server. Raises SettingsError where the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # without a password OpenSSL would ask for one on the terminal
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or "not a certificate and its key"
        raise SettingsError(f"{cert_file}, {key_file}: {reason}") from None
    return context
