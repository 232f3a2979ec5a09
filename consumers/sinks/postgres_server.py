"""The connection to PostgreSQL: how it is made, and which of its errors pass by themselves."""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog

from consumers.errors import SinkBusy, StartupError

Connection = Any
"""An `asyncpg.Connection`, which has no types."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 5.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

# A worker whose machine is gone without a word must not keep its locks.
_SESSION = """
set idle_in_transaction_session_timeout = '60s';
set lock_timeout = '10s';
set tcp_keepalives_idle = 30;
set tcp_keepalives_interval = 10;
set tcp_keepalives_count = 3
"""
_PASSING_CLASSES = {"08", "40", "53", "57", "58"}
"""Connection, transaction rolled back, resources (disk, connections), operator, system."""
_PASSING = {"25006", "25P03", "25P04", "55006", "55P03"}
"""Read-only (a standby), transaction took too long, in use, lock not had in time."""
_TLS_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


class Server:
    """One connection to the server of an URL, made when it is needed and again where it was lost.

    `prepare` is called with each new connection. Until one was had, what only an operator can put
    right is a StartupError; afterwards everything about connecting passes.
    """

    def __init__(
        self, url: str, *, application: str, prepare: Callable[[Connection], Awaitable[None]]
    ) -> None:
        self._url = urlsplit(url)
        self._application = application
        self._prepare = prepare
        self._hosts = deque(self._url.netloc.rpartition("@")[2].split(","))
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._was_reached = False
        self._pause_s = 0.0
        self._not_before = 0.0

    @property
    def name(self) -> str:
        """Hosts and database, for people: no user, no password."""
        hosts = self._url.netloc.rpartition("@")[2]
        elsewhere = parse_qs(self._url.query).get("host", ["localhost"])[0]
        return f"{hosts or elsewhere}{self._url.path}"

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The connection, for one piece of work that may be repeated whole.

        Raises SinkBusy for whatever passes, also where it is unknown whether the work was done.
        May wait, after what went wrong before.
        """
        async with self._one_at_a_time:
            connection = await self._connected()
            try:
                yield connection
            except Exception as error:
                if not (passes(error) or connection.is_closed()):
                    raise
                if not _is_conflict(error):
                    self._lost(error)
                raise SinkBusy(self.sentence(error)) from error
            if self._pause_s:
                log.info("the store can be had again", store=self.name)
                self._pause_s = 0.0

    async def close(self) -> None:
        """Ends the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.close(timeout=_CLOSE_TIMEOUT_S)

    def sentence(self, error: BaseException) -> str:
        """What went wrong, and where. Only for errors that quote no row."""
        return f"PostgreSQL at {self.name}: {_cause(error)}"

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        await asyncio.sleep(max(0.0, self._not_before - monotonic()))
        try:
            self._connection = await self._connect()
            await self._connection.execute(_SESSION)
            await self._prepare(self._connection)
        except (SinkBusy, StartupError):
            self._drop()
            raise
        except Exception as error:
            if not self._was_reached and _is_final(error):
                self._drop()
                raise StartupError(f"the store: {self.sentence(error)}") from error
            self._lost(error)
            raise SinkBusy(self.sentence(error)) from error
        self._was_reached = True
        return self._connection

    async def _connect(self) -> Connection:
        _check_files(self._url.query)
        user, at, _ = self._url.netloc.rpartition("@")
        # a host that is silent takes all of the time, so each attempt begins with another
        url = self._url._replace(netloc=f"{user}{at}{','.join(self._hosts)}").geturl()
        self._hosts.rotate(-1)
        named = "target_session_attrs=" in self._url.query
        return await asyncpg.connect(
            url,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S,
            # a statement for each table and each set of columns, and wide tables have long ones
            statement_cache_size=512,
            max_cached_statement_lifetime=0,
            max_cacheable_statement_size=256 * 1024,
            server_settings={"application_name": self._application[:63]},
            target_session_attrs=None if named else "read-write",
        )

    def _lost(self, error: BaseException) -> None:
        if not self._pause_s:
            log.warning("the store cannot be had, trying again", cause=self.sentence(error))
        self._drop()

    def _drop(self) -> None:
        """Lets go of a connection that may be broken; the next attempt comes after a pause."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        self._pause_s = min(max(2 * self._pause_s, _PAUSE_S), _LONGEST_PAUSE_S)
        self._not_before = monotonic() + self._pause_s


def passes(error: BaseException) -> bool:
    """Whether the same may go well later, with nobody changing anything of ours."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _PASSING_CLASSES or state in _PASSING
    return isinstance(error, (OSError, asyncpg.InternalClientError))  # timeouts are OSErrors


def _is_conflict(error: BaseException) -> bool:
    """Whether others were in the way, and the connection is as good as before."""
    state = getattr(error, "sqlstate", None) or ""
    return state[:2] == "40" or state == "55P03"


def _is_final(error: BaseException) -> bool:
    """Whether connecting fails the same way until somebody changes something."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, _TLS_CUT_OFF)
    if isinstance(error, ConnectionError) and "rejected SSL" in str(error):
        return True
    return not passes(error)


def _cause(error: BaseException) -> str:
    match error:
        case asyncpg.PostgresError() | asyncpg.ClientConfigurationError():
            # what comes in `detail` may quote a row
            return str(error.args[0])
        case asyncpg.TargetServerAttributeNotMatched():
            return "no host takes writes: is this a standby?"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return str(error) or type(error).__name__
        case ValueError():  # whose text may quote the URL
            return "the URL is not one that PostgreSQL's client reads"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


def _check_files(query: str) -> None:
    """Raises StartupError for a file that the URL names and that cannot be read."""
    for name, values in parse_qs(query).items():
        if name in _FILES:
            try:
                Path(values[-1]).read_bytes()
            except OSError as error:
                raise StartupError(
                    f"FOREBAY_STORE__URL: {name}: cannot read {values[-1]}: {error.strerror}"
                ) from None
