"""Shows the public keys, as Canvas does at two addresses, and breaks on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from tests.emulator.key_store import Keys
from tests.support.keys import KeyRing

LIVE_EVENTS_PATH: Final = "/jwks"
PLATFORM_PATH: Final = "/api/lti/security/jwks"


class KeyServer:
    """Both key sets over HTTP. Use as an async context manager.

    `port` 0 takes any free one. `requests` counts requests by path, refused ones too.
    """

    def __init__(self, keys: Keys, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: Counter[str] = Counter()
        self._rings: dict[str, KeyRing] = {}
        self._host = host
        self._port = port
        self._status: int | None = None
        self._delay_s = 0.0
        self._runner: web.AppRunner | None = None
        self.show(keys)

    async def __aenter__(self) -> Self:
        app = web.Application()
        for path in self._rings:
            app.router.add_get(path, self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def live_events_url(self) -> str:
        """The address of the Live Events key set."""
        return f"http://{self._host}:{self._port}{LIVE_EVENTS_PATH}"

    @property
    def platform_url(self) -> str:
        """The address of the LTI platform's key set."""
        return f"http://{self._host}:{self._port}{PLATFORM_PATH}"

    def show(self, keys: Keys) -> None:
        """Show these keys from now on."""
        self._rings = {LIVE_EVENTS_PATH: keys.live_events, PLATFORM_PATH: keys.platform}

    def fail_with(self, status: int | None) -> None:
        """Answer every request with this status and no keys, until told None."""
        self._status = status

    def delay(self, seconds: float) -> None:
        """Hold each answer back this long, until told 0."""
        self._delay_s = seconds

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests[request.path] += 1
        # what was asked for before a failure or rotation began is answered as of then
        status, ring = self._status, self._rings[request.path]
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if status is not None:
            return web.json_response({"message": "told to fail"}, status=status)
        # ten days, as canvas-lms app/controllers/security_controller.rb has it
        headers = {"Cache-Control": "max-age=864000, public"}
        return web.json_response(ring.jwks(), headers=headers)
