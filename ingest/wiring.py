"""Builds what events pass through, once, and closes it in reverse."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.contract.eventlog.logfile import LogFileError
from ingest.contract.topics import ingest_topics
from ingest.intake import Intake
from ingest.observing import drift_store
from ingest.observing.drift import Drift
from ingest.observing.metrics import Metrics
from ingest.publishing.drainer import Drainer
from ingest.publishing.embedded import EmbeddedLog
from ingest.publishing.kafka.log import KafkaLog
from ingest.publishing.log import Log
from ingest.publishing.publisher import Publisher
from ingest.publishing.router import Router
from ingest.settings import Settings
from ingest.shared.background import Background
from ingest.shared.environment import SettingsError
from ingest.spool.deferred import Deferred
from ingest.spool.directory import SpoolDirectory
from ingest.spool.spool import Spool, SpoolLimits
from ingest.verify_deferred import DeferredVerification
from ingest.verifying.jwks import KeySource
from ingest.verifying.tenants import HourlyAllowance
from ingest.verifying.tenants_file import Directory
from ingest.verifying.verifier import Verifier

_DRIFT_EVERY_S = 2.0
_CONNECT_WITHIN_S = 5.0
"""How long the start waits for Kafka; events that come before it answers go into the spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything between a request and the log. `keys` are those of issuers that a tenant names."""

    metrics: Metrics
    log: Log
    spool: Spool
    keys: Mapping[str, KeySource]
    intake: Intake
    deferred_verification: DeferredVerification


@contextlib.asynccontextmanager
async def assembled(settings: Settings, directory: Directory) -> AsyncIterator[Parts]:
    """The parts while the block runs; what they took is durable then. Raises SettingsError."""
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        spool = _open_spool(settings, metrics)
        stack.push_async_callback(spool.close)
        background = Background()
        log = _open_log(settings)
        stack.push_async_callback(log.close)
        await stack.enter_async_context(background)
        if isinstance(log, KafkaLog):
            background.start("kafka publisher", log.run, needed=True)
            await log.connected(_CONNECT_WITHIN_S)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        keys = _key_sources(settings, directory, session)
        publisher = _publisher(settings, stack, background, log, spool, metrics)
        drift = Drift()
        metrics.watch_drift(drift.seen)
        file = settings.data_dir / drift_store.FILE_NAME
        await stack.enter_async_context(drift_store.keeping(drift, file, every_s=_DRIFT_EVERY_S))
        intake = _intake(settings, directory, keys, publisher, spool, metrics, drift)
        pinned = (settings.live_events.issuer, *sorted(directory.pinned_platforms))
        kept = {issuer: keys[issuer] for issuer in pinned}
        yield Parts(
            metrics=metrics,
            log=log,
            spool=spool,
            keys=kept,
            intake=intake,
            deferred_verification=DeferredVerification(spool, intake, kept.values()),
        )


def _open_log(settings: Settings) -> KafkaLog | EmbeddedLog:
    if settings.kafka.bootstrap_servers is not None:
        return KafkaLog(
            client_options=settings.kafka.client_options(),
            budget_s=settings.publish.timeout_s,
            topics=ingest_topics(settings.topics.prefix),
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


def _open_spool(settings: Settings, metrics: Metrics) -> Spool:
    limits = SpoolLimits(
        max_bytes=settings.spool.max_bytes,
        pns_reserve_bytes=settings.spool.pns_reserve_bytes,
        deferred_max_bytes=settings.spool.deferred_max_bytes,
        alarm_age_s=settings.spool.alarm_age_s,
    )
    path = settings.spool_dir
    try:
        directory, opening = SpoolDirectory.open(path, reserve_bytes=limits.pns_reserve_bytes)
    except LogFileError as error:
        raise SettingsError(str(error)) from None
    except (OSError, sqlite3.Error) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        name = "FOREBAY_SPOOL__DIR" if settings.spool.dir else "FOREBAY_DATA_DIR"
        raise SettingsError(f"{name}: no spool can be opened in {path}: {cause}") from None
    return Spool(directory, opening, limits, ledger=metrics.ledger)


def _publisher(
    settings: Settings,
    stack: contextlib.AsyncExitStack,
    background: Background,
    durable_log: Log,
    spool: Spool,
    metrics: Metrics,
) -> Publisher:
    """With Kafka the spool stands in for it; the embedded log is on a disk of ours itself."""
    if settings.kafka.bootstrap_servers is None:
        return Publisher(durable_log)
    router = Router()
    drainer = Drainer(
        spool, durable_log, router, ledger=metrics.ledger, prefix=settings.topics.prefix
    )
    background.start("drainer", drainer.run, needed=True)
    stack.push_async_callback(drainer.stop)
    return Publisher(durable_log, spool, router)


def _intake(
    settings: Settings,
    directory: Directory,
    keys: Mapping[str, KeySource],
    publisher: Publisher,
    spool: Spool,
    metrics: Metrics,
    drift: Drift,
) -> Intake:
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
    return Intake(
        verifier=verifier,
        publisher=publisher,
        deferred=Deferred(spool),
        metrics=metrics,
        topic_prefix=settings.topics.prefix,
        drift=drift,
    )
