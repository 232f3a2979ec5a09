"""Judges deferred tokens once keys can be had again, by the time at which each was received."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection

import structlog

from ingest.errors import NotDurable, Refusal, Rejection, Uncheckable
from ingest.intake import Intake
from ingest.shared.logs import place_of
from ingest.spool.files.rows import HeldToken
from ingest.spool.spool import Spool
from ingest.verifying.jwks import KeySource, KeysUnavailable

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0
_LONGEST_PAUSE_S = 30.0
_AT_ONCE = 200


class DeferredVerification:
    """Takes deferred tokens to where they belong; forgets each only then."""

    def __init__(self, spool: Spool, intake: Intake, keys: Collection[KeySource]) -> None:
        self._spool = spool
        self._intake = intake
        self._keys = keys
        self._done: list[HeldToken] = []
        self._refused: Counter[str] = Counter()

    async def run(self) -> None:
        """Looks for tokens that can be judged until it is cancelled."""
        pause_s = _LOOK_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            is_worth_it = True
            with contextlib.suppress(NotDurable):  # the disk, which the spool has logged
                await self._forget()
                if self._spool.has_tokens:
                    is_worth_it = await self.verify_all()
            pause_s = _LOOK_EVERY_S if is_worth_it else min(2 * pause_s, _LONGEST_PAUSE_S)

    async def verify_all(self) -> bool:
        """Judges every token for whose issuer keys can be had. Raises NotDurable.

        Keys are fetched after the last of them came in, so that what no key fits has none. Whether
        that is worth while again soon: not where most were read only to wait for another issuer's.
        """
        last_id = await self._spool.last_token_id()
        if not await self._refresh():
            return True
        judged = read = position = 0
        self._refused.clear()
        while chunk := await self._spool.read_tokens(after=position, limit=_AT_ONCE):
            due = [held for held in chunk if held.id <= last_id]
            judged += await self._verify(due)
            read += len(due)
            position = chunk[-1].id
            if len(due) < len(chunk):
                break
        if judged:
            log.info("deferred events verified", events=judged, refused=dict(self._refused))
        return judged >= read // 2

    async def _refresh(self) -> bool:
        """Whether any issuer's keys could be fetched."""
        fetched = await asyncio.gather(*map(_fetched, self._keys))
        return any(fetched)

    async def _verify(self, due: list[HeldToken]) -> int:
        judged = await asyncio.gather(*map(self._judge, due))
        done = [held for held, is_done in zip(due, judged, strict=True) if is_done]
        self._done += done
        await self._forget()
        return len(done)

    async def _judge(self, held: HeldToken) -> bool:
        """Whether the token is done with: published, quarantined or refused."""
        try:
            await self._intake.accept_deferred(held.request)
        except Rejection as rejection:
            self._refused[rejection.reason] += 1
        except (Refusal, Uncheckable):
            return False
        except Exception as error:
            # one token that finds a bug of ours must not keep all others from being judged
            log.error(
                "deferred event cannot be verified, it is kept",
                cause=type(error).__name__,
                at=place_of(error),
            )
            return False
        return True

    async def _forget(self) -> None:
        """What is done with is counted already: until the disk lets go it must not come again."""
        while self._done:
            part = self._done[:_AT_ONCE]
            await self._spool.forget_tokens(part, when_gone=self._done.remove)


async def _fetched(keys: KeySource) -> bool:
    try:
        await keys.refresh()
    except KeysUnavailable:
        return False
    except Exception as error:
        # tokens can wait until it is put right, but new events need this process
        log.error("keys cannot be fetched", cause=type(error).__name__, at=place_of(error))
        return False
    return True
