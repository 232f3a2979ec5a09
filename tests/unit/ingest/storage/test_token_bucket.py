"""A burst at once, then so much a second."""

from ingest.storage.token_bucket import TokenBucket


class _Clock:
    now_s = 7.0

    def __call__(self) -> float:
        return self.now_s


def test_burst_is_there_at_first_and_what_is_taken_comes_back_with_time() -> None:
    clock = _Clock()
    bucket = TokenBucket(burst=10, per_s=2, clock=clock)
    assert [bucket.take(6), bucket.take(5), bucket.take(4), bucket.take(1)] == [
        True,
        False,
        True,
        False,
    ]
    clock.now_s += 2
    assert [bucket.take(4), bucket.take(1)] == [True, False]
    clock.now_s += 3_600
    assert [bucket.take(11), bucket.take(10)] == [False, True]


def test_what_is_taken_regardless_is_lacking_to_others_later() -> None:
    clock = _Clock()
    bucket = TokenBucket(burst=10, per_s=1, clock=clock)
    bucket.take_regardless(14)
    clock.now_s += 4
    assert not bucket.take(1)
    clock.now_s += 1
    assert bucket.take(1)
