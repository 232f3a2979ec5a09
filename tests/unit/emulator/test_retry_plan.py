from __future__ import annotations

from tests.emulator.retry_plan import NO_RETRIES, RetryPlan


def test_canvas_tries_four_times_within_ten_to_twenty_minutes() -> None:
    plan = RetryPlan.canvas()
    timeouts_s = 4 * 15
    sums_s = [sum(plan.waits_s(serial)) for serial in range(500)]
    assert plan.tries == 4
    assert min(sums_s) >= 600
    assert max(sums_s) + timeouts_s <= 1200
    assert max(sums_s) - min(sums_s) > 400


def test_each_wait_is_longer_than_the_one_before_and_no_two_events_wait_alike() -> None:
    waits_s = [RetryPlan.canvas().waits_s(serial) for serial in range(500)]
    assert all(2 * first <= 1.5 * second <= third for first, second, third in waits_s)
    assert len(set(waits_s)) == 500


def test_waits_are_drawn_from_the_seed() -> None:
    one, same, other = (RetryPlan.canvas(seed=seed) for seed in (1, 1, 2))
    assert [one.waits_s(n) for n in range(9)] == [same.waits_s(n) for n in range(9)]
    assert one.waits_s(0) != other.waits_s(0)


def test_the_time_scale_shortens_the_waits() -> None:
    long_s, short_s = RetryPlan.canvas(), RetryPlan.canvas(time_scale=0.01)
    assert abs(sum(long_s.waits_s(3)) / sum(short_s.waits_s(3)) - 100) < 1e-6


def test_a_share_of_the_retries_is_signed_anew_but_never_a_first_try() -> None:
    plan = RetryPlan.canvas(resign_share=0.3)
    again = sum(plan.resigns(serial, attempt) for serial in range(500) for attempt in (2, 3, 4))
    assert 350 < again < 550
    assert not any(plan.resigns(serial, 1) for serial in range(100))
    always, never = RetryPlan(delays_s=(1.0,), resign=True), RetryPlan(delays_s=(1.0,))
    assert (always.resigns(0, 1), always.resigns(0, 2), never.resigns(0, 2)) == (False, True, False)


def test_a_plan_of_fixed_delays_keeps_to_them() -> None:
    assert RetryPlan(delays_s=(1.0, 2.0)).waits_s(7) == (1.0, 2.0)
    assert NO_RETRIES.tries == 1
