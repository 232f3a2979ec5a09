"""Nodes of a Kafka cluster on 127.0.0.1, to start, stop, kill and freeze one by one."""

from __future__ import annotations

import atexit
import base64
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka.errors import KafkaUnavailable, PortInUse
from tests.kafka.java import Child, java_command, java_environment, warm_start_options
from tests.kafka.ports import free_ports
from tests.kafka.probe import HOST, brokers_in_service, is_taken
from tests.kafka.properties import Listener, Node, server_properties

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
FORMAT_TIMEOUT_S = 60.0
FORMATS_AT_ONCE = 2
PROBE_INTERVAL_S = 0.05
LOG_TAIL_LINES = 20
PROXIED, GUARDED = "PROXIED", "GUARDED"


class Broker:
    """One node. Its ports and its data stay the same however often it is started.

    Calls block. Starting what runs and stopping what does not are no-ops.
    """

    def __init__(self, node: Node, *, jvm_options: Sequence[str] | None = None) -> None:
        self.node = node
        self._jvm_options = jvm_options
        self._child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of this node alone."""
        return f"{HOST}:{self.node.client_port}"

    @property
    def pid(self) -> int | None:
        """The process id, None unless it runs (a frozen process runs)."""
        return self._child.process.pid if self._child and self._child.is_running else None

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Start, and wait until the node serves; in a cluster that takes a majority of its nodes.

        Raises `PortInUse`, or `KafkaUnavailable` with the end of the log if the node dies or takes
        too long.
        """
        self.launch()
        self.wait_until_ready(timeout_s)

    def launch(self) -> None:
        """Start without waiting. Raises `PortInUse`."""
        if self.pid is not None:
            return
        self.check_ports()
        options = warm_start_options() if self._jvm_options is None else self._jvm_options
        command = java_command("kafka.Kafka", str(self.node.properties_file), options=options)
        self._child = Child(command, log_file=self.node.log_file)
        atexit.register(self.kill)

    def check_ports(self) -> None:
        """Raises `PortInUse` if anything listens on one of its ports."""
        for port in self.node.ports:
            if is_taken(port):
                raise PortInUse(f"port {port} on {HOST} is in use")

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until the node lists itself as in service. Raises `KafkaUnavailable`."""
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            if self.pid is None:
                raise KafkaUnavailable(f"Kafka node {self.node.node_id} died{self._log_tail()}")
            if time.monotonic() > deadline:
                waited = f"is not ready after {timeout_s:g} s"
                raise KafkaUnavailable(f"Kafka node {self.node.node_id} {waited}{self._log_tail()}")
            time.sleep(PROBE_INTERVAL_S)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it in order; kill it if it has not ended in time."""
        self.request_stop()
        self.await_end(timeout_s)

    def request_stop(self) -> None:
        """Ask it to end, and do not wait."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a frozen process would not hear

    def await_end(self, timeout_s: float) -> None:
        """Wait for its end; kill it if that does not come in time."""
        if self._child is None:
            return
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._child.wait()
        self._child = None
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """SIGKILL, as a power cut for this process; what the OS had in its cache survives."""
        self._signal(signal.SIGKILL)
        self.await_end(STOP_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: whatever has arrived meanwhile is worked off."""
        self._signal(signal.SIGCONT)

    def _is_ready(self) -> bool:
        try:
            return self.node.node_id in brokers_in_service(self.node.client_port)
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.is_running:
            self._child.process.send_signal(number)

    def _log_tail(self) -> str:
        log = self.node.log_file.read_text(errors="replace").splitlines()
        return "\n".join([f"; the end of {self.node.log_file}:", *log[-LOG_TAIL_LINES:]])


