"""Builds what the quarantine commands work with: the log, and a verifier with keys fetched now."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from ingest.contract.eventlog.eventlog import FILE_NAME
from ingest.quarantine.log import EmbeddedQuarantine, Entry, KafkaQuarantine, QuarantineLog
from ingest.settings import Settings
from ingest.shared.background import Background
from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.tenants_file import Directory
from ingest.verifying.verifier import Verifier
from ingest.wiring import key_sources, verifier


@asynccontextmanager
async def open_quarantine(settings: Settings) -> AsyncIterator[QuarantineLog]:
    """Kafka's quarantine if the settings name a Kafka, else the embedded log's."""
    async with Background() as background:
        log = _quarantine(settings, background)
        try:
            yield log
        finally:
            await log.close()


def _quarantine(settings: Settings, background: Background) -> QuarantineLog:
    prefix = settings.topics.prefix
    if settings.kafka.bootstrap_servers is None:
        path = settings.data_dir / FILE_NAME
        return EmbeddedQuarantine(path, prefix, max_bytes=settings.eventlog.max_bytes)
    return KafkaQuarantine(
        settings.kafka.client_options(),
        prefix,
        publish_timeout_s=settings.publish.timeout_s,
        background=background,
    )


@asynccontextmanager
async def verifier_for(
    settings: Settings, directory: Directory, entries: Sequence[Entry]
) -> AsyncIterator[Verifier]:
    """A verifier with keys fetched now, from the issuers that the entries may be of."""
    needed = {entry.kept.source for entry in entries if entry.kept.token is not None}
    async with key_sources(settings, directory) as keys:
        asked = [
            keys_of
            for source in needed
            for issuer, keys_of in keys.by_endpoint[source].items()
            if source == "live-events" or issuer in directory.pinned_platforms
        ]
        await asyncio.gather(*map(_fetch, asked))
        yield verifier(
            settings, directory, keys.by_endpoint, may_keep_unknown_tenant=lambda now_s, of: True
        )


async def _fetch(keys: KeySource) -> None:
    with suppress(KeysUnavailable):  # the verifier sees it, and says it of each token
        await keys.refresh()
