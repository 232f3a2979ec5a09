"""Runs the receiver until it is told to stop, and closes in reverse."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from ingest.contract.catalogue import catalogue
from ingest.contract.topics import ingest_topics
from ingest.http.admin import key_ages, receiver_admin
from ingest.http.connections import connections_possible
from ingest.http.receiver import Limits, Receiver
from ingest.http.server import receiving
from ingest.http.tls import Certificate
from ingest.observing import alarms
from ingest.observing.alarms import Alarms
from ingest.observing.metrics import Metrics
from ingest.settings import HttpSettings, Settings
from ingest.shared.admin_listener import bound_socket, listening
from ingest.shared.background import Background
from ingest.shared.environment import SettingsError
from ingest.shared.kafka import topic_admin
from ingest.spool.spool import Spool
from ingest.verifying.jwks import KeySource
from ingest.verifying.tenants_file import Directory
from ingest.verifying.tenants_reload import TenantsReload
from ingest.wiring import Parts, assembled

log = structlog.get_logger(__name__)

_TOPIC_CHECK_RETRY_S = 5.0
_LOOK_EVERY_S = 0.2
_GC_THRESHOLD = 20_000
_KEYS_STALE_AFTER_REFRESHES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A receiver: where its two listeners are, as `host:port`, and what runs behind them."""

    public: str
    admin: str
    tenants: TenantsReload
    background: Background


