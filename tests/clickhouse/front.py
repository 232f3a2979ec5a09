"""A ClickHouse server: the engine that `chdb` brings, behind the HTTP interface.

    python -m tests.clickhouse.front DIRECTORY PORT PASSWORD

`POST /trap` with `{"query": part, "do": what, "code": number}` springs at the next query that has
this text in it: `die before`, `die after` and `hang up after` it was carried out; `answer` it with
this code as an error; or `answer early`, and carry it out before the next such query.
"""

import asyncio
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import chdb
import lz4.frame
from aiohttp import BasicAuth, web

_MAX_BODY = 256 * 1024 * 1024
_INSERT = re.compile(rb"(insert into .+?) format native\s*?\n(.*)", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"Code: (\d+)")
_OF_HTTP = {
    "cancel_http_readonly_queries_on_client_close",
    "client_protocol_version",
    "enable_http_compression",
    "http_headers_progress_interval_ms",
    "query",
    "query_id",
    "send_progress_in_http_headers",
    "wait_end_of_query",
}


class Front:
    """Every query has a connection, and so settings, of its own."""

    def __init__(self, directory: str, password: str) -> None:
        self._directory = directory
        self._password = password
        self._engine = chdb.connect(directory)  # the engine lives as long as one connection does
        self._threads = ThreadPoolExecutor(4)
        self._trap: dict[str, str] = {}
        self._late: list[tuple[bytes, dict[str, str]]] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_get("/ping", self._ping)
        app.router.add_post("/trap", self._set_trap)
        app.router.add_route("*", "/", self._answer)
        return app

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _set_trap(self, request: web.Request) -> web.Response:
        self._trap = await request.json()
        return web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "lz4":
            body = lz4.frame.open(io.BytesIO(body)).read()  # a frame for each block
        if BasicAuth.decode(request.headers["Authorization"]).password != self._password:
            return _refusal(516, "AUTHENTICATION_FAILED")
        query = (
            "\n".join([request.query["query"], ""]).encode() + body
            if "query" in request.query
            else body
        )
        do = self._sprung(query)
        if do == "answer early":
            self._late.append((query, dict(request.query)))
        if do.startswith("answer"):
            return _refusal(int(self._trap["code"]), "AS_THE_TEST_WANTS")
        _die(do == "die before")
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._run, query, dict(request.query)
            )
        except Exception as error:  # chdb raises RuntimeError, whatever is wrong
            code = _CODE.search(str(error))
            return _refusal(int(code[1]) if code else 1002, str(error))
        _die(do == "die after")
        if do == "hang up after":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=found)

    def _sprung(self, query: bytes) -> str:
        if not self._trap.get("do") or self._trap["query"].encode() not in query:
            return ""
        return self._trap.pop("do")

    def _run(self, query: bytes, asked: Mapping[str, str]) -> bytes:
        if self._late and self._trap["query"].encode() in query:
            self._run(*self._late.pop())
        connection = chdb.connect(self._directory)
        try:
            settings = {name: value for name, value in asked.items() if name not in _OF_HTTP}
            if settings:
                connection.query("set " + ", ".join(f"{n} = '{v}'" for n, v in settings.items()))
            insert = _INSERT.match(query.lstrip())
            if insert is None:
                return bytes(connection.query(query.decode(), "TabSeparated").bytes() or b"")
            with tempfile.NamedTemporaryFile(suffix=".native") as file:
                file.write(insert[2])
                file.flush()
                connection.query(f"{insert[1].decode()} from infile '{file.name}' format Native")
            return b""
        finally:
            connection.close()


def _refusal(code: int, text: str) -> web.Response:
    return web.Response(
        status=403 if code == 516 else 500,
        headers={"X-ClickHouse-Exception-Code": str(code)},
        text=f"Code: {code}. DB::Exception: {text}",
    )


def _die(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    web.run_app(Front(sys.argv[1], sys.argv[3]).app(), host="127.0.0.1", port=int(sys.argv[2]))
