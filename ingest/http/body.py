"""A request's body, and the tokens in it, within bounds of size and time."""

import asyncio
from typing import Any

from aiohttp import web

from ingest.contract import strict_json
from ingest.errors import Malformed, RequestTimeout, TooLarge
from ingest.http.admission import Place
from ingest.http.answers import BrokenBody

# ten times what fits into the 256 KB of the queue that Canvas sends notices through
_MAX_NOTICES = 2_000


class BodyCut(Exception):
    """The client went away before its body was complete; nobody waits for an answer."""


async def read_body(
    request: web.BaseRequest, max_bytes: int, place: Place, *, timeout_s: float
) -> bytes:
    """The whole body. Raises TooLarge, RequestTimeout, Overloaded, BrokenBody or BodyCut."""
    try:
        length = request.content_length or 0
        if length > max_bytes:
            raise TooLarge
        if request.content.is_eof():  # it came with the head, as most bodies do
            body = _bounded(request.content.read_nowait(), max_bytes)
            place.hold(len(body))
            return body
        place.expect(length)
        async with asyncio.timeout(timeout_s):
            return await _read(request, max_bytes, place)
    except TimeoutError:
        raise RequestTimeout from None
    except ConnectionError as error:
        raise BodyCut from error
    except (web.RequestPayloadError, ValueError):
        raise BrokenBody from None


def read_notices(body: bytes) -> list[bytes | None]:
    """The tokens of `{"notices":[{"jwt": …}, …]}`, None for what is none.

    Raises Malformed, or TooLarge for more notices than Canvas can send at once.
    """
    try:
        message = strict_json.loads(body)
    except strict_json.NotJSON as error:
        raise Malformed("not JSON") from error
    notices = message.get("notices") if isinstance(message, dict) else None
    if not isinstance(notices, list) or not notices:
        raise Malformed("no notices")
    if len(notices) > _MAX_NOTICES:
        raise TooLarge("too many notices")
    return [_notice_token(notice) for notice in notices]


async def _read(request: web.BaseRequest, max_bytes: int, place: Place) -> bytes:
    content = request.content
    body = bytearray()  # a list of chunks would cost fifty times the body where each is a byte
    while not content.at_eof():
        chunk = await content.readany()
        if len(body) + len(chunk) > max_bytes:
            raise TooLarge
        place.hold(len(chunk))
        body += chunk
    return bytes(body)


def _bounded(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise TooLarge
    return body


def _notice_token(notice: Any) -> bytes | None:
    token = notice.get("jwt") if isinstance(notice, dict) else None
    return token.encode() if isinstance(token, str) else None
