"""A request's body, and the tokens in it, within bounds of size and time.

Source: RFC 9110 sections 8.4 (Content-Encoding), 10.1.1 (Expect); RFC 9112 section 6.1
(Transfer-Encoding).
"""

from typing import Any

from aiohttp import StreamReader, hdrs, web

from ingest.contract import strict_json
from ingest.contract.envelope import Source
from ingest.errors import EncodingNotAllowed, Malformed, TooLarge
from ingest.http.admission import Arrival, Arrivals

# ten times what fits into the 256 KB of the queue that Canvas sends notices through
_MAX_NOTICES = 2_000
_MAX_PARTS = 20 * _MAX_NOTICES


class BodyCut(Exception):
    """The client went away before its body was complete; nobody waits for an answer."""


async def read_body(
    request: web.BaseRequest, source: Source, max_bytes: int, arrivals: Arrivals
) -> bytes:
    """The whole body.

    Raises EncodingNotAllowed or TooLarge at the head; TooLarge, RequestTimeout, Overloaded,
    Malformed or BodyCut while it comes.
    """
    _check_head(request, max_bytes)
    content = request.content
    try:
        if content.is_eof():  # it came with the head, as most bodies do
            body = content.read_nowait()
            if len(body) > max_bytes:
                raise TooLarge
            return body
        _tell_to_go_on(request)
        async with arrivals.begin(source) as arrival:
            # it waits as long as the body does, and may be larger
            arrival.hold(sum(len(name) + len(value) for name, value in request.raw_headers))
            return await _read(content, max_bytes, arrival)
    except OSError as error:
        raise BodyCut from error
    except RuntimeError as error:
        if request.transport is not None:
            raise
        raise BodyCut from error  # the reader says so where the connection was gone before
    except (web.RequestPayloadError, ValueError) as error:
        raise Malformed("broken framing") from error


def read_notices(body: bytes) -> list[bytes | None]:
    """The tokens of `{"notices":[{"jwt": …}, …]}`, None for what is none.

    Raises Malformed, or TooLarge for more notices than Canvas can send at once.
    """
    if len(body) > _MAX_PARTS and sum(map(body.count, (b",", b"{", b"["))) > _MAX_PARTS:
        raise Malformed("too many parts")  # a million empty objects take 100 MB and 0.2 s
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


def _check_head(request: web.BaseRequest, max_bytes: int) -> None:
    headers = request.headers
    if hdrs.CONTENT_ENCODING in headers and any(
        encoding.strip().lower() != "identity" for encoding in headers.getall(hdrs.CONTENT_ENCODING)
    ):
        raise EncodingNotAllowed("content")
    length = request.content_length
    if length is None:
        # the parser sees to it that chunks are the last coding, and tells of no other
        transfer = headers.get(hdrs.TRANSFER_ENCODING)
        if transfer is not None and transfer.strip().lower() != "chunked":
            raise EncodingNotAllowed("transfer")
    elif length > max_bytes:
        raise TooLarge


def _tell_to_go_on(request: web.BaseRequest) -> None:
    """Some clients wait for this before they send a body."""
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or expected.lower() != "100-continue":
        return
    if request.version >= (1, 1) and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read(content: StreamReader, max_bytes: int, arrival: Arrival) -> bytes:
    body = bytearray()  # a list of chunks would cost fifty times the body where each is a byte
    while not content.at_eof():
        chunk = await content.readany()
        if len(body) + len(chunk) > max_bytes:
            raise TooLarge
        arrival.hold(len(chunk))
        body += chunk
    return bytes(body)


def _notice_token(notice: Any) -> bytes | None:
    token = notice.get("jwt") if isinstance(notice, dict) else None
    return token.encode() if isinstance(token, str) else None
