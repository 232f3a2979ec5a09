"""Local and global ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract.ids import global_id, shard_of


@pytest.mark.parametrize(
    ("known", "shard"),
    [
        ("10930000000003481", "1093"),
        ("10000000000001", "1"),
        ("9999999999999", None),
        ("17", None),
        ("a0930000000003481", None),
        ("", None),
        (None, None),
    ],
)
def test_shard_is_what_stands_before_thirteen_digits(known: str | None, shard: str | None) -> None:
    assert shard_of(known) == shard


@given(st.integers(1, 10**5), st.integers(1, 10**13 - 1))
def test_global_id_is_shard_and_local_id(shard: int, local: int) -> None:
    named = global_id(str(local), str(shard))
    assert int(named) == shard * 10**13 + local
    assert shard_of(named) == str(shard)
    assert global_id(named, "77") == named


@pytest.mark.parametrize("named", ["self", "1~17", "", "٣"])
def test_what_is_no_number_stays_as_it_is(named: str) -> None:
    assert global_id(named, "1093") == named


def test_a_local_id_of_an_unknown_shard_stays_local() -> None:
    assert global_id("17", None) == "17"
