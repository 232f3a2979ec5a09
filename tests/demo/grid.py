"""Tables on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

WIDTH: Final = 80

_INDENT, _GAP, _LEAST = "  ", "  ", 6


def grid(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A headed table, line by line: numbers to the right, what does not fit cut short."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = _fitted([max(map(len, column)) for column in zip(heads, *cells, strict=True)])
    to_right = [
        bool(rows) and all(isinstance(row[n], int | float) or row[n] is None for row in rows)
        for n in range(len(heads))
    ]
    yield _line(heads, widths, to_right, bold=True)
    for row in cells:
        yield _line(row, widths, to_right)


def _line(
    cells: Sequence[str], widths: Sequence[int], to_right: Sequence[bool], *, bold: bool = False
) -> str:
    placed = [
        _cut(cell, width).rjust(width) if right else _cut(cell, width).ljust(width)
        for cell, width, right in zip(cells, widths, to_right, strict=True)
    ]
    line = (_INDENT + _GAP.join(placed)).rstrip()
    return click.style(line, bold=True) if bold else line


def _fitted(widths: list[int]) -> list[int]:
    """The widths, the widest made narrower until a line fits."""
    room = WIDTH - len(_INDENT) - len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else " ".join(str(value).split())
