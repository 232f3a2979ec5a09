"""Published contracts of the past: a directory, a file, or what git has of one."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingest.contract.describe.compatibility import Contract
from ingest.contract.describe.published import SCHEMAS

COMMITTED_AT = "deploy/contract"
"""Where the repository keeps its copy, as seen from its root."""

_GIT_TIMEOUT_S = 60.0


class NoContract(Exception):
    """Nothing to compare with; the text says why."""


def contracts(against: str) -> Iterator[tuple[str, Contract]]:
    """What is named, and each contract of it by a name of its own. Raises NoContract.

    `against` is a directory or file if there is one of this name, else a revision of the git
    repository that we are in. Of a revision every later state of the contract on the way to HEAD
    follows, since somebody may have built on each.
    """
    path = Path(against)
    if path.exists():
        yield against, _from_path(path)
        return
    oldest = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{against}^{{commit}}")
    yield against, _from_git(oldest.decode().strip(), against)
    since = f"{oldest.decode().strip()}..HEAD"
    later = _git("log", "--first-parent", "--format=%H", since, "--", f":/{COMMITTED_AT}/{SCHEMAS}")
    for revision in later.decode().split():
        yield revision[:12], _from_git(revision, revision[:12])


def _from_path(path: Path) -> Contract:
    directory = path / SCHEMAS if (path / SCHEMAS).is_dir() else path
    files = sorted(directory.glob("*.json")) if directory.is_dir() else [path]
    try:
        return _contract({str(file): file.read_bytes() for file in files}, str(path))
    except OSError as error:
        raise NoContract(f"{path} cannot be read: {error.strerror}") from error


def _from_git(revision: str, named: str) -> Contract:
    root = _git("rev-parse", "--show-toplevel").decode().rstrip("\n")
    packed = _git("-C", root, "archive", "--format=tar", revision, f"{COMMITTED_AT}/{SCHEMAS}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive]
        texts = {name: file.read() for name, file in members if file is not None}
    return _contract(texts, named)


def _contract(texts: dict[str, bytes], named: str) -> Contract:
    if not texts:
        raise NoContract(f"{named} holds no schemas")
    contract: dict[str, dict[str, Any]] = {}
    for path, text in texts.items():
        try:
            schema = json.loads(text)
            contract[schema["$id"].rpartition(":")[2]] = schema
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoContract(f"{path} is no schema of ours") from error
    return contract


def _git(*arguments: str) -> bytes:
    command = ["git", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and a revision cannot pass for an option
            command, check=False, capture_output=True, timeout=_GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoContract(f"git does not answer: {type(error).__name__}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise NoContract(said or "there is no such file, directory or revision")
    return done.stdout
