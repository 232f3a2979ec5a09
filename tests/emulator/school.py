"""One institution on the emulated Canvas: who it is, and what happens there."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeVar

from tests.emulator.corpus import (
    CaliperExample,
    Corpus,
    EventExample,
    NoticeExample,
    load_corpus,
)
from tests.emulator.messages import LiveEvent as LiveEvent
from tests.emulator.messages import Notice as Notice
from tests.emulator.messages import timed as timed
from tests.emulator.templates import (
    CALIPER,
    DEPLOYMENT_CLAIM,
    METADATA,
    NOTICE_CLAIM,
    VERSION_CLAIM,
    drawn_request,
    drawn_uuid,
    full_claim_name,
)
from tests.emulator.tenants import tenants_toml
from tests.emulator.variation import EXAMPLE_TIME, NOTHING, Variation

LIVE_EVENTS_ISSUER: Final = "https://live-events.canvas.instructure.com"
PLATFORM_ISSUER: Final = "https://canvas.instructure.com"
SHARD: Final = 1093
"""The examples' shard: its global ids are beyond 2^53, so that no double can hold them."""
LETTERS: Final = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
"""What the uuids of Canvas's own are made of."""

_MEAN_GAP_MS = 40

_Example = TypeVar("_Example", EventExample, CaliperExample)


