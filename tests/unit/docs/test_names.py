"""Names in the documents are those of the code: settings, metrics, commands, reasons, log lines."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import click
import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

import consumers.app
import consumers.commands.main
import consumers.metrics
import consumers.settings
import ingest.commands.main
import ingest.settings
from ingest.contract.quarantine import REASONS
from ingest.errors import REFUSALS
from ingest.observing.drift import Sighting, Unknown
from ingest.observing.metrics import Metrics, SpoolFigures
from ingest.shared.environment import variables
from tests.support.builders import live_event
from tests.unit.docs.documents import ROOT, everything, rows, spans, typed

Node = TypeVar("Node", bound=ast.AST)

SETTINGS = (ROOT / "docs/settings.md").read_text()
METRICS = (ROOT / "docs/metrics.md").read_text()
ANSWERS = (ROOT / "docs/answers.md").read_text()
FAILURES = (ROOT / "docs/failures.md").read_text()
_TASKS = "A background task fails"
_SECRETS_IN_FILES = {"FOREBAY_KAFKA__SASL_PASSWORD_FILE", "FOREBAY_STORE__URL_FILE"}


def test_every_setting_is_listed_with_its_default() -> None:
    listed = {spans(row[0])[0]: row[1] for row in rows(SETTINGS)}
    assert listed == {name: _shown(value) for name, value in _settings().items()}


def test_every_setting_that_a_document_names_exists() -> None:
    named = set(re.findall(r"\bFOREBAY_[A-Z][A-Z_]*", everything()))
    assert named - _settings().keys() - _SECRETS_IN_FILES == set()


@pytest.mark.parametrize(
    ("heading", "program"), [("The receiver", "ingest"), ("A worker", "consumers")]
)
def test_every_metric_is_listed_with_type_and_labels(heading: str, program: str) -> None:
    listed = {
        spans(name)[0]: (kind, frozenset(re.findall(r"\w+", labels)))
        for name, kind, labels, _ in rows(METRICS, heading) + rows(METRICS, "Both")
    }
    there = _metrics_of(_receiver() if program == "ingest" else _worker())
    if not any(name.startswith("process_") for name in there):  # only Linux tells
        listed = {name: of for name, of in listed.items() if name.startswith("forebay_")}
    assert listed == there


def test_every_metric_and_table_that_a_document_names_exists() -> None:
    named = set(re.findall(r"\bforebay_[a-z][a-z_]*", everything()))
    metrics = {spans(row[0])[0] for row in rows(METRICS)}
    tables = {text for text in _texts() if text.startswith("forebay_")}
    assert named - metrics - tables == set()


def test_every_refusal_is_listed_with_its_status() -> None:
    listed = {(int(row[0]), spans(row[1])[0]) for row in rows(ANSWERS, "Anything else")}
    assert listed == {(refusal.status, refusal.reason) for refusal in REFUSALS}


def test_every_reason_for_quarantine_is_listed() -> None:
    heading = "Quarantine: authentic, but it cannot be used"
    assert sorted(spans(row[0])[0] for row in rows(ANSWERS, heading)) == sorted(REASONS)


def test_every_command_and_option_that_a_document_shows_exists() -> None:
    programs = {
        "forebay-ingest": ingest.commands.main.main,
        "forebay-consumers": consumers.commands.main.main,
    }
    shown = [line for program in programs for line in typed(program)]
    assert "forebay-ingest serve" in shown
    assert [line for line in shown if not _is_command(programs[line.split()[0]], line)] == []


def test_every_command_is_shown_somewhere() -> None:
    shown = [*typed("forebay-ingest"), *typed("forebay-consumers")]
    ours = [
        *_commands("forebay-ingest", ingest.commands.main.main),
        *_commands("forebay-consumers", consumers.commands.main.main),
    ]
    assert [name for name in ours if not any(line.startswith(name) for line in shown)] == []


def test_every_log_line_that_a_document_quotes_is_one() -> None:
    quoted = [span for span in spans(everything()) if _reads_like_a_log_line(span)]
    assert "connected to kafka" in quoted
    assert [line for line in quoted if not _is_said(line)] == []


def test_every_background_task_is_listed_as_needed_or_not() -> None:
    listed = {spans(row[0])[0].rstrip(" …"): row[1] for row in rows(FAILURES, _TASKS)}
    assert listed == {
        name: "ends the process" if needed else "is started again" for name, needed in _tasks()
    }


@cache
def _settings() -> dict[str, Any]:
    """Every setting of either program, with its default."""
    found: dict[str, Any] = {}
    for model in (ingest.settings.Settings, consumers.settings.Settings):
        defaults: BaseModel = model.model_construct()
        found |= variables(defaults)
    return found


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _receiver() -> CollectorRegistry:
    """The receiver's registry, with everything in it that is shown only where there is some."""
    metrics = Metrics()
    metrics.watch_keys(lambda: {"issuer": 1.0})
    metrics.watch_partitions(lambda: 0)
    metrics.watch_connections(lambda: 0)
    metrics.watch_spool(
        lambda: SpoolFigures(
            records=0,
            tokens=0,
            used_bytes=0,
            oldest_age_s=0,
            seconds_to_full=1,
            reserve_held=True,
        )
    )
    sighting = Sighting(1, "", "", None)
    metrics.watch_drift(
        lambda: {
            Unknown("live-events", "new"): sighting,
            Unknown("live-events", "new", "body.new"): sighting,
        }
    )
    metrics.tenants_are(["school"])
    metrics.seen("school", "live-events", 0)
    for _ in range(64):
        metrics.clock_skew.saw(live_event())
    with metrics.enter("live-events"):
        pass
    return metrics.registry


