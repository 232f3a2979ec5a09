from __future__ import annotations

import re

from tests.demo.grid import WIDTH, grid


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    lines = [_plain(line) for line in grid(("course", "late"), [("Karst", 3), ("Ice", 1_204)])]
    assert lines == ["  course   late", "  Karst       3", "  Ice     1,204"]


def test_no_line_is_wider_than_the_terminal() -> None:
    rows = [("a" * 70, "b" * 90, 5), ("a", None, 2.25)]
    lines = [_plain(line) for line in grid(("one", "two", "three"), rows)]
    assert max(map(len, lines)) == WIDTH
    assert "…" in lines[1]
    assert lines[2].split() == ["a", "-", "2.2"]


def test_an_answer_without_rows_is_its_head() -> None:
    assert [_plain(line) for line in grid(("a", "b"), [])] == ["  a  b"]