@dataclass(frozen=True, slots=True, kw_only=True)
class School:
    """A root account with one Live Events subscription and one LTI tool, as its events show it.

    Everything follows from the fields: the same school makes the same n-th event, in any order and
    in any process. `event_time` grows with n, by 40 ms on average.
    """

    seed: int
    name: str
    root_account_id: str
    root_account_uuid: str
    root_account_lti_guid: str
    hostname: str
    subscription_id: str
    subscription_owner_id: str
    client_id: str
    deployment_id: str
    live_events_issuer: str = LIVE_EVENTS_ISSUER
    platform_issuer: str = PLATFORM_ISSUER
    first_event_at: datetime = EXAMPLE_TIME
    corpus: Corpus = field(default_factory=load_corpus, repr=False)

    @classmethod
    def from_seed(cls, seed: int, *, name: str = "school", **overrides: Any) -> Self:
        """A school whose ids are drawn from `seed`; `overrides` are fields to set by hand."""
        rng = random.Random(f"{seed}/school")
        drawn: dict[str, Any] = {
            "root_account_id": f"{SHARD}{rng.randrange(1, 10**4):013d}",
            "root_account_uuid": "".join(rng.choices(LETTERS, k=40)),
            "root_account_lti_guid": f"{rng.getrandbits(160):040x}.{name}.example.edu",
            "hostname": "campus.example.edu",
            "subscription_id": drawn_uuid(rng),
            "subscription_owner_id": f"{SHARD}{rng.randrange(10**4):013d}",
            "client_id": f"{SHARD}{rng.randrange(10**4):013d}",
            "deployment_id": f"{rng.randrange(10, 9999)}:{rng.getrandbits(160):040x}",
        }
        return cls(seed=seed, name=name, **{**drawn, **overrides})

    @property
    def root_account_number(self) -> int:
        """The root account's id within its shard."""
        return int(self.root_account_id.removeprefix(str(SHARD)))

    def live_event(
        self, number: int, *, name: str | None = None, stream: str = "events"
    ) -> LiveEvent:
        """The event with this number. Events of any two numbers or streams differ.

        Without `name` the examples take turns in an order of their own: any run of
        `len(corpus.events)` numbers shows each once. KeyError when the corpus lacks `name`.
        """
        rng = self._rng(stream, number)
        example = self._example(self.corpus.events, number, name)
        return self.event_like(example, self._time(number, rng), rng)

    def caliper_event(
        self, number: int, *, name: str | None = None, stream: str = "caliper"
    ) -> LiveEvent:
        """The Caliper event with this number; otherwise as `live_event`."""
        rng = self._rng(stream, number)
        at = self._time(number, rng)
        vary = Variation(rng, at, {**self._fixed_members(), **drawn_request(rng)})
        example = self._example(self.corpus.caliper, number, name)
        usual = {n: v for n, v in CALIPER[example.kind].items() if n not in example.absent}
        own = {"id": f"urn:uuid:{drawn_uuid(rng)}", "eventTime": _iso(at)}
        sent_at = at + timedelta(milliseconds=rng.randrange(900, 6_000))
        event = vary.apply({**usual, **example.event}) | own
        return self.sent_caliper(example.event_name, event, sent_at)

    def notice(self, number: int, notice_type: str, *, stream: str = "notices") -> Notice:
        """The notice with this number. KeyError when the corpus lacks the type."""
        examples = [e for e in self.corpus.notices if e.notice_type == notice_type]
        if not examples:
            raise KeyError(notice_type)
        rng = self._rng(stream, number)
        return self.notice_like(examples[number % len(examples)], self._time(number, rng), rng)

    def notice_like(
        self,
        example: NoticeExample,
        at: datetime,
        rng: random.Random,
        things: Mapping[str, str] = NOTHING,
    ) -> Notice:
        """A notice of this time, made from the example; `things` are those of `Variation`."""
        vary, name = Variation(rng, at, {}, things), example.notice_type
        claims = {
            "iss": self.platform_issuer,
            "aud": self.client_id,
            "azp": self.client_id,
            "nonce": drawn_uuid(rng),
            VERSION_CLAIM: "1.3.0",
            DEPLOYMENT_CLAIM: self.deployment_id,
            NOTICE_CLAIM: {"id": drawn_uuid(rng), "timestamp": _iso(at), "type": name},
            **({"sub": vary.apply(example.sub, "user_id")} if example.sub else {}),
            **{full_claim_name(n): vary.apply(c, n) for n, c in example.claims.items()},
        }
        return Notice(name=name, claims=claims)

    def notices(self, first: int, notice_type: str, count: int) -> tuple[Notice, ...]:
        """`count` notices of one type, as one POST carries them, numbered from `first`."""
        return tuple(self.notice(n, notice_type) for n in range(first, first + count))

    def event_like(
        self,
        example: EventExample,
        at: datetime,
        rng: random.Random,
        things: Mapping[str, str] = NOTHING,
    ) -> LiveEvent:
        """An event of this time, made from the example; `things` are those of `Variation`."""
        vary = Variation(rng, at, self._fixed_members(), things)
        metadata = self._metadata(example, at, rng, vary)
        return self.sent(
            example.event_name, {"metadata": metadata, "body": vary.apply(dict(example.body))}
        )

    def sent(self, name: str, payload: Mapping[str, Any]) -> LiveEvent:
        """An event with this payload, as this school's subscription sends it."""
        subscription = {"id": self.subscription_id, "owner_id": self.subscription_owner_id}
        claims = {**payload, "subscription": subscription, "iss": self.live_events_issuer}
        return LiveEvent(name=name, claims=claims)

    def sent_caliper(self, name: str, event: Mapping[str, Any], sent_at: datetime) -> LiveEvent:
        """This event in Caliper format in its envelope, as this school's subscription sends it."""
        payload = {
            "sensor": f"https://{self.hostname}/",
            "sendTime": _iso(sent_at),
            "dataVersion": event["@context"],
            "data": [event],
        }
        return self.sent(name, payload)

    def _example(self, examples: tuple[_Example, ...], number: int, name: str | None) -> _Example:
        if name is not None:
            examples = tuple(e for e in examples if e.event_name == name)
            if not examples:
                raise KeyError(name)
            return examples[number % len(examples)]
        # a step that shares no divisor with the count visits every example once a round
        step = next(s for s in itertools.count(37) if math.gcd(s, len(examples)) == 1)
        return examples[(number * step + self.seed) % len(examples)]

    def _metadata(
        self, example: EventExample, at: datetime, rng: random.Random, vary: Variation
    ) -> dict[str, Any]:
        usual = {n: v for n, v in METADATA[example.kind].items() if n not in example.absent}
        fresh = {n: v for n, v in drawn_request(rng).items() if usual.get(n) is not None}
        varied = vary.apply({**usual, **example.metadata})
        fresh = {n: v for n, v in fresh.items() if n not in example.metadata}
        return {**varied, **fresh, "event_name": example.event_name} | (
            {} if "event_time" in varied else {"event_time": _iso(at)}
        )

    def _rng(self, stream: str, number: int) -> random.Random:
        # the start is part of it, so that a later run draws other notice ids and request ids
        return random.Random(f"{self.seed}/{self.first_event_at.isoformat()}/{stream}/{number}")

    def _time(self, number: int, rng: random.Random) -> datetime:
        ms = number * _MEAN_GAP_MS + rng.randrange(_MEAN_GAP_MS)
        return self.first_event_at + timedelta(milliseconds=ms)

    def _fixed_members(self) -> dict[str, str]:
        return {
            "root_account_id": self.root_account_id,
            "root_account_uuid": self.root_account_uuid,
            "root_account_lti_guid": self.root_account_lti_guid,
            "hostname": self.hostname,
        }

    def tenants_toml(self, *, platform_jwks_url: str, pin_subscription: bool = True) -> str:
        """The tenants file that admits this school: its platform, its tenant, both its sources."""
        return tenants_toml(
            platform_issuer=self.platform_issuer,
            platform_jwks_url=platform_jwks_url,
            name=self.name,
            root_account_uuid=self.root_account_uuid,
            subscription_ids=[self.subscription_id] if pin_subscription else [],
            client_id=self.client_id,
            deployment_ids=[self.deployment_id],
        )


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
