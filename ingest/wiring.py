"""Builds what events pass through, once, and closes it in reverse."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ingest.contract.envelope import Source
from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.contract.eventlog.logfile import LogFileError
from ingest.contract.topics import ingest_topics
from ingest.intake import Intake
from ingest.observing import drift_store
from ingest.observing.drift import Drift
from ingest.observing.drift_store import DriftStore
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
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.limits import SpoolLimits
from ingest.spool.spool import Spool
from ingest.storage.token_bucket import TokenBucket
from ingest.verify_deferred import DeferredVerification
from ingest.verifying.jwks import KeySource, client_session
from ingest.verifying.kept_keys import KeptKeys
from ingest.verifying.tenant_rates import TenantRates
from ingest.verifying.tenants import HourlyAllowance
from ingest.verifying.tenants_file import Directory
from ingest.verifying.verifier import Verifier

_DRIFT_EVERY_S = 2.0
_CONNECT_WITHIN_S = 5.0
"""How long the start waits for Kafka; events that come before it answers go into the spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything between a request and the log. `keys` are those of issuers that a tenant names.

    `background` runs what none of it can do without, and whatever else is started with it.
    """

    metrics: Metrics
    log: Log
    spool: Spool
    keys: Mapping[str, KeySource]
    intake: Intake
    background: Background


KeysByEndpoint = Mapping[Source, Mapping[str, KeySource]]
"""For each endpoint its issuers, and where their keys are."""


@contextlib.asynccontextmanager
async def assembled(settings: Settings, directory: Directory) -> AsyncIterator[Parts]:
    """The parts while the block runs; what they took is durable then. Raises SettingsError."""
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        spool = _open_spool(settings, metrics)
        stack.push_async_callback(spool.close)
        log = _open_log(settings)
        stack.push_async_callback(log.close)
        keys = await stack.enter_async_context(key_sources(settings, directory, metrics))
        drift = Drift()
        store = _drift_store(settings, metrics, drift)
        stack.push_async_callback(store.close)
        background = await stack.enter_async_context(
            Background(restarted=metrics.background_restarted)
        )
        background.start("spool maintenance", spool.run, needed=True)
        if isinstance(log, EmbeddedLog):
            background.start("event log maintenance", log.run, needed=True)
        if isinstance(log, KafkaLog):
            background.start("kafka publisher", log.run, needed=True)
            await log.connected(_CONNECT_WITHIN_S)
        publisher = _publisher(settings, stack, background, log, spool, metrics)
        intake = _intake(settings, directory, keys, publisher, spool, metrics, drift)
        pinned = _pinned(keys, directory)
        deferred_verification = DeferredVerification(spool, intake, pinned.values())
        background.start("drift store", store.run)
        background.start("deferred verification", deferred_verification.run, needed=True)
        yield Parts(
            metrics=metrics,
            log=log,
            spool=spool,
            keys=pinned,
            intake=intake,
            background=background,
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


@contextlib.asynccontextmanager
async def key_sources(
    settings: Settings, directory: Directory, metrics: Metrics | None = None
) -> AsyncIterator[KeysByEndpoint]:
    """The key sources of every issuer that an endpoint takes, while the block runs.

    With `metrics`, which count failures of it, they begin with what the last process had fetched.
    """
    live = settings.live_events
    urls: Mapping[Source, Mapping[str, str]] = {
        "live-events": {live.issuer: live.jwks_url},
        "pns": directory.platforms,
    }
    async with client_session() as session:
        made = partial(KeySource, session=session, max_age_s=settings.verify.keys_max_age_s)
        keys = {
            source: {
                issuer: made(
                    issuer=issuer, url=url, kept=_kept_keys(settings, metrics, issuer, url)
                )
                for issuer, url in of.items()
            }
            for source, of in urls.items()
        }
        sources = [each for of in keys.values() for each in of.values()]
        for each in sources:
            each.recall()
        try:
            yield keys
        finally:
            for each in sources:
                each.close()


def _kept_keys(
    settings: Settings, metrics: Metrics | None, issuer: str, url: str
) -> KeptKeys | None:
    if metrics is None:
        return None
    return KeptKeys.of(settings.data_dir, issuer, url, failed=metrics.state_file_failed)


def verifier(
    settings: Settings,
    directory: Directory,
    keys: KeysByEndpoint,
    *,
    may_keep_unknown_tenant: Callable[[float, str | None], bool],
    on_ignored_members: Callable[[int], None] = lambda count: None,
) -> Verifier:
    """A verifier for the tenants of the directory, with these keys."""
    return Verifier(
        keys=keys,
        tenants=directory.tenants,
        leeway_s=settings.verify.leeway_s,
        may_keep_unknown_tenant=may_keep_unknown_tenant,
        on_ignored_members=on_ignored_members,
    )


def _pinned(keys: KeysByEndpoint, directory: Directory) -> Mapping[str, KeySource]:
    """The key sources by issuer, but for those that no tenant names."""
    return {
        issuer: keys_of
        for source, of in keys.items()
        for issuer, keys_of in of.items()
        if directory.tenants.takes_from(source, issuer)
    }


def _drift_store(settings: Settings, metrics: Metrics, drift: Drift) -> DriftStore:
    metrics.watch_drift(drift.seen)
    file = settings.data_dir / drift_store.FILE_NAME
    return DriftStore(drift, file, every_s=_DRIFT_EVERY_S, failed=metrics.state_file_failed)


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
    metrics.watch_partitions(lambda: len(router.unavailable))
    drainer = Drainer(
        spool, durable_log, router, ledger=metrics.ledger, prefix=settings.topics.prefix
    )
    background.start("drainer", drainer.run, needed=True)
    stack.push_async_callback(drainer.stop)
    return Publisher(durable_log, spool, router)


def _intake(
    settings: Settings,
    directory: Directory,
    keys: KeysByEndpoint,
    publisher: Publisher,
    spool: Spool,
    metrics: Metrics,
    drift: Drift,
) -> Intake:
    allowance = HourlyAllowance(settings.quarantine.tenant_unknown_per_hour)
    return Intake(
        verifier=verifier(
            settings,
            directory,
            keys,
            may_keep_unknown_tenant=allowance.passes,
            on_ignored_members=metrics.ignored_members,
        ),
        tenant_rates=TenantRates(settings.verify.tenant_events_per_s),
        publisher=publisher,
        deferred=Deferred(spool, max_bytes=settings.spool.deferred_max_bytes),
        metrics=metrics,
        topic_prefix=settings.topics.prefix,
        drift=drift,
        quarantine_room=_quarantine_room(settings),
    )


def _quarantine_room(settings: Settings) -> TokenBucket:
    """What quarantine may take. It leaves at least half of the embedded log to events: at once an
    eighth of the log at most, and three eighths over the time that records stay in it."""
    burst = settings.quarantine.max_bytes_per_hour
    per_s = burst / 3600
    if settings.kafka.bootstrap_servers is None:
        log = settings.eventlog
        burst = min(burst, log.max_bytes // 8)
        per_s = min(per_s, log.max_bytes * 3 / 8 / (log.retention_hours * 3600))
    return TokenBucket(burst=burst, per_s=per_s)
