"""How long a batch is filled."""

from consumers.batch_size import BatchSize

SIZE = BatchSize(flush_interval_s=0.5, longest_interval_s=5.0)


def test_where_nothing_else_is_unread_a_batch_waits_one_interval() -> None:
    assert SIZE.interval_s(lag_records=0) == 0.5


def test_the_wait_grows_with_what_is_unread_up_to_its_bound() -> None:
    waits = [SIZE.interval_s(lag_records=lag) for lag in (0, 10, 1_000, 4_000, 9_000, 10**9)]
    assert waits == sorted(waits)
    assert waits[2] == 1.0
    assert waits[-2:] == [5.0, 5.0]


def test_the_interval_itself_is_never_cut() -> None:
    assert BatchSize(flush_interval_s=8, longest_interval_s=5).interval_s(lag_records=10**6) == 8
