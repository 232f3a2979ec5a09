"""Documents are short, hang together, and name files that exist."""

import re
from pathlib import Path

from tests.unit.docs.documents import (
    ARCHITECTURE,
    DOCUMENTS,
    README,
    ROOT,
    anchors,
    everything,
    prose,
    spans,
    typed,
)

_MOST_WORDS = 900
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*(/|\.(py|md|toml|txt))")
_NOT_OUR_WORDS = re.compile(
    r"\b(gathering|generation|lane|settling|(put|set) (aside|apart)|patience|salvage|mend|ballast"
    r"|twin|handover|laid out|anew|whence|for ever|stumbled)\b"
)


def test_readme_is_short() -> None:
    assert len(README.read_text().split()) <= _MOST_WORDS


def test_every_link_leads_somewhere() -> None:
    assert [f"{at.name}: {to}" for at in DOCUMENTS for to in _links(at) if _is_dead(at, to)] == []


def test_every_page_of_the_manual_is_linked_from_the_readme() -> None:
    linked = set(_links(README))
    assert {str(at.relative_to(ROOT)) for at in DOCUMENTS if at.parent != ROOT} <= linked


def test_every_file_that_the_architecture_names_exists() -> None:
    named = {span for span in spans(ARCHITECTURE.read_text()) if _PATH.fullmatch(span)}
    assert "ingest/intake.py" in named
    assert {name for name in named if not _exists(name)} == set()


def test_every_room_is_in_the_architecture() -> None:
    named = set(spans(ARCHITECTURE.read_text()))
    packages = [file.parent for top in ("ingest", "consumers") for file in _inits(top)]
    rooms = {f"{path.relative_to(ROOT)}/" for path in packages}
    assert "ingest/spool/" in rooms
    assert {room for room in rooms if not _is_named(room, named)} == set()


def test_every_make_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {line.split()[1] for line in typed("make") if line != "make"}
    assert "test" in named
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


def test_every_command_of_the_makefile_is_in_contributing() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert [name for name in targets if f"`make {name}`" not in contributing] == []


def test_words_are_the_fields_own() -> None:
    assert [found[0] for found in _NOT_OUR_WORDS.finditer(prose(everything()).lower())] == []


def _links(document: Path) -> list[str]:
    found = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", document.read_text())
    return [to for to in found if not to.startswith("https://")]


def _is_dead(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return not target.exists() or bool(anchor and anchor not in anchors(target.read_text()))


def _exists(name: str) -> bool:
    """A path from the root; a name alone is that of a file or directory in one of the rooms."""
    if (ROOT / name).exists():
        return True
    if "/" in name.rstrip("/"):
        return False
    return any(any((ROOT / top).rglob(name.rstrip("/"))) for top in ("ingest", "consumers"))


def _inits(top: str) -> list[Path]:
    return list((ROOT / top).rglob("__init__.py"))


def _is_named(room: str, named: set[str]) -> bool:
    """In full, by its own name within its parent's row, or by a file in it."""
    return (
        room in named
        or f"{Path(room).name}/" in named
        or room.count("/") == 1
        or any(name.startswith(room) for name in named)
    )
