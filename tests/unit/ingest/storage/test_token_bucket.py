"""A burst at once, then so much a second."""

from ingest.storage.token_bucket import TokenBucket
from tests.support.clock import Clock


def test_burst_is_there_at_first_and_what_is_taken_comes_back_with_time() -> None:
    clock = Clock()
    bucket = TokenBucket(burst=10, per_s=2, clock=clock)
    assert [bucket.take(6), bucket.take(5), bucket.take(4), bucket.take(1)] == [
        True,
        False,
        True,
        False,
    ]
    clock.advance(2)
    assert [bucket.take(4), bucket.take(1)] == [True, False]
    clock.advance(3_600)
    assert [bucket.take(11), bucket.take(10)] == [False, True]


def test_what_is_taken_regardless_is_lacking_to_others_later() -> None:
    clock = Clock()
    bucket = TokenBucket(burst=10, per_s=1, clock=clock)
    bucket.take_regardless(14)
    clock.advance(4)
    assert not bucket.take(1)
    clock.advance(1)
    assert bucket.take(1)
