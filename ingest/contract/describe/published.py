"""The contract as files: schemas, the AsyncAPI document, examples, and pages for people."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from ingest.contract.describe import asyncapi
from ingest.contract.describe.pages import pages
from ingest.contract.describe.schemas import schemas
from ingest.contract.envelope import Envelope
from ingest.contract.topics import topic_name

SCHEMAS = "schemas"
_WIDTH = 280
"""Longest line, in characters, that holds a value whole: a rule and a field take one line each."""


def published(release: str) -> dict[str, str]:
    """All files by their path below the contract's directory; `release` is forebay's version."""
    return {
        **{f"{SCHEMAS}/{name}.json": text(schema) for name, schema in schemas().items()},
        "asyncapi.json": text(asyncapi.document(release, schemas_at=f"./{SCHEMAS}")),
        **{f"examples/{example_name(e)}.json": _shown(e) for e in examples()},
        **{f"docs/{name}": page for name, page in pages(examples(), _shown).items()},
    }


def export(directory: Path, release: str) -> int:
    """Writes all files below `directory`, which is made if need be; returns their number."""
    written = published(release)
    for path, content in written.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    return len(written)


def examples() -> Iterator[Envelope]:
    """An envelope of each type that we have an example of."""
    lines = files("ingest.contract").joinpath("examples.ndjson").read_text(encoding="utf-8")
    for line in lines.splitlines():
        yield Envelope(**json.loads(line))


def example_name(envelope: Envelope) -> str:
    """A name like `live-events.submission-created`; another format than Canvas's own is added."""
    name = f"{envelope.source}.{topic_name(envelope.source, envelope.event_type)}"
    return f"{name}.caliper" if envelope.metadata["format"] == "caliper" else name


def text(value: Any) -> str:
    """JSON in which what is short stands on one line, so that a changed field is a changed line."""
    return f"{_laid_out(value, '')}\n"


def _shown(envelope: Envelope) -> str:
    return text({"metadata": envelope.metadata, "body": envelope.body})


def _laid_out(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, dict | list):
        return line
    deeper = f"{indent}  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_laid_out(v, deeper)}" for name, v in value.items()]
        opening, closing = "{}"
    else:
        parts = [_laid_out(child, deeper) for child in value]
        opening, closing = "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{closing}"
