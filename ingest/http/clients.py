"""Who speaks through a proxy, and how many requests of one client may be under way.

Source: RFC 7239 (Forwarded) and the X-Forwarded-For that came before it.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network

from aiohttp import web

from ingest.errors import Overloaded
from ingest.http.answers import problem
from ingest.http.connections import site_of

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;\s]*)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\w+)?|([^:]*):\w+")
_LONGEST = 64
"""Of what is taken for an address: none is longer."""


class Proxies:
    """The networks whose word about their clients is believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in networks]
        self.has = lru_cache(maxsize=4096)(self._has)

    def client(self, request: web.BaseRequest) -> str | None:
        """The address that the outermost proxy of ours saw; None where none is told.

        X-Forwarded-For comes first where both are there: nearly every proxy writes to it, and
        lets a Forwarded through that the client may have made up.
        """
        for host in reversed(_told(request)):
            if not self.has(host):
                return _site(host)
        return None

    def _has(self, host: str) -> bool:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


class Clients:
    """Bounds how many requests of one client of a proxy are under way."""

    def __init__(
        self,
        handle: Handler,
        proxies: Proxies,
        *,
        max_requests: int,
        aborted: Callable[[str], None],
    ) -> None:
        self._handle = handle
        self._proxies = proxies
        self._max_requests = max_requests
        self._aborted = aborted
        self._under_way: dict[str, int] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request that came through a proxy."""
        client = self._proxies.client(request)
        if client is None:
            return await self._handle(request)
        count = self._under_way.get(client, 0)
        if count >= self._max_requests:
            self._aborted("too_many_from_address")
            return problem(Overloaded("of one client"))
        self._under_way[client] = count + 1
        try:
            return await self._handle(request)
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]


def _told(request: web.BaseRequest) -> list[str]:
    """Addresses as the proxies wrote them, the nearest one last."""
    headers = request.headers
    values = headers.getall("X-Forwarded-For", ())
    if values:
        return [_bare(part) for part in ",".join(values).split(",") if part.strip()]
    elements = ",".join(headers.getall("Forwarded", ())).split(",")
    return [_bare(found[1]) for element in elements if (found := _FOR.search(element))]


def _bare(text: str) -> str:
    """An address without quotes, brackets and port."""
    text = text.strip().strip('"')
    found = _WITH_PORT.fullmatch(text)
    return (found[1] or found[2] or "") if found else text


def _site(host: str) -> str:
    try:
        return site_of(host)
    except ValueError:
        return host[:_LONGEST]