def _worker() -> CollectorRegistry:
    return consumers.metrics.Metrics("tables").registry


def _metrics_of(registry: CollectorRegistry) -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric by its name."""
    found = {}
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
        # one that nothing was counted in yet has no sample to read its labels from
        declared = getattr(registry._names_to_collectors.get(name), "_labelnames", ())
        found[name] = (metric.type, frozenset({*labels, *declared}))
    return found


def _is_command(group: click.Command, line: str) -> bool:
    words = line.replace("|", " ").split()[1:]
    command, names = group, list(words)
    while isinstance(command, click.Group) and names:
        # `status|export` and the like name several
        found = command.commands.get(names.pop(0))
        if found is None:
            return False
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("--")} <= options


def _commands(name: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for child, found in command.commands.items():
            yield from _commands(f"{name} {child}", found)
    else:
        yield name


def _reads_like_a_log_line(span: str) -> bool:
    is_text = re.fullmatch(r"(?!forebay-|make |python )[a-z][a-z',:;? -]+( …)?", span)
    return is_text is not None and span.count(" ") >= 2


def _is_said(line: str) -> bool:
    line = line.removesuffix(" …")
    # of a text with a name in it only what follows the name is known
    return any(line in text or (text.startswith(" ") and line.endswith(text)) for text in _texts())


def _tasks() -> Iterator[tuple[str, bool]]:
    """Names of background tasks, and whether each is needed. Of `keys {issuer}` only `keys`."""
    for call in _nodes(ast.Call):
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "background.start":
            yield _name(call.args[0]), any(word.arg == "needed" for word in call.keywords)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    if isinstance(node, ast.Name):
        return str(getattr(consumers.app, node.id))
    assert isinstance(node, ast.Constant)
    return str(node.value).strip()


@cache
def _texts() -> frozenset[str]:
    """Every text in the code of both programs."""
    values = (node.value for node in _nodes(ast.Constant))
    return frozenset(value for value in values if isinstance(value, str))


def _nodes(kind: type[Node]) -> Iterator[Node]:
    """Every piece of the code of both programs that is of this kind."""
    for top in ("ingest", "consumers"):
        for file in (ROOT / top).rglob("*.py"):
            tree = ast.parse(file.read_text())
            yield from (node for node in ast.walk(tree) if isinstance(node, kind))
