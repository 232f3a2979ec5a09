"""Files of ours are for the user that we run as alone: they hold personal data, tokens and keys."""

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def keep_to_ourselves() -> None:
    """From here on nobody else may read, write or enter what this process makes."""
    os.umask(0o077)


def warn_of_shared(directories: Iterable[Path], files: Iterable[Path] = ()) -> None:
    """Says which directories, files in them and further files exist with rights for others.

    A directory with the setgid bit was given to a group on purpose, as Kubernetes does by fsGroup:
    the group's rights in it are not spoken of.
    """
    found = set(files)
    for directory in dict.fromkeys(directories):
        _warn("700", [directory] if directory.is_dir() and _is_shared(directory) else [])
        found |= set(_files_in(directory))
    _warn("600", sorted(path for path in found if _is_shared(path)))


def warn_of_secrets(files: Iterable[Path]) -> None:
    """Says which of these anybody can read. What a group may read is mounted so by Kubernetes."""
    _warn("640", sorted(path for path in files if _mode(path) & stat.S_IROTH))


def _warn(mode: str, paths: Iterable[Path]) -> None:
    texts = [str(path.absolute()) for path in paths]
    if texts:
        run = f"chmod {mode} {shlex.join(texts)}"
        log.warning("others on this machine have rights to these files", paths=texts, run=run)


def _is_shared(path: Path) -> bool:
    mode = _mode(path)
    around = mode if stat.S_ISDIR(mode) else _mode(path.parent)
    return bool(mode & (0o007 if around & stat.S_ISGID else 0o077))


def _files_in(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_file()]
    except OSError:
        return []


def _mode(path: Path) -> int:
    """The file's mode; 0 where there is none, or none that we may look at."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
