"""The receiver's admin application: common endpoints, its own checks, the API description."""

from collections.abc import Mapping, Sequence

from aiohttp import web

from ingest.http import openapi
from ingest.observing.metrics import Metrics
from ingest.publishing.log import Log
from ingest.shared.admin_listener import Check, admin_app
from ingest.spool.spool import Spool
from ingest.verifying.jwks import KeySource


def receiver_admin(
    *,
    metrics: Metrics,
    log: Log,
    spool: Spool | None,
    keys: Mapping[str, KeySource],
    stale_after_s: float,
    hosts: Sequence[str],
) -> web.Application:
    """Ready means: can make events durable, in the log or in the spool that stands in for it.

    Keys never make it unready; they only show.
    """

    async def checks() -> Sequence[Check]:
        takes, detail = await log.health()
        if spool is None:
            durable = [Check(name="durable", ok=takes, detail=detail)]
        else:
            has_room, room = spool.health()
            durable = [
                Check(name="log", ok=takes, required=not has_room, detail=detail),
                Check(name="spool", ok=has_room, required=not takes, detail=room),
            ]
        return [
            *durable,
            *(_keys_check(source, stale_after_s) for source in keys.values()),
        ]

    description = openapi.document()

    async def describe(request: web.Request) -> web.Response:
        return web.json_response(description)

    app = admin_app(program="forebay-ingest", registry=metrics.registry, checks=checks, hosts=hosts)
    app.router.add_get("/openapi.json", describe)
    return app


def key_ages(keys: Mapping[str, KeySource]) -> dict[str, float]:
    """Seconds since each issuer's keys were fetched, for those that ever were."""
    ages = {issuer: source.age_s for issuer, source in keys.items()}
    return {issuer: age_s for issuer, age_s in ages.items() if age_s is not None}


def _keys_check(source: KeySource, stale_after_s: float) -> Check:
    name = f"keys of {source.issuer}"
    age_s = source.age_s
    if age_s is None:
        return Check(name=name, ok=False, required=False, detail="never fetched")
    detail = f"fetched {age_s:.0f} s ago"
    return Check(name=name, ok=age_s <= stale_after_s, required=False, detail=detail)
