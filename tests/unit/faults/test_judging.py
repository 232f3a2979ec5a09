"""The judge finds what is wrong, and nothing where all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.emulator.deliveries import Delivery, Verdict
from tests.emulator.forgeries import BAD_SIGNATURE, QUARANTINED
from tests.faults.judging import count
from tests.faults.kept import Kept, Tables, Topics
from tests.faults.verdict import Tally
from tests.faults.watching import PERSONAL, Scrape
from tests.faults.witness import Witness
from tests.support.keys import SigningKey

TYPE = "course_created"
GOOD, OTHER, FORGED, EXPIRED = "a" * 64, "b" * 64, "c" * 64, "d" * 64


def delivery(key: str, *, status: int | None = 202, **changes: Any) -> Delivery:
    """One good event and its answer."""
    plain = Delivery(
        lane="live-events",
        role="genuine",
        name=TYPE,
        content_key=key,
        attempt=1,
        sent_at_s=0.0,
        elapsed_s=0.1,
        status=status,
        outcome="published" if status == 202 else None,
        event_id=key if status == 202 else None,
    )
    return replace(plain, **changes)


def forged(key: str, right: Verdict, **changes: Any) -> Delivery:
    return delivery(key, role="forgery", expected=(right,), **changes)


def witness(*deliveries: Delivery) -> Witness:
    witness = Witness()
    for each in deliveries:
        witness.record(each)
    return witness


def topics(trusted: Iterable[str] = (), quarantined: Iterable[str] = ()) -> Topics:
    def kept(name: str, key: str) -> Kept:
        return Kept(place=(f"p.{name}.v1", 0), offset=0, event_id=key, key=key)

    records = [kept("live-events.course-created", key) for key in trusted]
    return Topics(prefix="p", records=[*records, *(kept("quarantine", key) for key in quarantined)])


def tables(*event_ids: str, typed: Iterable[str] | None = None) -> Tables:
    own = event_ids if typed is None else typed
    return Tables(event_ids={"events": Counter(event_ids), TYPE: Counter(own)})


def broken(tally: Tally) -> list[str]:
    return [violation.invariant for violation in tally.violations]


def test_what_was_promised_and_is_kept_once_is_in_order() -> None:
    seen = witness(
        delivery(GOOD),
        delivery(OTHER, status=None, error="cut"),
        forged(FORGED, BAD_SIGNATURE, status=401, reason="bad_signature"),
        forged(EXPIRED, QUARANTINED, outcome="quarantined"),
    )
    # an event whose answer was cut may be there or not
    for there in ([GOOD], [GOOD, OTHER]):
        tally = count(seen, topics(there, [EXPIRED]), tables(*there))
        assert (tally.events, tally.acked) == (3, 2)
        assert tally.held, tally


@pytest.mark.parametrize(
    ("kept", "rows", "lost", "invariants"),
    [
        (topics(), tables(), 1, ["I1"]),
        (topics([GOOD]), tables(), 1, []),
        (topics([], [GOOD]), tables(), 0, []),
        (topics([GOOD]), tables(GOOD, typed=[]), 0, ["I3"]),
    ],
)
def test_a_promised_event_must_be_in_topic_and_tables_or_in_quarantine(
    kept: Topics, rows: Tables, lost: int, invariants: list[str]
) -> None:
    tally = count(witness(delivery(GOOD)), kept, rows)
    assert (tally.lost, broken(tally)) == (lost, invariants)


@pytest.mark.parametrize("stranger", [FORGED, EXPIRED, OTHER])
@pytest.mark.parametrize("stored", [False, True])
def test_nothing_may_be_trusted_that_no_genuine_event_is(stranger: str, stored: bool) -> None:
    seen = witness(
        delivery(GOOD),
        forged(FORGED, BAD_SIGNATURE, status=401, reason="bad_signature"),
        forged(EXPIRED, QUARANTINED, outcome="quarantined"),
    )
    here, there = ([GOOD], [GOOD, stranger]) if stored else ([GOOD, stranger], [GOOD])
    tally = count(seen, topics(here, [EXPIRED]), tables(*there))
    assert tally.untrusted == 1


def test_a_second_row_in_any_table_is_found() -> None:
    seen, kept = witness(delivery(GOOD)), topics([GOOD, GOOD])
    assert count(seen, kept, tables(GOOD, GOOD, typed=[GOOD])).duplicate_rows == 1
    assert count(seen, kept, tables(GOOD, typed=[GOOD] * 3)).duplicate_rows == 2


def test_a_forgery_judged_wrongly_and_a_request_open_too_long_are_found() -> None:
    wrong = forged(FORGED, BAD_SIGNATURE, status=401, reason="unknown_key", outcome=None)
    slow = delivery(GOOD, elapsed_s=12.5)
    assert broken(count(witness(wrong), topics(), tables())) == ["I2"]
    assert broken(count(witness(slow), topics([GOOD]), tables(GOOD))) == ["I5"]


LEDGER: Mapping[str, int] = {
    'forebay_events_received_total{process="0",source="pns"}': 7,
    'forebay_events_recovered_total{process="0",source="pns"}': 2,
    'forebay_events_settled_total{process="0",source="pns",outcome="published",reason=""}': 5,
    'forebay_events_settled_total{process="0",source="pns",outcome="rejected",reason="x"}': 1,
    'forebay_events_held{process="0",source="pns",lane="spool"}': 2,
    'forebay_events_held{process="0",source="pns",lane="in_flight"}': 1,
}


@pytest.mark.parametrize("line", LEDGER)
def test_a_ledger_that_lacks_one_event_anywhere_does_not_balance(line: str) -> None:
    def imbalance(numbers: Mapping[str, int]) -> int:
        text = "".join(f"{name} {number}\n" for name, number in numbers.items())
        return Scrape(text).ledger().imbalance("pns")

    assert imbalance(LEDGER) == 0
    assert imbalance({**LEDGER, line: LEDGER[line] - 1}) != 0


def test_a_token_and_a_person_are_recognised_in_a_log() -> None:
    token = SigningKey.generate("k").sign({"user_login": "staff-501"})
    assert PERSONAL.search(f'{{"event": "refused", "token": "{token}"}}')
    assert PERSONAL.search("login of staff-501")
    assert not PERSONAL.search('{"event": "receiving", "public": "127.0.0.1:8080"}')
