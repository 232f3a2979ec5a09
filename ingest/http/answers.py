"""What the public listener answers: receipts as JSON, refusals as problem details.

Source: RFC 9110 for status codes, RFC 9457 for problem details.
"""

from collections.abc import Sequence
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11

from ingest.errors import Overloaded, Refusal, Rejection, Unavailable
from ingest.values import Receipt

# without it aiohttp names its own version
_HEADERS = {"Server": "forebay"}
_JSON_HEADERS = {**_HEADERS, "Content-Type": "application/json"}
_HEAD = b"".join(
    [
        b"HTTP/1.1 202 Accepted\r\n",
        *(f"{name}: {value}\r\n".encode() for name, value in _JSON_HEADERS.items()),
        b"Date: ",
    ]
)

Judged = Receipt | Refusal


class Accepted(web.Response):
    """202 with JSON, written in one piece with a head that is made once: most answers are these.

    To a client that does not keep its connection it is written as any other.
    """

    def __init__(self, content: Any) -> None:
        super().__init__(status=202, body=orjson.dumps(content), headers=_JSON_HEADERS)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        stays = self.keep_alive is not False and request.keep_alive
        if not stays or request.version != HttpVersion11:
            return await super().prepare(request)
        body = cast(bytes, self.body)
        date = rfc822_formatted_time().encode()
        self._keep_alive = True
        self._eof_sent = True
        await request.writer.write(
            b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (_HEAD, date, len(body), body)
        )
        return None


def accepted(receipt: Receipt) -> web.Response:
    """The answer to one event that is durable."""
    return Accepted(_receipt_members(receipt))


def notices_answer(judged: Sequence[Judged]) -> web.Response:
    """One answer for all notices: never 2xx while one that we want is not durable."""
    members = [_judged_members(one) for one in judged]
    refusals = [one for one in judged if isinstance(one, Refusal)]
    for refusal in refusals:
        if isinstance(refusal, Unavailable):
            return problem(refusal, notices=members)
    if len(refusals) == len(judged):
        return problem(refusals[0], notices=members)
    return Accepted({"notices": members})


def _judged_members(judged: Judged) -> dict[str, str]:
    if isinstance(judged, Receipt):
        return _receipt_members(judged)
    outcome = "not_durable" if isinstance(judged, Unavailable) else "rejected"
    return {"outcome": outcome, "reason": judged.reason}


def _receipt_members(receipt: Receipt) -> dict[str, str]:
    members = {"outcome": str(receipt.outcome)}
    if receipt.event_id is not None:
        members["event_id"] = receipt.event_id
    if receipt.reason is not None:
        members["reason"] = receipt.reason
    return members


def problem(
    refusal: Refusal, *, headers: dict[str, str] | None = None, **members: Any
) -> web.Response:
    """The answer to a refusal: RFC 9457, a fixed text, nothing of the request or of our insides."""
    headers = {**_HEADERS, **(headers or {})}
    if isinstance(refusal, Unavailable):
        headers["Retry-After"] = str(refusal.retry_after_s)
    content = {
        "type": f"urn:forebay:problem:{refusal.reason}",
        "title": refusal.title,
        "status": refusal.status,
        "reason": refusal.reason,
        **members,
    }
    response = web.Response(
        status=refusal.status,
        body=orjson.dumps(content),
        content_type="application/problem+json",
        headers=headers,
    )
    if isinstance(refusal, Rejection | Overloaded):
        # what follows is not worth reading, or has no clear beginning; and who is refused must not
        # stay for nothing
        response.force_close()
    return response


def let_go(error: BaseException) -> None:
    """Drops the traceback of an error that has become an answer, and those it came from.

    Their frames hold the body; where one holds the error too, that would stay in memory until the
    collector comes.
    """
    left: list[BaseException | None] = [error]
    while left:
        if (link := left.pop()) is not None:
            left += (link.__cause__, link.__context__)
            link.__traceback__ = link.__cause__ = link.__context__ = None
