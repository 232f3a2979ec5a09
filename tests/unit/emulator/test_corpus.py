from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.corpus import Corpus, CorpusError, load_corpus


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _leaves(member)
    elif isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    else:
        yield value


def test_it_has_many_types_and_every_kind_of_cause(corpus: Corpus) -> None:
    assert len(corpus.event_names) >= 30
    kinds = {example.kind for example in corpus.events}
    assert kinds == {"user", "anonymous", "system", "service", "bare"}


def test_it_has_names_with_dots_and_hyphens(corpus: Corpus) -> None:
    assert {
        "quizzes.item_created",
        "quizzes-lti.grade_changed",
        "outcomes.retry_outcome_alignment_clone",
    } <= set(corpus.event_names)


def test_it_has_every_notice_type(corpus: Corpus) -> None:
    assert corpus.notice_types == (
        "LtiAssetProcessorContributionNotice",
        "LtiAssetProcessorSubmissionNotice",
        "LtiContextCopyNotice",
        "LtiHelloWorldNotice",
        "LtiResourceCopyNotice",
    )


def test_it_has_caliper_examples_of_known_and_unknown_shapes(corpus: Corpus) -> None:
    assert len(corpus.caliper) >= 12
    assert {"grade_change", "caliper.view_event.viewed"} <= set(corpus.caliper_names)
    assert {example.kind for example in corpus.caliper} == {"user", "anonymous", "system", "bare"}


def test_a_context_may_be_copied_from_nowhere(corpus: Corpus) -> None:
    copies = [e for e in corpus.notices if e.notice_type == "LtiContextCopyNotice"]
    assert {"origin_contexts" in example.claims for example in copies} == {True, False}


def test_it_has_the_oddities_of_real_events(corpus: Corpus) -> None:
    leaves = [leaf for e in corpus.events for leaf in _leaves([e.metadata, e.body])]
    texts = [leaf for leaf in leaves if isinstance(leaf, str)]
    assert None in leaves
    assert any(isinstance(leaf, int) and leaf > 2**53 for leaf in leaves)
    assert any(text.endswith("-06:00") for text in texts)
    assert any(text.endswith(" -0600") for text in texts)
    assert any("\N{RIGHT-TO-LEFT MARK}" in text for text in texts)
    assert any("\n" in text for text in texts)
    assert any(ord(character) > 0xFFFF for text in texts for character in text)
    assert any("real_user_id" in example.metadata for example in corpus.events)
    assert any("developer_key_id" in example.metadata for example in corpus.events)


CALIPER = {"event_name": "a", "kind": "user", "event": {}}


def _written(directory: Path, events: Any, notices: Any = None, caliper: Any = CALIPER) -> Path:
    for name, examples in (("live_events", events), ("caliper", [caliper]), ("notices", notices)):
        (directory / name).mkdir()
        if examples is not None:
            (directory / name / "some.json").write_text(json.dumps(examples))
    return directory


GOOD = {"event_name": "a", "kind": "user", "body": {}}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"kind": "user", "body": {}}, "event_name"),
        ({**GOOD, "kind": "ghost"}, "ghost"),
        ({**GOOD, "body": []}, "body"),
        ({**GOOD, "metdata": {}}, "metdata"),
    ],
)
def test_a_bad_example_is_refused_by_place_and_name(tmp_path: Path, bad: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=rf"some\.json\[1\].*{says}"):
        load_corpus(_written(tmp_path, [GOOD, bad], [{"notice_type": "n", "claims": {}}]))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({**CALIPER, "kind": "ghost"}, "ghost"),
        ({**CALIPER, "event": []}, "event"),
        ({**CALIPER, "body": {}}, "body"),
    ],
)
def test_a_bad_caliper_example_is_refused(tmp_path: Path, bad: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=rf"some\.json\[0\].*{says}"):
        load_corpus(_written(tmp_path, [GOOD], [{"notice_type": "n", "claims": {}}], bad))


def test_a_corpus_without_notices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no examples"):
        load_corpus(_written(tmp_path, [GOOD]))
