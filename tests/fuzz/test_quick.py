"""A share of `make fuzz`, and that it finds what it looks for."""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode
from collections.abc import Callable
from random import SystemRandom
from typing import Any

import pytest

from ingest.contract.eventlog import logfile
from ingest.normalising import canvas, values
from ingest.verifying import token, verifier
from tests.fuzz.__main__ import fuzz
from tests.support.each import each_case

_INPUTS = 8_000
_SEED = 1 if "CI" in os.environ else SystemRandom().randrange(10**9)


def test_no_spoilt_input_crashes_a_reader_or_is_let_in() -> None:
    findings = fuzz(seed=_SEED, inputs=_INPUTS, target=None)
    assert not findings.failed, f"seed {_SEED}:\n" + "\n".join(findings.crashes + findings.admitted)
    assert findings.inputs == _INPUTS


def _loose(segment: bytes) -> bytes:
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def _shortened(value: Any, path: Any, issues: Any) -> Any:
    return value[:-1] if isinstance(value, list) else value


def _raising(*arguments: object) -> str | None:
    raise KeyError("a bug")


_BUGS: dict[str, tuple[str, object, str, Callable[..., Any]]] = {
    "base64 that is read loosely": ("token", token, "_decoded", _loose),
    "signatures that are not looked at": ("verifier", verifier, "is_signed", lambda *_: True),
    "values that are lost": ("claims", values, "by_shape", _shortened),
    "an error that nobody declared": ("claims", canvas, "_truncated", _raising),
    "checksums that are not looked at": ("spool", logfile, "_checksum", lambda *_: 0),
}


def test_each_kind_of_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with each_case() as case:
        for name, (target, module, function, bug) in _BUGS.items():
            with case(name), monkeypatch.context() as patched:
                patched.setattr(module, function, bug)
                assert fuzz(seed=1, inputs=200, target=target).failed
