"""What is written in one piece is what aiohttp would have written in its many steps."""

from __future__ import annotations

import asyncio
from email.message import Message
from email.parser import BytesParser
from typing import Any

import pytest
from aiohttp import web

from ingest.http.answers import accepted
from ingest.values import Receipt

_RECEIPT = Receipt(outcome="published", event_id="5f" * 32)
_ANSWERS = {
    "/ours": lambda: accepted(_RECEIPT),
    "/theirs": lambda: web.Response(
        status=202,
        body=accepted(_RECEIPT).body,
        headers={"Server": "forebay"},
        content_type="application/json",
    ),
}


async def _answer(request: web.BaseRequest) -> web.Response:
    answer = _ANSWERS[request.path]()
    if "close" in request.query:
        answer.force_close()
    return answer


async def _asked(*requests: str) -> list[tuple[bytes, Message, bytes]]:
    """Status line, headers and body of each answer on one connection; it ends after the last."""
    server = await asyncio.get_running_loop().create_server(web.Server(_answer), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        answers = []
        for request in requests:
            writer.write(f"POST {request}\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            status, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            headers = BytesParser().parsebytes(head)
            body = await reader.readexactly(int(headers["Content-Length"]))
            answers.append((status, headers, body))
        writer.close()
        return answers


def _told(answer: tuple[bytes, Message, bytes]) -> Any:
    status, headers, body = answer
    return status, {name: value for name, value in headers.items() if name != "Date"}, body


@pytest.mark.parametrize("how", [" HTTP/1.1", "?close HTTP/1.1", " HTTP/1.0"])
async def test_answer_is_that_of_aiohttp(how: str) -> None:
    (ours,), (theirs,) = await _asked(f"/ours{how}"), await _asked(f"/theirs{how}")
    assert _told(ours) == _told(theirs)
    assert sorted(ours[1].keys()) == sorted(theirs[1].keys())


async def test_connection_is_kept_between_answers() -> None:
    answers = await _asked("/ours HTTP/1.1", "/theirs HTTP/1.1", "/ours HTTP/1.1")
    assert _told(answers[0]) == _told(answers[1]) == _told(answers[2])
    assert "Connection" not in answers[2][1]
