from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.emulator.deliveries import Delivery, Verdict
from tests.emulator.oracle import Counts, Oracle, RecordError, read_deliveries

REFUSED = (Verdict(status=401, says="bad_signature"),)
QUARANTINED = (Verdict(status=202, says="quarantined"),)


def delivery(key: str | None = "k1", status: int | None = 202, **changes: Any) -> Delivery:
    members: dict[str, Any] = {
        "lane": "live-events",
        "role": "genuine",
        "name": "logged_in",
        "content_key": key,
        "attempt": 1,
        "sent_at_s": 1.5,
        "elapsed_s": 0.01,
        "status": status,
        **changes,
    }
    return Delivery(**members)


def oracle_of(*deliveries: Delivery) -> Oracle:
    oracle = Oracle()
    for each in deliveries:
        oracle.record(each)
    return oracle


def test_only_what_was_answered_2xx_is_accepted() -> None:
    oracle = oracle_of(
        delivery("a"), delivery("b", 503), delivery("c", None, error="refused"), delivery("d", 200)
    )
    assert oracle.accepted == {"a", "d"}
    assert oracle.not_accepted == {"b", "c"}


def test_a_notice_refused_within_a_2xx_batch_is_not_accepted() -> None:
    oracle = oracle_of(delivery("a", outcome="rejected"), delivery("b", outcome="spooled"))
    assert oracle.accepted == {"b"}


def test_once_accepted_is_accepted_whatever_follows() -> None:
    oracle = oracle_of(
        delivery("a", 503),
        delivery("a", 202, attempt=2, outcome="spooled", event_id="a"),
        delivery("a", 503, role="repeat"),
    )
    entry = oracle.entries["a"]
    assert (entry.accepted, entry.attempts, entry.status) == (True, 3, 503)
    assert (entry.outcome, entry.event_id) == ("spooled", "a")


def test_repeats_are_one_event() -> None:
    oracle = oracle_of(delivery("a"), delivery("a", role="repeat"))
    assert oracle.accepted == {"a"}
    assert oracle.accepted_by_name() == {"logged_in": 1}


def test_forgeries_are_kept_apart_and_judged() -> None:
    right = delivery("f", 401, role="forgery", reason="bad_signature", expected=REFUSED)
    taken = delivery("g", 202, role="forgery", outcome="published", expected=REFUSED)
    other = delivery("h", 401, role="forgery", reason="unknown_key", expected=REFUSED)
    oracle = oracle_of(right, taken, other)
    assert oracle.accepted == frozenset()
    assert oracle.forged == {"f", "g", "h"}
    assert oracle.misjudged == (taken, other)


def test_an_expired_event_is_accepted_and_put_aside() -> None:
    oracle = oracle_of(
        delivery("e", 202, role="forgery", outcome="quarantined", expected=QUARANTINED),
        delivery("d", 202, outcome="deferred"),
    )
    assert oracle.accepted == {"d", "e"}
    assert oracle.quarantined == {"e"}
    assert oracle.deferred == {"d"}
    assert oracle.misjudged == ()


def test_an_event_id_other_than_the_content_key_is_shown() -> None:
    oracle = oracle_of(delivery("a", event_id="a"), delivery("b", event_id="x"), delivery("c"))
    assert oracle.strange_event_ids == {"b": "x"}


def test_an_event_is_undecided_while_it_is_tried_again_and_then_lost() -> None:
    oracle = oracle_of(delivery("a", 503, final=False), delivery("b", 503, final=False))
    assert oracle.undecided == {"a", "b"}
    assert oracle.lost == frozenset()
    oracle.record(delivery("a", 503, attempt=4))
    oracle.record(delivery("b", 202, attempt=2))
    assert oracle.undecided == frozenset()
    assert oracle.lost == oracle.not_accepted == {"a"}
    assert oracle.accepted == {"b"}


def test_an_event_and_its_repeat_have_tries_of_their_own() -> None:
    oracle = oracle_of(
        delivery("a", 503, final=False), delivery("a", 503, role="repeat", final=False)
    )
    oracle.record(delivery("a", 503, role="repeat", attempt=4))
    assert oracle.undecided == {"a"}
    oracle.record(delivery("a", 503, attempt=4))
    assert oracle.lost == {"a"}


