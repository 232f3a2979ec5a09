"""The admin listener of either program: health, version and metrics, never public."""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

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


def admin_app(*, program: str, registry: CollectorRegistry, checks: Checks) -> web.Application:
    """An application with `/livez`, `/readyz`, `/metrics` and `/version`."""

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
        return web.json_response({"program": program, "version": version("forebay")})

    app = web.Application()
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


async def start(site: web.SockSite) -> None:
    """Begins to listen. Raises SettingsError where somebody else came first."""
    try:
        await site.start()
    except OSError as error:
        raise SettingsError(f"cannot listen on {site.name}: {error.strerror}") from None


@contextlib.asynccontextmanager
async def listening(app: web.Application, taken: socket.socket) -> AsyncIterator[None]:
    """Serves the application on a bound socket while the block runs."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await start(web.SockSite(runner, taken))
        yield
    finally:
        await runner.cleanup()
