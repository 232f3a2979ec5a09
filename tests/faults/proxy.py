"""A TCP link that can be broken at will: 127.0.0.1:P to 127.0.0.1:B.

It forwards whole pieces. For Kafka a piece is one request or answer, told apart by its length, so
that the answers to chosen requests can be lost (Apache Kafka documentation, "Protocol guide": each
message is preceded by its size in four bytes, a request begins with its API key in two, and answers
come in the order of their requests). For anything else a piece is what one read brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Literal, Self

HOST: Final = "127.0.0.1"
PRODUCE: Final = 0
"""The API key of produce requests."""

_PIECE_BYTES = 64 * 1024
_WAITING_PIECES = 256
_SLICES_PER_S = 20

Direction = Literal["requests", "answers"]
Fate = Literal["lost", "cut"]

BOTH: Final[tuple[Direction, ...]] = ("requests", "answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What one direction suffers. `bytes_per_s` None is no limit.

    While `held`, bytes are taken and kept; what is kept goes on afterwards, as after the end of a
    network partition.
    """

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    held: bool = False


_FAIR: Final = Weather()


class Proxy:
    """One link. Use as an async context manager; for one event loop only."""

    def __init__(self, *, port: int = 0, target_port: int, kafka: bool = False) -> None:
        self.port = port
        self._target_port = target_port
        self._kafka = kafka
        self._server: asyncio.Server | None = None
        self._weather: dict[Direction, Weather] = {"requests": _FAIR, "answers": _FAIR}
        self._changed = asyncio.Event()
        self._fates: dict[int, Fate] = {}
        self._cut_after: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def delay(self, seconds: float, *, of: Collection[Direction] = BOTH[1:]) -> None:
        """Every byte takes so much longer; the throughput stays."""
        self._suffer(of, delay_s=seconds)

    def throttle(self, bytes_per_s: float, *, of: Collection[Direction] = BOTH) -> None:
        """So many bytes a second in each connection and direction."""
        self._suffer(of, bytes_per_s=bytes_per_s)

    def blackhole(self, *, of: Collection[Direction] = BOTH) -> None:
        """Takes connections and bytes, and forwards nothing."""
        self._suffer(of, held=True)

    async def refuse(self) -> None:
        """Cuts every connection and listens no more, like a process that has gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Resets every connection, now."""
        for connection in self._connections:
            connection.reset()
        for task in self._tasks:
            task.cancel()

    def cut_next_answer(self, *, after_bytes: int) -> None:
        """Lets so many bytes of the next answer through, then resets its connection; once."""
        self._cut_after = after_bytes

    def answers(self, fate: Fate, *, to: int = PRODUCE) -> None:
        """Requests with this API key arrive; their answers are lost, or cut the connection."""
        if not self._kafka:
            raise ValueError("only a Kafka link tells answers apart")
        self._fates[to] = fate

    async def heal(self) -> None:
        """Everything as in the beginning; what was held goes on."""
        self._fates.clear()
        self._cut_after = None
        self._weather = {"requests": _FAIR, "answers": _FAIR}
        self._tell()
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=_PIECE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    def _suffer(self, directions: Collection[Direction], **changes: float | bool) -> None:
        for direction in directions:
            self._weather[direction] = replace(self._weather[direction], **changes)  # type: ignore[arg-type]
        self._tell()

    def _tell(self) -> None:
        """Wakes whoever waits for the weather."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="link")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target_port)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
            return
        connection = _Connection(writer, server_writer, kafka=self._kafka)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                ends = ((reader, server_writer), (server_reader, writer))
                for direction, (source, target) in zip(BOTH, ends, strict=True):
                    lane = _Lane(direction=direction, connection=connection)
                    group.create_task(_take(lane, source))
                    group.create_task(self._forward(lane, target))
        except* (OSError, asyncio.IncompleteReadError):
            connection.reset()
        finally:
            connection.close()
            self._connections.discard(connection)

    async def _forward(self, lane: _Lane, writer: asyncio.StreamWriter) -> None:
        while True:
            arrived_s, piece = await lane.waiting.get()
            await self._endure(lane.direction, arrived_s)
            if not piece:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            if lane.direction == "answers":
                fate = self._fates.get(lane.connection.answered())
                if fate == "lost":
                    continue
                cut_after, self._cut_after = self._cut_after, None
                if fate == "cut" or cut_after is not None:
                    writer.write(piece[: cut_after or 0])
                    raise ConnectionResetError
            await self._write(lane.direction, piece, writer)

    async def _endure(self, direction: Direction, arrived_s: float) -> None:
        """Waits until a piece that arrived then may go on."""
        clock = asyncio.get_running_loop().time
        while True:
            weather = self._weather[direction]
            rest_s = arrived_s + weather.delay_s - clock()
            if rest_s <= 0 and not weather.held:
                return
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if weather.held else rest_s):
                    await changed.wait()

    async def _write(
        self, direction: Direction, piece: bytes, writer: asyncio.StreamWriter
    ) -> None:
        rest = memoryview(piece)
        while rest:
            bytes_per_s = self._weather[direction].bytes_per_s
            if bytes_per_s is None:
                writer.write(rest)
                rest = rest[len(rest) :]
            else:
                size = max(1, int(bytes_per_s / _SLICES_PER_S))
                writer.write(rest[:size])
                rest = rest[size:]
                await asyncio.sleep(size / bytes_per_s)
            await writer.drain()


class _Connection:
    """Both ends of one connection, and the requests of it that wait for an answer."""

    def __init__(
        self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, *, kafka: bool
    ) -> None:
        self._ends = (client, server)
        self._kafka = kafka
        self._asked: deque[int] = deque()

    async def piece(self, reader: asyncio.StreamReader) -> bytes:
        """The next piece, empty at the end."""
        if not self._kafka:
            return await reader.read(_PIECE_BYTES)
        try:
            size = await reader.readexactly(4)
            return size + await reader.readexactly(int.from_bytes(size))
        except asyncio.IncompleteReadError as error:
            # the rest of a message that was cut is nobody's
            if error.partial:
                raise
            return b""

    def ask(self, request: bytes) -> None:
        """Notes a request that an answer will come for."""
        if self._kafka:
            self._asked.append(int.from_bytes(request[4:6], signed=True))

    def answered(self) -> int:
        """The API key of the request whose answer comes now; -1 where there is none."""
        return self._asked.popleft() if self._asked else -1

    def reset(self) -> None:
        """RST to both ends."""
        for end in self._ends:
            _reset(end)

    def close(self) -> None:
        """FIN to both ends."""
        for end in self._ends:
            end.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lane:
    """One direction of one connection, with the pieces under way and when each arrived."""

    direction: Direction
    connection: _Connection
    waiting: asyncio.Queue[tuple[float, bytes]] = field(
        default_factory=lambda: asyncio.Queue(_WAITING_PIECES)
    )


async def _take(lane: _Lane, reader: asyncio.StreamReader) -> None:
    """Reads one direction until its sender has ended."""
    clock = asyncio.get_running_loop().time
    while True:
        piece = await lane.connection.piece(reader)
        if piece and lane.direction == "requests":
            lane.connection.ask(piece)
        await lane.waiting.put((clock(), piece))
        if not piece:
            return


def _reset(writer: asyncio.StreamWriter) -> None:
    bound = writer.get_extra_info("socket")
    if bound is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            # zero seconds of lingering: what was not sent is thrown away, and RST sent for FIN
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
