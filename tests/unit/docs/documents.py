"""The documents for people, and what can be read out of them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")


def everything() -> str:
    """The text of all documents."""
    return "\n".join(document.read_text() for document in DOCUMENTS)


def prose(text: str) -> str:
    """A document's text without its code."""
    return _SPAN.sub("", _BLOCK.sub("", text))


def spans(text: str) -> list[str]:
    """The pieces of code within lines."""
    return _SPAN.findall(_BLOCK.sub("", text))


def typed(program: str) -> Iterator[str]:
    """Every call of a program that some document shows."""
    for text in map(Path.read_text, DOCUMENTS):
        for block in _BLOCK.findall(text):
            yield from re.findall(rf"^{program}\b.*", block, re.MULTILINE)
        yield from (span for span in spans(text) if re.match(rf"{program}\b", span))


def rows(text: str, heading: str = "") -> list[list[str]]:
    """Cells of the rows of all tables, or of those under a heading; heads of tables are not."""
    if heading:
        text = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
        text = re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
    bodies = re.findall(r"^\|[ :|-]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE)
    lines = [line for body in bodies for line in body.splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def anchors(text: str) -> set[str]:
    """What links may name of a document, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