class Cluster:
    """Brokers 1 to `size` under one directory; formats their storage only if it is new.

    With `client_ports` left out, free ports are chosen once, here. `proxied` adds a way in that
    sends clients to a port where nobody listens yet: put a proxy there (`proxy_routes`). `logins`
    (names and passwords) adds one that asks for a name, so that it can be denied something. Use it
    as a context manager: it starts all nodes, and stops whatever still runs at the end.
    """

    def __init__(
        self,
        *,
        directory: Path,
        size: int = 1,
        client_ports: Sequence[int] | None = None,
        jvm_options: Sequence[str] | None = None,
        proxied: bool = False,
        logins: Mapping[str, str] | None = None,
    ) -> None:
        chosen = free_ports(5 * size, avoid=client_ports or ())
        clients = list(client_ports) if client_ports is not None else chosen[size : 2 * size]
        further = [chosen[2 * size + n :: size] for n in range(size)]
        nodes = [
            Node(
                node_id=node_id,
                client_port=client_port,
                controller_port=controller_port,
                directory=directory.absolute() / f"node-{node_id}",
                listeners=_listeners(ports, proxied=proxied, logins=logins or {}),
            )
            for node_id, client_port, controller_port, ports in zip(
                range(1, size + 1), clients, chosen[:size], further, strict=True
            )
        ]
        self.directory = directory.absolute()
        self.brokers = tuple(Broker(node, jvm_options=jvm_options) for node in nodes)

    @property
    def bootstrap_servers(self) -> str:
        """Comma-separated `host:port` of all nodes."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers)

    @property
    def proxied_servers(self) -> str:
        """Comma-separated `host:port` where the proxies of all nodes are to be."""
        return self._addresses(PROXIED)

    @property
    def guarded_servers(self) -> str:
        """Comma-separated `host:port` of all nodes, for who has a login."""
        return self._addresses(GUARDED)

    @property
    def proxy_routes(self) -> tuple[tuple[int, int], ...]:
        """Per node the port where its proxy must listen, and the one that it must forward to."""
        return tuple((each.advertised_port, each.port) for each in self._listeners(PROXIED))

    def _addresses(self, name: str) -> str:
        return ",".join(f"{HOST}:{each.advertised_port}" for each in self._listeners(name))

    def _listeners(self, name: str) -> list[Listener]:
        every = (each for broker in self.brokers for each in broker.node.listeners)
        return [each for each in every if each.name == name]

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Format what is new, start all nodes together, wait until each serves.

        Raises `PortInUse` or `KafkaUnavailable`; no node is left running then.
        """
        try:
            self._prepare()
            for broker in self.brokers:
                broker.launch()
            deadline = time.monotonic() + timeout_s
            for broker in self.brokers:
                broker.wait_until_ready(max(0.0, deadline - time.monotonic()))
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End all nodes in order; kill those that have not ended in time."""
        for broker in self.brokers:
            broker.request_stop()
        deadline = time.monotonic() + timeout_s
        for broker in self.brokers:
            broker.await_end(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """SIGKILL to all nodes."""
        for broker in self.brokers:
            broker.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        nodes = [broker.node for broker in self.brokers]
        for broker in self.brokers:
            if broker.pid is None:
                broker.check_ports()
        cluster_id = self._kept_cluster_id() or _new_cluster_id()
        for node in nodes:
            node.data_directory.mkdir(parents=True, exist_ok=True)
            node.properties_file.write_text(server_properties(node, nodes))
        with ThreadPoolExecutor(FORMATS_AT_ONCE) as pool:
            new = (node for node in nodes if not node.meta_file.exists())
            for formatted in [pool.submit(_format, node, cluster_id) for node in new]:
                formatted.result()

    def _kept_cluster_id(self) -> str | None:
        """Of the nodes formatted earlier.

        Raises `KafkaUnavailable` if they were another number of nodes.
        """
        kept = sorted(self.directory.glob("node-*/data/meta.properties"))
        if not kept:
            return None
        if len(kept) != len(self.brokers):
            raise KafkaUnavailable(
                f"{self.directory} holds a cluster of {len(kept)}, not of {len(self.brokers)}"
            )
        found = re.search(r"^cluster\.id=(\S+)$", kept[0].read_text(), re.MULTILINE)
        return found[1] if found else None


def _listeners(
    ports: Sequence[int], *, proxied: bool, logins: Mapping[str, str]
) -> tuple[Listener, ...]:
    """A node's further ways in, on three ports that are its own."""
    behind_proxy, of_proxy, guarded = ports
    listeners = []
    if proxied:
        listeners.append(Listener(name=PROXIED, port=behind_proxy, advertised_port=of_proxy))
    if logins:
        listeners.append(
            Listener(name=GUARDED, port=guarded, advertised_port=guarded, logins=logins)
        )
    return tuple(listeners)


def _new_cluster_id() -> str:
    """22 characters of URL-safe base64, as Kafka's own random ids."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _format(node: Node, cluster_id: str) -> None:
    command = java_command(
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster_id}",  # in one word: an id may begin with "-"
        f"--config={node.properties_file}",
        options=warm_start_options(),
    )
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env=java_environment(),
            timeout=FORMAT_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        raise KafkaUnavailable(f"cannot format {node.data_directory}\n{error.stderr}") from error
    except subprocess.TimeoutExpired as error:
        raise KafkaUnavailable(f"formatting {node.data_directory} takes too long") from error
