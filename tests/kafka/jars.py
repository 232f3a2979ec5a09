"""The jars on a broker's class path: those of jgo.lock.toml, with the bytes it names."""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kafka.errors import KafkaUnavailable

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK_FILE = Path(__file__).with_name("jgo.lock.toml")
DOWNLOAD_TIMEOUT_S = 30
DOWNLOADS_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedJar:
    """One jar of the lock. `sha256` is 64 hex digits."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def path(self) -> Path:
        """Where a Maven repository keeps it.

        Source: Apache Maven documentation, "Repository Layout - Maven 2".
        """
        file_name = f"{self.artifact}-{self.version}.jar"
        return Path(*self.group.split("."), self.artifact, self.version, file_name)


def classpath() -> list[Path]:
    """Every jar a broker needs, in the lock's order; fetches what the local repository lacks.

    Blocks for as long as the downloads take (about 45 MB, once). Raises `KafkaUnavailable` if a
    jar cannot be had or is not the one that was locked.
    """
    return list(_resolved())


def locked_jars(lock_file: Path = LOCK_FILE) -> list[LockedJar]:
    """The jars that a jgo lock file names."""
    with lock_file.open("rb") as stream:
        dependencies = tomllib.load(stream)["dependencies"]
    return [
        LockedJar(
            group=dependency["groupId"],
            artifact=dependency["artifactId"],
            version=dependency["version"],
            sha256=dependency["sha256"],
        )
        for dependency in dependencies
    ]


@cache
def _resolved() -> tuple[Path, ...]:
    # jgo takes a third of a second to import; a session on the user's own broker needs none of it
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL

    settings = GlobalSettings.load()
    repository = Path(settings.repo_cache).expanduser()
    remotes = {"central": MAVEN_CENTRAL_URL, **settings.repositories}
    jars = locked_jars()
    if _absent(jars, repository):
        try:
            with _only_one_process(repository):
                _download(_absent(jars, repository), repository, remotes)
        except OSError as error:
            raise KafkaUnavailable(f"cannot store Kafka's jars in {repository}: {error}") from error
    return tuple(repository / jar.path for jar in jars)


def _absent(jars: Sequence[LockedJar], repository: Path) -> list[LockedJar]:
    return [jar for jar in jars if not _is_intact(repository / jar.path, jar.sha256)]


def _is_intact(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


@contextmanager
def _only_one_process(repository: Path) -> Iterator[None]:
    repository.mkdir(parents=True, exist_ok=True)
    with (repository / ".forebay-kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, or its process dies
        yield


def _download(jars: Sequence[LockedJar], repository: Path, remotes: dict[str, str]) -> None:
    from jgo.maven import MavenContext

    # jgo writes straight to a jar's final name, so a download cut short would look complete:
    # hence the staging
    with (
        tempfile.TemporaryDirectory(dir=repository, prefix=".forebay-kafka-") as staging,
        ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool,
    ):
        context = MavenContext(
            repo_cache=Path(staging),
            local_repos=[],
            remote_repos=remotes,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        fetched = [pool.submit(_fetch, jar, context, repository) for jar in jars]
        for future in fetched:
            future.result()


def _fetch(jar: LockedJar, context: MavenContext, repository: Path) -> None:
    try:
        staged = (
            context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        )
    except (OSError, RuntimeError) as error:  # requests' own errors are OSErrors
        raise KafkaUnavailable(f"cannot fetch {jar.coordinate}: {error}") from error
    if not _is_intact(staged, jar.sha256):
        raise KafkaUnavailable(f"{jar.coordinate} is not the jar that {LOCK_FILE.name} names")
    target = repository / jar.path
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.replace(target)
