"""Asking a ClickHouse server over HTTP, and what its errors mean to a worker."""

import asyncio
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import aiohttp
import clickhouse_connect
from clickhouse_connect.driver import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, StreamFailureError

from consumers.errors import SinkBusy, StartupError
from consumers.sinks.clickhouse_url import Address

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 60
"""How long nothing at all may come from the server."""

_QUERY_MAX_BYTES = 16 * 1024 * 1024
"""Longest text of a query; it holds up to `MAX_LISTED` ids."""

MAX_LISTED = 10_000
"""How many values a query lists at most."""

_PASSING = {
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    164: "READONLY",
    198: "DNS_ERROR",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    216: "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
    218: "TABLE_IS_DROPPED",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",  # the server is shutting down
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    473: "DEADLOCK_AVOIDED",
    517: "CANNOT_ASSIGN_ALTER",
    574: "CANNOT_SCHEDULE_TASK",
    667: "NOT_INITIALIZED",
    735: "QUERY_WAS_CANCELLED_BY_CLIENT",
    999: "KEEPER_EXCEPTION",
}
_ALTERED = {
    8: "THERE_IS_NO_COLUMN",
    10: "NOT_FOUND_COLUMN_IN_BLOCK",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    47: "UNKNOWN_IDENTIFIER",
    53: "TYPE_MISMATCH",
    57: "TABLE_ALREADY_EXISTS",
    60: "UNKNOWN_TABLE",
}
"""Somebody else altered the tables meanwhile: whoever looks at them again can go on."""

_BUSY = _PASSING | _ALTERED
_REFUSED_USER = frozenset({192, 193, 194, 516})
_REFUSED_RIGHT = 497
_MISSING_GRANT = re.compile(r"the grant ([A-Z][A-Z ]*(?:\([^)]*\))? ON [\w.*`]+)")
_HTTP_STATUS = re.compile(r"HTTP status (\d+)")


class ClickHouseRefused(Exception):
    """The server will not do this, however often it is asked; nothing of its text is kept."""


class Column(NamedTuple):
    """Values of one column, and the type that they are sent as."""

    sql_type: str
    values: Sequence[Any]


class Server:
    """One server, connected to when it is first asked.

    Every method raises SinkBusy, StartupError or ClickHouseRefused. After SinkBusy a statement may
    have been carried out all the same.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def rows(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """What a query finds; `%(name)s` in it stands for a parameter."""
        with _told(self._address):
            client = await self._connected()
            result = await client.query(
                sql, parameters=parameters, settings={"max_query_size": _QUERY_MAX_BYTES}
            )
            return result.result_rows

    async def run(self, sql: str, **parameters: Any) -> None:
        """Carries out a statement."""
        with _told(self._address):
            client = await self._connected()
            await client.command(sql, parameters=parameters, settings=_insert_settings(None))

    async def insert(
        self,
        table: str,
        columns: Mapping[str, Column],
        *,
        token: str | None = None,
        may_convert: bool = False,
    ) -> None:
        """Rows, column by column; of blocks with the same token the server keeps the first.

        Where the server `may_convert` values to other types, it makes NULL of what does not fit.
        """
        with _told(self._address):
            client = await self._connected()
            await client.insert(
                table,
                [column.values for column in columns.values()],
                column_names=list(columns),
                column_type_names=[column.sql_type for column in columns.values()],
                column_oriented=True,
                settings={
                    **_insert_settings(token),
                    "input_format_native_allow_types_conversion": int(may_convert),
                },
            )

    async def close(self) -> None:
        """Closes its connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                address = self._address
                self._client = await clickhouse_connect.get_async_client(
                    interface="https" if address.secure else "http",
                    host=address.host,
                    port=address.port,
                    username=address.user,
                    password=address.password,
                    ca_cert=str(address.ca_file) if address.ca_file else None,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    send_receive_timeout=ANSWER_TIMEOUT_S,
                    query_retries=0,  # the worker waits and asks again
                    autogenerate_session_id=False,  # a session has one query at a time
                    client_name="forebay",
                )
            return self._client


def _insert_settings(token: str | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "async_insert": 0,  # batches are made here, and are to be there when the answer comes
        "wait_end_of_query": 1,
        "max_partitions_per_insert_block": 0,  # events that come late may be of many months
    }
    return settings if token is None else {**settings, "insert_deduplication_token": token}


@contextmanager
def _told(address: Address) -> Iterator[None]:
    """Tells the driver's errors as ours: their texts may hold values, so none is passed on."""
    try:
        yield
    except (
        ClickHouseError,
        StreamFailureError,
        aiohttp.ClientError,
        OSError,
        TimeoutError,
    ) as error:
        raise _ours(error, address) from None


def _ours(error: Exception, address: Address) -> Exception:
    code = error.code if isinstance(error, Error) else None
    if isinstance(error, ClickHouseError) and not _is_of_the_server(error):
        return ClickHouseRefused(f"the driver refused a statement: {type(error).__name__}")
    if code is None:
        return _of_the_network(error, address)
    if code in _BUSY:
        return SinkBusy(f"ClickHouse at {address} answered {_BUSY[code]} (code {code})")
    if code in _REFUSED_USER:
        return StartupError(
            f"ClickHouse at {address} refuses the user {address.user!r} or its password: correct"
            " FOREBAY_STORE__URL"
        )
    if code == _REFUSED_RIGHT:
        grant = _MISSING_GRANT.search(str(error))
        return StartupError(
            f"ClickHouse at {address} denies the user {address.user!r} what the worker needs:"
            f" grant it {grant[1] if grant else 'all rights on the database'}"
        )
    name = getattr(error, "name", None) or "an error"
    return ClickHouseRefused(f"ClickHouse at {address} answered {name} (code {code})")


def _is_of_the_server(error: ClickHouseError) -> bool:
    """Rather than of the driver, which judges values and settings before it sends them."""
    # its subclasses, DataError and ProgrammingError, are the driver's own
    return type(error).__name__ in ("DatabaseError", "OperationalError")


def _of_the_network(error: Exception, address: Address) -> Exception:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return StartupError(
                f"the certificate of ClickHouse at {address} is not trusted"
                f" ({cause.verify_message}): correct it, or name its authority with &ca_file="
            )
        if isinstance(cause, FileNotFoundError):
            return StartupError(
                f"the file {address.ca_file} that FOREBAY_STORE__URL names is missing"
            )
    status = _HTTP_STATUS.search(str(error))
    if status:
        return SinkBusy(f"what answers at {address} is no ClickHouse: HTTP status {status[1]}")
    return SinkBusy(f"ClickHouse at {address} does not answer: {type(causes[-1]).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came from, down to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
