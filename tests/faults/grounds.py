"""Where sites are set up: brokers are shared by all cases, the rest is each case's own."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import aiohttp

from tests.emulator.canvas import Canvas
from tests.emulator.key_store import Keys
from tests.emulator.school import School
from tests.faults import kept
from tests.faults.placing import Placing, make_placed
from tests.faults.programs import receiver_part, worker_part
from tests.faults.proxy import Proxy
from tests.faults.readiness import Readiness
from tests.faults.signed_ahead import SignedAhead
from tests.faults.site import Site, running
from tests.faults.watching import Watcher
from tests.faults.witness import Witness
from tests.kafka.broker import Cluster
from tests.support.processes import free_port, make_topics

LOGIN: Final = "receiver"
PASSWORD: Final = "not-a-secret"

Brokers = Literal[0, 1, 2, 3]
"""0 is the embedded log."""

Way = Literal["proxy", "login"]


class Grounds:
    """Starts a cluster when the first case asks for it. Use as an async context manager.

    `quick` cases may use fewer events where the row's point does not depend on their number.
    `load` is the share of their usual rate that cases send which measure.
    """

    def __init__(self, directory: Path, *, quick: bool = False, load: float = 1.0) -> None:
        self.quick = quick
        self.load = load
        self._directory = directory
        self._clusters: dict[Brokers, Cluster] = {}
        self._keys = Keys.generate()
        self._ahead: dict[int, SignedAhead] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for ahead in self._ahead.values():
            ahead.close()
        for cluster in self._clusters.values():
            await asyncio.to_thread(cluster.stop)

    @contextlib.asynccontextmanager
    async def site(
        self,
        seed: int,
        *,
        brokers: Brokers = 1,
        through: Way = "proxy",
        receiver: Mapping[str, str] | None = None,
        worker: Mapping[str, str] | None = None,
        with_worker: bool = True,
        clock: Callable[[], float] = time.time,
        placing: Placing | None = None,
    ) -> AsyncIterator[Site]:
        """A running site whose Canvas is drawn from `seed`.

        `through` says how the receiver reaches Kafka: over `Site.links`, or under a name that can
        be denied something. `receiver` and `worker` are settings laid over the usual ones; `clock`
        is the emulated Canvas's. `placing` says which brokers have which topics.
        """
        cluster = await self._cluster(brokers)
        plot = Plot.new(self._directory, cluster)
        async with contextlib.AsyncExitStack() as stack:
            links = await _links(stack, cluster)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            witness = Witness()
            canvas = await stack.enter_async_context(
                Canvas(school=School.from_seed(seed), keys=self._keys, oracle=witness, clock=clock)
            )
            await _topics(stack, plot, placing)
            port = free_port()
            receiving = receiver_part(
                plot.directory,
                port=port,
                tenants_toml=canvas.tenants_toml(),
                settings={
                    **canvas.receiver_environment(),
                    **plot.receiver_settings(through),
                    **(receiver or {}),
                },
            )
            working = worker_part(
                plot.directory, settings={**plot.worker_settings(), **(worker or {})}
            )
            site = Site(
                canvas=canvas,
                witness=witness,
                receiver=receiving,
                worker=working,
                cluster=cluster,
                links=links,
                prefix=plot.prefix,
                directory=plot.directory,
                url=f"http://127.0.0.1:{port}",
                session=session,
                watcher=Watcher(
                    session, receiver_url=receiving.admin_url, worker_url=working.admin_url
                ),
                readiness=Readiness(
                    session, admin_url=receiving.admin_url, process=lambda: receiving.process
                ),
                ahead=self._signed_ahead(seed),
                load=self.load,
            )
            async with running(site, with_worker=with_worker):
                yield site

    def _signed_ahead(self, seed: int) -> SignedAhead:
        ahead = self._ahead.setdefault(seed, SignedAhead(seed, self._keys))
        ahead.freshen()
        return ahead

    async def _cluster(self, size: Brokers) -> Cluster | None:
        if size == 0:
            return None
        cluster = self._clusters.get(size)
        if cluster is None:
            cluster = Cluster(
                directory=self._directory / f"kafka-{size}",
                size=size,
                proxied=True,
                logins={LOGIN: PASSWORD},
            )
            await asyncio.to_thread(cluster.start)
            self._clusters[size] = cluster
        return cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A site's own place: a directory, and a prefix for topics."""

    prefix: str
    directory: Path
    cluster: Cluster | None

    @classmethod
    def new(cls, parent: Path, cluster: Cluster | None) -> Self:
        """One that nobody has used."""
        prefix = f"faults.{uuid.uuid4().hex[:12]}"
        directory = parent / prefix
        directory.mkdir(parents=True)
        return cls(prefix=prefix, directory=directory, cluster=cluster)

    def receiver_settings(self, through: Way) -> dict[str, str]:
        """The receiver's way to the log."""
        if self.cluster is None:
            return {"FOREBAY_TOPICS__PREFIX": self.prefix}
        if through == "proxy":
            return self.kafka_settings(self.cluster.proxied_servers)
        return {
            **self.kafka_settings(self.cluster.guarded_servers),
            "FOREBAY_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "FOREBAY_KAFKA__SASL_MECHANISM": "PLAIN",
            "FOREBAY_KAFKA__SASL_USERNAME": LOGIN,
            "FOREBAY_KAFKA__SASL_PASSWORD": PASSWORD,
        }

    def worker_settings(self) -> dict[str, str]:
        """The worker's way to the log, past all proxies, and its own name."""
        way = {"FOREBAY_TOPICS__PREFIX": self.prefix}
        if self.cluster is not None:
            way = self.kafka_settings(self.cluster.bootstrap_servers)
        return {**way, "FOREBAY_WORKER__NAME": self.prefix.replace(".", "-")}

    def kafka_settings(self, servers: str) -> dict[str, str]:
        """What every program is told of Kafka."""
        return {
            "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": servers,
            "FOREBAY_TOPICS__PREFIX": self.prefix,
            "FOREBAY_TOPICS__PARTITIONS": "1",
        }


async def _links(stack: contextlib.AsyncExitStack, cluster: Cluster | None) -> list[Proxy]:
    routes = cluster.proxy_routes if cluster is not None else ()
    return [
        await stack.enter_async_context(Proxy(port=port, target_port=target_port, kafka=True))
        for port, target_port in routes
    ]


async def _topics(stack: contextlib.AsyncExitStack, plot: Plot, placing: Placing | None) -> None:
    """Makes the topics now, and takes them away at the end, from brokers that run again."""
    cluster = plot.cluster
    if cluster is not None:
        servers = cluster.bootstrap_servers
        if placing is not None:
            await asyncio.to_thread(make_placed, servers, plot.prefix, placing)
        await asyncio.to_thread(make_topics, plot.kafka_settings(servers))
        stack.push_async_callback(kept.delete_topics, servers, plot.prefix)
        stack.push_async_callback(asyncio.to_thread, _mend, cluster)


def _mend(cluster: Cluster) -> None:
    """Whatever a case has done to the brokers, the next one finds them running."""
    for broker in cluster.brokers:
        broker.resume()
    for broker in cluster.brokers:
        broker.launch()
    for broker in cluster.brokers:
        broker.wait_until_ready()
