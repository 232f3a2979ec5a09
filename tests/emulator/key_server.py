"""Shows the public keys, as Canvas does at two addresses, and breaks on demand."""

from __future__ import annotations

import asyncio
import enum
import socket
from collections import Counter
from types import TracebackType
from typing import Final, Self

import orjson
from aiohttp import web

from tests.emulator.key_store import Keys
from tests.support.keys import KeyRing

LIVE_EVENTS_PATH: Final = "/jwks"
PLATFORM_PATH: Final = "/api/lti/security/jwks"
MOVED: Final = "/moved"
"""Where a redirect leads: the same keys below this path."""

HUGE_BYTES: Final = 100_000_000

_GARBAGE: Final = b'{"keys": [{"kty": "RSA", \xff\x00 <html>'
_PIECE: Final = b" " * 65_536
_CLOSE_WITHIN_S: Final = 0.2
# ten days, as canvas-lms app/controllers/security_controller.rb has it
_HEADERS: Final = {"Cache-Control": "max-age=864000, public"}


class Mode(enum.Enum):
    """Ways to misbehave.

    `HUGE` is the key set and then white space up to `HUGE_BYTES`, their length not announced.
    `WRONG_TYPE` is the right set labelled as HTML. `HANG` takes the request and says nothing.
    `REFUSE` stops listening and cuts what is connected.
    """

    ERROR = "error"
    GARBAGE = "garbage"
    EMPTY = "empty"
    HUGE = "huge"
    REDIRECT = "redirect"
    WRONG_TYPE = "wrong type"
    HANG = "hang"
    REFUSE = "refuse"


class KeyServer:
    """Both key sets over HTTP. Use as an async context manager.

    `port` 0 takes any free one, and keeps it. `requests` counts requests by path, refused ones too.
    """

    def __init__(self, keys: Keys, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: Counter[str] = Counter()
        self._rings: dict[str, KeyRing] = {}
        self._host = host
        self._port = port
        self._mode: Mode | None = None
        self._status: int | None = None
        self._delay_s = 0.0
        self._runner: web.AppRunner | None = None
        self._placeholder: socket.socket | None = None
        self._mode_over = asyncio.Event()
        self.show(keys)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop_listening()
        self._free_port()

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

    async def misbehave(self, mode: Mode) -> None:
        """Misbehave in this way from now on, in no other. Only within the context manager."""
        self._end_mode()
        self._mode = mode
        if mode is Mode.REFUSE:
            await self._stop_listening()
            self._hold_port()
        elif self._runner is None:
            await self._listen()

    async def behave(self) -> None:
        """From now on all is well: no mode, status or delay, and the same port as before."""
        self._end_mode()
        self._mode = self._status = None
        self._delay_s = 0.0
        if self._runner is None:
            await self._listen()

    def _end_mode(self) -> None:
        self._mode_over.set()
        self._mode_over = asyncio.Event()

    async def _listen(self) -> None:
        app = web.Application()
        for path in self._rings:
            app.router.add_get(path, self._answer)
            app.router.add_get(MOVED + path, self._answer_elsewhere)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_WITHIN_S
        )
        await runner.setup()
        self._free_port()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def _stop_listening(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            self._mode_over.set()
            await runner.cleanup()

    def _hold_port(self) -> None:
        # bound, but not listening: connections are refused and nobody else gets the port
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((self._host, self._port))

    def _free_port(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.path] += 1
        # what was asked for before a failure or rotation began is answered as of then
        status, mode, ring = self._status, self._mode, self._rings[request.path]
        mode_over = self._mode_over
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if status is not None:
            return web.json_response({"message": "told to fail"}, status=status)
        if mode is Mode.HANG:
            await mode_over.wait()
            _cut(request)
        if mode is Mode.HUGE:
            return await _huge(request, ring)
        return _answered(mode, ring, request.path)

    async def _answer_elsewhere(self, request: web.Request) -> web.Response:
        self.requests[request.path] += 1
        return _answered(None, self._rings[request.path.removeprefix(MOVED)], request.path)


def _answered(mode: Mode | None, ring: KeyRing, path: str) -> web.Response:
    if mode is Mode.ERROR:
        return web.json_response({"message": "told to fail"}, status=500)
    if mode is Mode.GARBAGE:
        return web.Response(body=_GARBAGE, content_type="application/json", headers=_HEADERS)
    if mode is Mode.EMPTY:
        return web.json_response({"keys": []}, headers=_HEADERS)
    if mode is Mode.REDIRECT:
        return web.Response(status=302, headers={"Location": MOVED + path})
    kind = "text/html" if mode is Mode.WRONG_TYPE else "application/json"
    return web.Response(body=orjson.dumps(ring.jwks()), content_type=kind, headers=_HEADERS)


async def _huge(request: web.Request, ring: KeyRing) -> web.StreamResponse:
    """The keys, then white space in pieces: never the whole of it in memory."""
    response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "application/json"})
    keys = orjson.dumps(ring.jwks())
    try:
        await response.prepare(request)
        await response.write(keys)
        for _ in range(0, HUGE_BYTES - len(keys), len(_PIECE)):
            await response.write(_PIECE)
        await response.write_eof()
    except ConnectionError:
        pass  # a receiver that bounds what it reads hangs up on us, and is right
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
