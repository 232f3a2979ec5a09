"""The loop over cases fails as a test for each of them would."""

from collections.abc import Callable, Sequence

import pytest

from tests.support.each import each_case


def _all(numbers: Sequence[int], check: Callable[[int], None]) -> None:
    with each_case() as case:
        for number in numbers:
            with case("number", number):
                check(number)


def _even(number: int) -> None:
    assert number % 2 == 0, f"{number} is odd"


def _inverse(number: int) -> None:
    assert 1 / number < 2


def _waited_for_in_vain(number: int) -> None:
    with pytest.raises(ValueError, match="x"):
        pass


def test_cases_that_hold_are_no_failure() -> None:
    _all([0, 2], _even)


def test_every_case_that_fails_is_named_and_the_others_are_tried() -> None:
    with pytest.raises(AssertionError) as caught:
        _all([0, 1, 2, 3], _even)
    assert str(caught.value).startswith("2 of 4 cases failed: number 1, number 3\n")
    assert "1 is odd" in str(caught.value)
    assert "3 is odd" in str(caught.value)


def test_an_error_in_a_case_is_a_failure_of_that_case() -> None:
    with pytest.raises(AssertionError, match="1 of 2 cases failed: number 0"):
        _all([0, 1], _inverse)


def test_an_error_expected_in_vain_is_a_failure_of_that_case() -> None:
    with pytest.raises(AssertionError, match="DID NOT RAISE"):
        _all([0], _waited_for_in_vain)


def test_no_case_at_all_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="no case"):
        _all([], _even)


def test_two_cases_of_one_name_are_a_failure() -> None:
    with pytest.raises(AssertionError, match="two cases are called number 2"):
        _all([2, 2], _even)