async def serve(settings: Settings, directory: Directory) -> None:
    """Receives until SIGTERM or SIGINT. Raises SettingsError if it cannot begin, and TaskEnded,
    once all is closed in order, if a background task that it needs has ended."""
    stop, loop = _told_to_stop(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # one that comes too early ends nothing
    async with running(settings, directory) as receiver:
        loop.add_signal_handler(signal.SIGHUP, receiver.tenants.ask)
        quieten_garbage_collector()
        log.info(
            "receiving",
            public=receiver.public,
            admin=receiver.admin,
            data_dir=str(settings.data_dir.absolute()),
        )
        await receiver.background.guard(stop.wait())
        log.info("stopping")
    log.info("stopped")


@contextlib.asynccontextmanager
async def running(settings: Settings, directory: Directory) -> AsyncIterator[Running]:
    """A receiver that listens while the block runs. Raises SettingsError before it listens."""
    async with contextlib.AsyncExitStack() as stack:
        public = stack.enter_context(bound_socket(settings.http.host, settings.http.port))
        admin = stack.enter_context(bound_socket(settings.admin.host, settings.admin.port))
        certificate = _certificate(settings.http)
        catalogue()  # later there may be no file descriptor to read it
        parts = await stack.enter_async_context(assembled(settings, directory))
        _start_background(settings, directory, parts, certificate)
        _warn_of_beta(directory)
        parts.tenants.follow(_warn_of_beta)
        parts.metrics.watch_keys(lambda: key_ages(parts.keys))
        parts.metrics.watch_spool(parts.spool.figures)
        await stack.enter_async_context(_admin_listening(settings, parts, admin))
        await stack.enter_async_context(
            receiving(
                _receiver(settings, parts),
                parts.metrics,
                public,
                tls=certificate.context if certificate is not None else None,
                shutdown_timeout_s=settings.http.shutdown_timeout_s,
            )
        )
        yield Running(
            public=_address(public),
            admin=_address(admin),
            tenants=parts.tenants,
            background=parts.background,
        )


async def drained(settings: Settings, directory: Directory, *, timeout_s: float) -> tuple[int, int]:
    """Empties the spool into Kafka without receiving; records and tokens that are left.

    Ends at the timeout, at SIGTERM or SIGINT, or when nothing is left. Raises SettingsError, or
    TaskEnded if a background task that it needs has ended.
    """
    if settings.kafka.bootstrap_servers is None:
        raise SettingsError("FOREBAY_KAFKA__BOOTSTRAP_SERVERS: there is no Kafka to drain into")
    stop = _told_to_stop()
    async with assembled(settings, directory) as parts:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await parts.background.guard(_empty(parts.spool, stop))
        left = parts.spool.figures()
    return left.records, left.tokens


async def _empty(spool: Spool, stop: asyncio.Event) -> None:
    """Waits until the spool is empty, or for `stop`."""
    while spool.has_records or spool.has_tokens:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stop.wait()
                return


def _told_to_stop() -> asyncio.Event:
    """Set at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _admin_listening(
    settings: Settings, parts: Parts, bound: socket.socket
) -> contextlib.AbstractAsyncContextManager[None]:
    with_kafka = settings.kafka.bootstrap_servers is not None
    application = receiver_admin(
        metrics=parts.metrics,
        log=parts.log,
        spool=parts.spool if with_kafka else None,
        keys=parts.keys,
        stale_after_s=_KEYS_STALE_AFTER_REFRESHES * settings.verify.keys_refresh_s,
        hosts=(settings.admin.host, *settings.admin.allowed_hosts),
    )
    return listening(application, bound)


def _receiver(settings: Settings, parts: Parts) -> Receiver:
    def tenant_of_slug(slug: str) -> str | None:
        return parts.tenants.directory.tenants.of_slug(slug)

    return Receiver(
        intake=parts.intake,
        metrics=parts.metrics,
        limits=_limits(settings.http),
        tenant_of_slug=tenant_of_slug,
    )


def _limits(http: HttpSettings) -> Limits:
    return Limits(
        body_timeout_s=http.body_timeout_s,
        max_in_flight=http.max_in_flight,
        handling_timeout_s=http.handling_timeout_s,
        max_body_bytes_in_flight=http.max_body_bytes_in_flight,
        head_timeout_s=http.head_timeout_s,
        max_connections=connections_possible(http.max_connections),
        max_connections_per_address=http.max_connections_per_address,
        trusted_proxies=http.trusted_proxies,
    )


def _start_background(
    settings: Settings, directory: Directory, parts: Parts, certificate: Certificate | None
) -> None:
    """Starts what runs beside the requests, and what they can do without for a while."""
    background = parts.background
    keeping = _KeepingFresh(background, parts.keys, settings.verify.keys_refresh_s)
    keeping.follow(directory)
    parts.tenants.follow(keeping.follow)
    raising = _alarms(settings, directory, parts.metrics)
    parts.tenants.follow(lambda now: raising.tenants_are(now.names, now.with_live_events))
    background.start("alarms", raising.run)
    if settings.tenants_file is not None:
        background.start("tenants reload", parts.tenants.run)
    if certificate is not None:
        reload_tls = partial(certificate.run, parts.metrics.tls_reload_failed)
        background.start("tls reload", reload_tls)
    if settings.kafka.bootstrap_servers is not None:
        background.start("topic check", partial(_name_missing_topics, settings))


class _KeepingFresh:
    """A task for the keys of each issuer that a tenant names, which `keys` has by issuer."""

    def __init__(
        self, background: Background, keys: Mapping[str, KeySource], every_s: float
    ) -> None:
        self._background = background
        self._keys = keys
        self._every_s = every_s
        self._running: dict[str, KeySource] = {}

    def follow(self, directory: Directory) -> None:
        """Stops the tasks of those that have gone, and starts those of new ones."""
        background = self._background
        for issuer, source in list(self._running.items()):
            if self._keys.get(issuer) is not source:
                background.stop(f"keys {issuer}")
                del self._running[issuer]
        for issuer, source in self._keys.items():
            if issuer not in self._running:
                self._running[issuer] = source
                background.start(f"keys {issuer}", partial(source.keep_fresh, self._every_s))


def _alarms(settings: Settings, directory: Directory, metrics: Metrics) -> Alarms:
    raising = Alarms(
        metrics,
        settings.data_dir / alarms.FILE_NAME,
        tenants=directory.names,
        with_live_events=directory.with_live_events,
        silence_s=settings.alarm.silence_hours * 3600,
    )
    raising.recall()
    return raising


async def _name_missing_topics(settings: Settings) -> None:
    """Says once, as soon as Kafka answers, which topics are missing; their events are spooled."""
    while True:
        try:
            there = await topic_admin.existing(settings.kafka.client_options())
        except topic_admin.TopicError:
            await asyncio.sleep(_TOPIC_CHECK_RETRY_S)
            continue
        missing = [name for name in ingest_topics(settings.topics.prefix) if name not in there]
        if missing:
            log.error("topics are missing: run `forebay-ingest topics apply`", topics=missing)
        return


def quieten_garbage_collector() -> None:
    """Requests leave no cycles worth looking for every few hundred objects; start-up's stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


def _certificate(settings: HttpSettings) -> Certificate | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_cert_file, settings.tls_key_file)


def _warn_of_beta(directory: Directory) -> None:
    if directory.unpinned:
        log.warning(
            "events of Canvas beta are admitted too: these tenants pin no subscription_ids",
            tenants=list(directory.unpinned),
        )


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"{host}:{port}"
