"""What `make audit` makes of pip-audit's answer."""

import json
from typing import Any

from tests.audit import KNOWN, UNREACHABLE, judged
from tests.support.each import each_case

_SOUND: dict[str, Any] = {"name": "click", "version": "8.3.0", "vulns": []}
_FLAWED = {
    "name": "aiohttp",
    "version": "3.0.0",
    "vulns": [{"id": "GHSA-1", "fix_versions": ["3.0.1"]}, {"id": "GHSA-2", "fix_versions": []}],
}
_SKIPPED = {"name": "orjson", "skip_reason": "not found"}


def _judged(*dependencies: dict[str, Any]) -> tuple[list[str], int]:
    lines, status = judged(json.dumps({"dependencies": dependencies, "fixes": []}), "")
    return list(lines), status


def test_no_known_flaw_is_well() -> None:
    assert _judged(_SOUND) == (["audit: no known flaw in 1 packages"], 0)


def test_each_known_flaw_is_a_line() -> None:
    lines, status = _judged(_SOUND, _FLAWED, _SKIPPED)
    assert status == KNOWN
    assert lines == [
        "aiohttp 3.0.0: GHSA-1, fixed in 3.0.1",
        "aiohttp 3.0.0: GHSA-2, fixed in no release",
        "audit: 2 known flaws in 3 packages",
    ]


def test_what_could_not_be_looked_up_is_never_well() -> None:
    answers = {
        "some": _judged(_SOUND, _SKIPPED),
        "none": _judged(),
        "failure": judged("", "a trace\nconnection refused\n"),
        "nothing at all": judged("", ""),
    }
    with each_case() as case:
        for name, (lines, status) in answers.items():
            with case(name):
                assert (len(lines), status) == (1, UNREACHABLE)
