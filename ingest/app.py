"""Builds every object once, runs the receiver until it is told to stop, and closes in reverse."""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
import structlog

from ingest import drift_file
from ingest.admin import key_ages, receiver_admin
from ingest.contract.eventlog import FILE_NAME, EventLog, LogFileError
from ingest.contract.operating.admin import bound_socket, listening
from ingest.contract.operating.environment import SettingsError
from ingest.contract.topics import ingest_topics
from ingest.delivering import topic_admin
from ingest.delivering.delivery import Delivery
from ingest.delivering.embedded import EmbeddedLog
from ingest.delivering.kafka import KafkaLog
from ingest.delivering.port import Log
from ingest.drift import Drift
from ingest.intake import Intake
from ingest.listener import receiving
from ingest.metrics import Metrics
from ingest.receiver import Limits, Receiver
from ingest.settings import HttpSettings, Settings
from ingest.tenants_file import Directory
from ingest.tls import keep_current, server_context
from ingest.verifying.jwks import KeySource
from ingest.verifying.tenants import HourlyAllowance
from ingest.verifying.verifier import Verifier

log = structlog.get_logger(__name__)

_TOPIC_CHECK_RETRY_S = 5.0
_DRIFT_EVERY_S = 2.0
_GC_THRESHOLD = 20_000
_KEYS_STALE_AFTER_REFRESHES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the two listeners are, as `host:port`."""

    public: str
    admin: str


async def serve(settings: Settings, directory: Directory) -> None:
    """Receives until SIGTERM or SIGINT. Raises SettingsError if it cannot begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, directory) as addresses:
        quieten_garbage_collector()
        log.info("receiving", public=addresses.public, admin=addresses.admin)
        await stop.wait()
        log.info("stopping")
    log.info("stopped")


@contextlib.asynccontextmanager
async def running(settings: Settings, directory: Directory) -> AsyncIterator[Addresses]:
    """A receiver that listens while the block runs. Raises SettingsError before it listens."""
    async with contextlib.AsyncExitStack() as stack:
        public = stack.enter_context(bound_socket(settings.http.host, settings.http.port))
        admin = stack.enter_context(bound_socket(settings.admin.host, settings.admin.port))
        addresses = Addresses(public=_address(public), admin=_address(admin))
        tls = _tls(settings.http)
        metrics = Metrics()
        durable_log = _open_log(settings)
        stack.push_async_callback(durable_log.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        keys = _key_sources(settings, directory, session)
        drift = Drift()
        metrics.watch_drift(drift.seen)
        await stack.enter_async_context(
            drift_file.keeping(
                drift, settings.data_dir / drift_file.FILE_NAME, every_s=_DRIFT_EVERY_S
            )
        )
        receiver = _receiver(settings, directory, keys, durable_log, metrics, drift)
        kept = {
            issuer: keys[issuer]
            for issuer in (settings.live_events.issuer, *sorted(directory.pinned_platforms))
        }
        await _start_background(stack, settings, kept, tls)
        admin_app = receiver_admin(
            metrics=metrics,
            log=durable_log,
            keys=kept,
            stale_after_s=_KEYS_STALE_AFTER_REFRESHES * settings.verify.keys_refresh_s,
        )
        metrics.watch_keys(lambda: key_ages(kept))
        _warn_of_beta(directory)
        await stack.enter_async_context(listening(admin_app, admin))
        await stack.enter_async_context(
            receiving(
                receiver,
                metrics,
                public,
                tls=tls,
                shutdown_timeout_s=settings.http.shutdown_timeout_s,
            )
        )
        yield addresses


def _open_log(settings: Settings) -> Log:
    if settings.kafka.bootstrap_servers is not None:
        return KafkaLog(
            client_options=settings.kafka.client_options(),
            publish_timeout_s=settings.publish.timeout_s,
        )
    path = settings.data_dir / FILE_NAME
    try:
        file = EventLog.open(path, max_bytes=settings.eventlog.max_bytes)
    except LogFileError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(
            f"FOREBAY_DATA_DIR: {settings.data_dir} cannot be written: {error.strerror}"
        ) from None
    return EmbeddedLog(file, retention_s=settings.eventlog.retention_hours * 3600)


def _key_sources(
    settings: Settings, directory: Directory, session: aiohttp.ClientSession
) -> dict[str, KeySource]:
    urls = {**directory.platforms, settings.live_events.issuer: settings.live_events.jwks_url}
    return {
        issuer: KeySource(issuer=issuer, url=url, session=session) for issuer, url in urls.items()
    }


def _receiver(
    settings: Settings,
    directory: Directory,
    keys: Mapping[str, KeySource],
    durable_log: Log,
    metrics: Metrics,
    drift: Drift,
) -> Receiver:
    allowance = HourlyAllowance(settings.quarantine.tenant_unknown_per_hour)
    live_events = settings.live_events.issuer
    verifier = Verifier(
        keys={
            "live-events": {live_events: keys[live_events]},
            "pns": {issuer: keys[issuer] for issuer in directory.platforms},
        },
        tenants=directory.tenants,
        leeway_s=settings.verify.leeway_s,
        may_keep_unknown_tenant=allowance.passes,
        on_ignored_members=metrics.ignored_members,
    )
    intake = Intake(
        verifier=verifier,
        delivery=Delivery(durable_log),
        metrics=metrics,
        topic_prefix=settings.topics.prefix,
        drift=drift,
    )
    limits = Limits(
        body_timeout_s=settings.http.body_timeout_s, max_in_flight=settings.http.max_in_flight
    )
    return Receiver(intake=intake, metrics=metrics, limits=limits)


async def _start_background(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    keys: Mapping[str, KeySource],
    tls: ssl.SSLContext | None,
) -> None:
    """Starts what runs beside the requests, and sees to its end."""
    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    started = [
        tasks.create_task(source.keep_fresh(settings.verify.keys_refresh_s))
        for source in keys.values()
    ]
    cert_file, key_file = settings.http.tls_cert_file, settings.http.tls_key_file
    if tls is not None and cert_file is not None and key_file is not None:
        started.append(tasks.create_task(keep_current(tls, cert_file, key_file)))
    if settings.kafka.bootstrap_servers is not None:
        started.append(tasks.create_task(_name_missing_topics(settings)))
    for task in started:
        stack.callback(task.cancel)


async def _name_missing_topics(settings: Settings) -> None:
    """Says once, as soon as Kafka answers, which topics are missing; their events get 503."""
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


def _tls(settings: HttpSettings) -> ssl.SSLContext | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return server_context(settings.tls_cert_file, settings.tls_key_file)


def _warn_of_beta(directory: Directory) -> None:
    if directory.unpinned:
        log.warning(
            "events of Canvas beta are admitted too: these tenants pin no subscription_ids",
            tenants=list(directory.unpinned),
        )


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"{host}:{port}"
