"""The admin listener of either program: health, version and metrics, never public."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ingest.shared.environment import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `/readyz?verbose`. Only a `required` check that is not `ok` makes us unready."""

    name: str
    ok: bool
    detail: str
    required: bool = True


Checks = Callable[[], Awaitable[Sequence[Check]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SERVER = "forebay"
_BACKLOG = 128


def admin_app(
    *, program: str, registry: CollectorRegistry, checks: Checks, hosts: Sequence[str]
) -> web.Application:
    """An application with `/livez`, `/readyz`, `/metrics` and `/version`.

    Answers under the names of `hosts`, loopback's, and any IP address; under others 421, as a web
    page may have its own name lead here to read our answers.
    """
    names = frozenset(host.lower() for host in hosts)
    about = {"program": program, "version": version("forebay")}

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        results = await checks()
        ready = all(check.ok for check in results if check.required)
        lines = ["ready" if ready else "not ready"]
        if "verbose" in request.query:
            lines += [f"[{'+' if c.ok else '-'}] {c.name}: {c.detail}" for c in results]
        return web.Response(text="\n".join(lines) + "\n", status=200 if ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # written in the loop's own thread, so that a scrape sees no event half counted
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def version_(request: web.Request) -> web.Response:
        return web.json_response(about)

    @web.middleware
    async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host")
        if host is not None and not _is_allowed(host, names):
            return web.Response(status=421, text="not the name of this listener\n")
        return await handler(request)

    async def name_us(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = _SERVER

    app = web.Application(middlewares=[check_host])
    app.on_response_prepare.append(name_us)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/version", version_)
    return app


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket with its address taken, not listening yet. Raises SettingsError if it cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return taken


def listen(taken: socket.socket, backlog: int) -> None:
    """Begins to listen. Raises SettingsError where somebody else came first."""
    try:
        taken.listen(backlog)
    except OSError as error:
        host, port = taken.getsockname()[:2]
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None


class _Connection(web.RequestHandler):
    """aiohttp's, but what is no HTTP is not told what we are made of either."""

    __slots__ = ()

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        answer = super().handle_error(*args, **kwargs)
        answer.headers["Server"] = _SERVER
        return answer


@contextlib.asynccontextmanager
async def listening(app: web.Application, taken: socket.socket) -> AsyncIterator[None]:
    """Serves the application on a bound socket while the block runs."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    manager = runner.server
    assert manager is not None
    loop = asyncio.get_running_loop()
    try:
        listen(taken, _BACKLOG)
        listener = await loop.create_server(
            lambda: _Connection(manager, loop=loop, **manager._kwargs), sock=taken, backlog=_BACKLOG
        )
        try:
            yield
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def _is_allowed(host: str, names: frozenset[str]) -> bool:
    name = host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()
    name = name.rstrip(".")
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