def test_a_late_repeat_can_save_a_lost_event() -> None:
    oracle = oracle_of(delivery("a", 503))
    assert oracle.lost == {"a"}
    oracle.record(delivery("a", 202, role="repeat"))
    assert oracle.lost == frozenset()
    assert oracle.accepted == {"a"}


def test_counts_are_kept_by_lane() -> None:
    oracle = oracle_of(
        delivery("a", 503, final=False),
        delivery("a", 202, attempt=2, outcome="spooled"),
        delivery("b", 503, final=False),
        delivery("c", 503),
        delivery("n", 202, lane="pns", name="LtiHelloWorldNotice"),
        delivery("m", None, lane="pns", name="LtiHelloWorldNotice"),
        delivery("f", 401, role="forgery", reason="bad_signature", expected=REFUSED),
    )
    assert oracle.counts("live-events") == Counts(sent=3, accepted=1, undecided=1, lost=1)
    assert oracle.counts("pns") == Counts(sent=2, accepted=1, undecided=0, lost=1)
    assert oracle.counts() == Counts(sent=5, accepted=2, undecided=1, lost=2)
    assert oracle.lost_by_name() == {"logged_in": 1, "LtiHelloWorldNotice": 1}
    assert oracle.lost_by_name("pns") == {"LtiHelloWorldNotice": 1}
    assert oracle.accepted_by_outcome() == {"spooled": 1, "unsaid": 1}


def test_the_longest_request_is_known_by_its_answer() -> None:
    assert oracle_of().longest_request_s == 0
    oracle = oracle_of(
        delivery("a", outcome="published", elapsed_s=0.5),
        delivery("b", outcome="published", elapsed_s=2.5),
        delivery("c", 503, reason="not_durable", elapsed_s=9.0),
        delivery("d", 500, elapsed_s=0.1),
        delivery("e", None, error="Cannot connect", elapsed_s=15.0),
    )
    assert oracle.longest_request_s == 15.0
    assert oracle.longest_requests_s() == {
        "no answer": 15.0,
        "not_durable": 9.0,
        "published": 2.5,
        "status 500": 0.1,
    }
    assert oracle.answers() == {"no answer": 1, "not_durable": 1, "published": 2, "status 500": 1}


def _some_deliveries() -> list[Delivery]:
    return [
        delivery("a", outcome="published", event_id="a"),
        delivery("b", None, error="Cannot connect", final=False),
        delivery(None, 400, role="forgery", reason="malformed", expected=REFUSED),
        delivery("f", 401, role="forgery", reason="bad_signature", expected=REFUSED),
        delivery("n", 202, lane="pns", name="LtiHelloWorldNotice", outcome="quarantined"),
    ]


def test_it_reads_back_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with Oracle(path) as oracle:
        for each in _some_deliveries():
            oracle.record(each)
    again = Oracle.load(path)
    assert list(read_deliveries(path)) == _some_deliveries()
    assert again.entries == oracle.entries
    assert again.misjudged == oracle.misjudged
    assert again.forged == oracle.forged
    # killed before the next try: nobody knows yet
    assert again.undecided == {"b"}


def test_each_line_is_there_before_the_oracle_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with Oracle(path) as oracle:
        for count, each in enumerate(_some_deliveries(), start=1):
            oracle.record(each)
            assert len(list(read_deliveries(path))) == count


def test_a_second_run_appends(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    for key in ("a", "b"):
        with Oracle(path) as oracle:
            oracle.record(delivery(key))
    assert Oracle.load(path).accepted == {"a", "b"}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with Oracle(path) as oracle:
        oracle.record(delivery("a"))
        oracle.record(delivery("b"))
    path.write_bytes(path.read_bytes()[:-20])
    assert Oracle.load(path).accepted == {"a"}


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"half":\n{}\n')
    with pytest.raises(RecordError, match=r"record\.jsonl:1"):
        Oracle.load(path)
