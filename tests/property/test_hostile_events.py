"""What an event costs, from its claims to its rows, is in proportion to its size: no names, no
nesting and no numbers make it more."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from consumers.projections import all_tables
from consumers.unknown_fields import TableColumns, fitted_rows
from consumers.values import Row
from ingest.contract.catalogue import catalogue
from ingest.contract.codec import decode, encode
from ingest.contract.envelope import Envelope
from ingest.normalising import metadata as flat
from ingest.normalising import normalise
from ingest.normalising.issues import MAX_ISSUES, MORE
from ingest.normalising.values import by_shape
from ingest.observing.drift import Drift
from ingest.verifying.token import read_claims
from tests.support.builders import (
    live_event,
    live_event_claims,
    live_event_metadata,
    notice,
    notice_claims,
)
from tests.support.each import each_case
from tests.support.steps import lines_run

_MOST_LINES_A_MEMBER = 100
_FEW, _MANY = 300, 1_200


def _body(text: str) -> bytes:
    return json.dumps(live_event_claims(body={})).replace('"body": {}', f'"body": {text}').encode()


def _metadata(**members: Any) -> bytes:
    return json.dumps(live_event_claims(metadata=live_event_metadata(**members))).encode()


def _twice(count: int) -> bytes:
    members = {f"x{n}": n for n in range(count)}
    metadata = live_event_metadata(**members)
    return json.dumps({**live_event_claims(metadata=metadata), **members}).encode()


def _object(member: str, count: int) -> bytes:
    return _body("{" + ",".join(member % n for n in range(count)) + "}")


def _array(value: str, count: int) -> bytes:
    return _body('{"x":[' + ",".join([value] * count) + "]}")


def _alike(count: int) -> bytes:
    spellings = ("\\u0000", "\\\\u0000")  # NUL, and the text that shows a NUL
    names = ("".join(spellings[n >> bit & 1] for bit in range(11)) for n in range(count))
    return _body("{" + ",".join(f'"{name}":1' for name in names) + "}")


def _deep(count: int) -> bytes:
    return _array("[" * 100 + "]" * 100, count // 100)


_EVENTS: Mapping[str, Callable[[int], bytes]] = {
    "unknown fields": lambda n: _object('"f%d":1', n),
    "unknown texts": lambda n: _object('"f%d":""', n),
    "numbers": lambda n: _array("0", n),
    "numbers and texts": lambda n: _array('0,""', n),
    "numbers that no store takes": lambda n: _array("9223372036854775808", n),
    "NaN": lambda n: _array("NaN", n),
    "texts that no store takes": lambda n: _array('"\\u0000"', n),
    "names that no store takes": lambda n: _object('"\\ud800%d":1', n),
    "names that look alike": _alike,
    "empty arrays": lambda n: _array("[]", n),
    "ids": lambda n: _array('{"id":1}', n),
    "deep nesting": _deep,
    "unknown metadata": lambda n: _metadata(**{f"x{i}": 1 for i in range(n)}),
    "names of ours": lambda n: _metadata(tenant=1, **{f"tenant__{i}": 1 for i in range(2, n)}),
    "names of metadata beside it": _twice,
}


def _claim_uris(count: int) -> bytes:
    return json.dumps(notice_claims(**{f"https://h{n}/x": 1 for n in range(count)})).encode()


_NOTICES: Mapping[str, Callable[[int], bytes]] = {"one last segment": _claim_uris}


def _all_the_way(payload: bytes, *, is_notice: bool) -> Envelope:
    claims, irregular = read_claims(payload)
    build = notice if is_notice else live_event
    envelope = normalise(build(claims, irregular=irregular))
    record = encode(envelope, prefix="p")
    drift = Drift()
    drift.see(envelope)
    tables: dict[str, list[Row]] = {}
    for row in all_tables(catalogue())(decode(record)):
        tables.setdefault(row.table, []).append(row)
    for rows in tables.values():
        fitted_rows(rows, TableColumns())
    return envelope


def test_each_further_member_costs_as_much_as_the_first() -> None:
    _all_the_way(_EVENTS["numbers"](1), is_notice=False)  # what is made once is made now
    with each_case() as case:
        for name, payload in {**_EVENTS, **_NOTICES}.items():
            with case(name):
                way = partial(_all_the_way, is_notice=name in _NOTICES)
                few = lines_run(partial(way, payload(_FEW)))
                many = lines_run(partial(way, payload(_MANY)))
                assert many - few < _MOST_LINES_A_MEMBER * (_MANY - _FEW)


class _Name(str):
    """A name that counts how often it is written into another text."""

    __slots__ = ()
    written = 0

    def __format__(self, spec: str) -> str:
        _Name.written += 1
        return str(self)


def test_a_long_name_is_not_written_out_for_each_value_beneath_it() -> None:
    _Name.written = 0
    issues: list[str] = []
    values = [{"v": 1}, [2, ""]] * 1_000
    by_shape({_Name("n" * 1_000): values}, "body", issues)
    assert (_Name.written, issues) == (0, [])


def test_issues_are_named_up_to_a_bound_however_long_their_names() -> None:
    numbers = ",".join(["9223372036854775808"] * 5_000)
    with each_case() as case:
        for name in ("n", "n" * 100_000):
            with case(len(name)):
                payload = _body(f'{{"{name}":[{numbers}],"course_id":{{}}}}')
                envelope = _all_the_way(payload, is_notice=False)
                issues = envelope.metadata["issues"]
                assert "body.course_id" in issues  # what is declared is always named
                assert MORE in issues
                assert len(issues) <= MAX_ISSUES + 2
                assert max(map(len, issues)) <= 1_000


def test_metadata_are_looked_through_once_for_all_names_that_are_taken() -> None:
    looks = 0

    class Metadata(dict[str, Any]):
        def keys(self) -> Any:
            nonlocal looks
            looks += 1
            return super().keys()

    taken = {f"x{n}": n for n in range(100)}
    flat.add(Metadata(taken), taken, [])
    assert looks < 5
