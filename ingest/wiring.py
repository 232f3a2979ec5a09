"""Builds what events pass through, once, and closes it in reverse."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.contract.eventlog.logfile import LogFileError
from ingest.contract.topics import ingest_topics
from ingest.intake import Intake
from ingest.observing import drift_store, tenants_seen_store
from ingest.observing.drift import Drift
from ingest.observing.drift_store import DriftStore
from ingest.observing.metrics import Metrics
from ingest.observing.tenants_seen import TenantsSeen
from ingest.observing.tenants_seen_store import TenantsSeenStore
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
from ingest.verifying.key_sources import KeysByEndpoint, KeySources
from ingest.verifying.tenant_rates import TenantRates
from ingest.verifying.tenants import HourlyAllowance
from ingest.verifying.tenants_file import Directory
from ingest.verifying.tenants_reload import TenantsReload
from ingest.verifying.unpinned import Keeping, Unpinned
from ingest.verifying.verifier import Verifier

_DRIFT_EVERY_S = 2.0
_SEEN_EVERY_S = 2.0
_UNPINNED_SHARE = 1 / 2
"""Of quarantine's bytes an hour, what events that no tenant pins may take."""
_CONNECT_WITHIN_S = 5.0
"""How long the start waits for Kafka; events that come before it answers go into the spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything between a request and the log. `keys` are those of issuers that a tenant names;
    `tenants` has the directory in use, and who follows when it changes.

    `background` runs what none of it can do without, and whatever else is started with it.
    """

    metrics: Metrics
    log: Log
    spool: Spool
    keys: Mapping[str, KeySource]
    intake: Intake
    tenants: TenantsReload
    background: Background


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
        drift, seen = Drift(), TenantsSeen()
        store = _drift_store(settings, metrics, drift)
        stack.push_async_callback(store.close)
        seen_store = _tenants_seen_store(settings, metrics, seen)
        stack.push_async_callback(seen_store.close)
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
        tenants = _tenants(settings, directory, keys, metrics)
        judge = _judge(settings, tenants, keys, seen, metrics)
        intake = _intake(settings, tenants, judge, publisher, spool, metrics, drift)
        deferred_verification = DeferredVerification(spool, intake, keys.pinned.values())
        background.start("drift store", store.run)
        background.start("tenants seen store", seen_store.run)
        background.start("deferred verification", deferred_verification.run, needed=True)
        yield Parts(
            metrics=metrics,
            log=log,
            spool=spool,
            keys=keys.pinned,
            intake=intake,
            tenants=tenants,
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
) -> AsyncIterator[KeySources]:
    """The key sources of every issuer that an endpoint takes, while the block runs.

    With `metrics`, which count failures of it, they begin with what the last process had fetched.
    """
    live = settings.live_events
    async with client_session() as session:

        def made(issuer: str, url: str) -> KeySource:
            return KeySource(
                issuer=issuer,
                url=url,
                session=session,
                max_age_s=settings.verify.keys_max_age_s,
                kept=_kept_keys(settings, metrics, issuer, url),
            )

        keys = KeySources((live.issuer, live.jwks_url), made)
        keys.follow(directory)
        try:
            yield keys
        finally:
            keys.close()


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
    unpinned: Unpinned | None = None,
) -> Verifier:
    """A verifier for the tenants of the directory, with these keys."""
    return Verifier(
        keys=keys,
        tenants=directory.tenants,
        leeway_s=settings.verify.leeway_s,
        may_keep_unknown_tenant=may_keep_unknown_tenant,
        on_ignored_members=on_ignored_members,
        unpinned=unpinned,
    )


def _drift_store(settings: Settings, metrics: Metrics, drift: Drift) -> DriftStore:
    metrics.watch_drift(drift.seen)
    file = settings.data_dir / drift_store.FILE_NAME
    return DriftStore(drift, file, every_s=_DRIFT_EVERY_S, failed=metrics.state_file_failed)


def _tenants_seen_store(
    settings: Settings, metrics: Metrics, seen: TenantsSeen
) -> TenantsSeenStore:
    file = settings.data_dir / tenants_seen_store.FILE_NAME
    return TenantsSeenStore(seen, file, every_s=_SEEN_EVERY_S, failed=metrics.state_file_failed)


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
    directory.warn_of_little_room(limits.max_bytes)
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


def _tenants(
    settings: Settings, directory: Directory, keys: KeySources, metrics: Metrics
) -> TenantsReload:
    """The directory in use. Keys follow it first: whom it admits must have some."""
    tenants = TenantsReload(settings.tenants_file, directory, failed=metrics.tenants_reload_failed)
    tenants.follow(keys.follow)
    metrics.tenants_are(directory.names)
    tenants.follow(lambda now: metrics.tenants_are(now.names))
    return tenants


def _judge(
    settings: Settings,
    tenants: TenantsReload,
    keys: KeySources,
    seen: TenantsSeen,
    metrics: Metrics,
) -> Verifier:
    """The verifier of what comes in. It follows the tenants file."""
    keeping = None
    if settings.quarantine.keep_unpinned:
        bytes_per_hour = int(_UNPINNED_SHARE * _quarantine_bytes(settings))
        keeping = Keeping(bytes_per_hour=bytes_per_hour, leeway_s=settings.verify.leeway_s)
    allowance = HourlyAllowance(settings.quarantine.tenant_unknown_per_hour)
    judge = verifier(
        settings,
        tenants.directory,
        keys.by_endpoint,
        may_keep_unknown_tenant=allowance.passes,
        on_ignored_members=metrics.ignored_members,
        unpinned=Unpinned(seen, keeping),
    )
    tenants.follow(lambda now: judge.admit(now.tenants))
    return judge


def _intake(
    settings: Settings,
    tenants: TenantsReload,
    judge: Verifier,
    publisher: Publisher,
    spool: Spool,
    metrics: Metrics,
    drift: Drift,
) -> Intake:
    rates = TenantRates(settings.verify.tenant_events_per_s)
    deferred = Deferred(spool, max_bytes=settings.spool.deferred_max_bytes)
    tenants.follow(lambda now: rates.tenants_are(now.names))
    tenants.follow(lambda now: deferred.tenants_are(now.names))
    return Intake(
        verifier=judge,
        tenant_rates=rates,
        publisher=publisher,
        deferred=deferred,
        metrics=metrics,
        topic_prefix=settings.topics.prefix,
        drift=drift,
        quarantine_room=_quarantine_room(settings),
    )


def _quarantine_room(settings: Settings) -> TokenBucket:
    """What quarantine may take. It leaves at least half of the embedded log to events: at once an
    eighth of the log at most, and three eighths over the time that records stay in it."""
    per_s = settings.quarantine.max_bytes_per_hour / 3600
    if settings.kafka.bootstrap_servers is None:
        log = settings.eventlog
        per_s = min(per_s, log.max_bytes * 3 / 8 / (log.retention_hours * 3600))
    return TokenBucket(burst=_quarantine_bytes(settings), per_s=per_s)


def _quarantine_bytes(settings: Settings) -> int:
    """What quarantine may take at once."""
    if settings.kafka.bootstrap_servers is None:
        return min(settings.quarantine.max_bytes_per_hour, settings.eventlog.max_bytes // 8)
    return settings.quarantine.max_bytes_per_hour
