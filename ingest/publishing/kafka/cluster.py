"""The Kafka cluster: its metadata, connections to its brokers, and the two requests we make of it.

aiokafka's producer cannot let go of one batch without the others: after a timeout of one partition
its sender may hang, and it sends what nobody waits for any more. So this goes by the parts that the
producer is made of, which aiokafka does not document: connections, requests and the record builder.
`tests/integration/kafka/test_client.py` is the first to fail where a release changes them.

Source: Apache Kafka protocol guide: Metadata (key 3), Produce (key 0).
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import for_code
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from ingest.publishing.log import Partition

NO_LEADER = -1

_ALL_IN_SYNC = -1  # `acks`
_MOST_ASKED = 6
_MAX_IDLE_MS = 540_000  # brokers close what is idle for ten minutes


class Silent(Exception):
    """No broker answers; the text says what came instead."""


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Topic(NamedTuple):
    """A topic as metadata has it: the leader's node id by partition, or an error's name."""

    leaders: Mapping[int, int]
    error: str | None = None


class Connection:
    """One connection to one broker, which answers one request after another."""

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        """Whether the broker has not closed it; nobody knows more."""
        return bool(self._connection.connected())

    async def produce(
        self, batches: Mapping[Partition, bytes], *, broker_timeout_s: float
    ) -> dict[Partition, str | None]:
        """What the broker says of each batch: None if all in-sync replicas have it, or an error.

        The broker answers once it knows of all, or after its timeout. Raises OSError, TimeoutError
        or KafkaError; nobody knows then which batches the broker has.
        """
        by_topic: dict[str, list[tuple[int, bytes]]] = {}
        for (topic, number), batch in batches.items():
            by_topic.setdefault(topic, []).append((number, batch))
        timeout_ms = int(broker_timeout_s * 1000)
        request = ProduceRequest(None, _ALL_IN_SYNC, timeout_ms, list(by_topic.items()))
        response = await self._connection.send(request)
        return {
            Partition(topic, number): _error(code)
            for topic, partitions in response.topics
            for number, code, *_ in partitions
        }

    async def metadata(self, topics: Collection[str]) -> Any:
        """The broker's answer. Raises as `produce`. Makes no topic by asking for it."""
        return await self._connection.send(
            MetadataRequest(list(topics), allow_auto_topic_creation=False)
        )

    def close(self) -> None:
        """Closes it at once; what is under way fails."""
        self._connection.close()


_Answer = tuple[Connection, Any]


class Cluster:
    """Who leads what, as of the latest `refresh`. `client_options` are those of aiokafka's clients.

    Connecting, and any one request, may take `timeout_s`.
    """

    def __init__(self, client_options: Mapping[str, Any], *, timeout_s: float) -> None:
        options = dict(client_options)
        servers = collect_hosts(options.pop("bootstrap_servers"))
        self._first_addresses = [Address(host, port) for host, port, _ in servers]
        self._options = {
            **options,
            "request_timeout_ms": int(timeout_s * 1000),
            "max_idle_ms": _MAX_IDLE_MS,
        }
        self._asked: Connection | None = None
        self.brokers: Mapping[int, Address] = {}
        self.topics: Mapping[str, Topic] = {}

    async def refresh(self, topics: Collection[str]) -> None:
        """Asks for the brokers and the leaders of these topics. Raises Silent."""
        asked, self._asked = self._asked, None
        if asked is not None and asked.is_open:
            try:
                self._learn(await asked.metadata(topics))
            except Exception:  # whatever it answers: the others are asked
                asked.close()
            else:
                self._asked = asked
                return
        self._asked, response = await self._first_answer(topics)
        self._learn(response)

    async def connect(self, node_id: int) -> Connection:
        """A new connection to a broker. Raises OSError, TimeoutError or KafkaError."""
        return await self._connected(self.brokers[node_id])

    def close(self) -> None:
        """Lets go of the connection that `refresh` keeps."""
        if self._asked is not None:
            self._asked.close()

    async def _connected(self, address: Address) -> Connection:
        return Connection(await create_conn(*address, **self._options))

    async def _first_answer(self, topics: Collection[str]) -> _Answer:
        """Asks several brokers at once, since any of them may be the one that hangs."""
        asking = {asyncio.create_task(self._ask(each, topics)) for each in self._addresses()}
        errors: set[str] = set()
        try:
            while asking:
                done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                answered = [task for task in done if task.exception() is None]
                errors |= {type(task.exception()).__name__ for task in done.difference(answered)}
                if answered:
                    asking.update(answered[1:])
                    return answered[0].result()
        finally:
            for task in asking:
                task.cancel()
                task.add_done_callback(_close)
        raise Silent(", ".join(sorted(errors)))

    async def _ask(self, address: Address, topics: Collection[str]) -> _Answer:
        connection = await self._connected(address)
        try:
            return connection, await connection.metadata(topics)
        except BaseException:
            connection.close()
            raise

    def _addresses(self) -> Iterable[Address]:
        return list(dict.fromkeys([*self.brokers.values(), *self._first_addresses]))[:_MOST_ASKED]

    def _learn(self, response: Any) -> None:
        if not response.brokers:
            return  # a broker that has just begun knows nobody yet
        self.brokers = {row[0]: Address(row[1], row[2]) for row in response.brokers}
        self.topics = {
            name: Topic({number: leader for _, number, leader, *_ in partitions}, _error(code))
            for code, name, *_, partitions in response.topics
        }


def _close(asking: "asyncio.Task[_Answer]") -> None:
    """Lets go of what answered second."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result()[0].close()


def _error(code: int) -> str | None:
    return for_code(code).__name__ if code else None
