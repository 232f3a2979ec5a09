"""The consumers' settings: one frozen object, read once."""

import re
import warnings
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from consumers.choice import EVERYTHING, tables_named, types_named
from consumers.sinks.clickhouse_url import Address
from ingest.shared.environment import EnvironmentSettings, SecretUrl, Section, TextList
from ingest.shared.sections import (
    EventlogSettings,
    KafkaSettings,
    LogSettings,
    TopicsSettings,
    sections_of,
    settings_of,
)

# pydantic's own, deprecated BaseModel.schema() is never called here, so the name is free for ours
warnings.filterwarnings("ignore", message='Field name "schema" in "StoreSettings" shadows')

StoreKind = Literal["duckdb", "postgresql", "clickhouse"]
"""Which store an URL is of: its scheme."""

_DUCKDB_URL = re.compile(r"duckdb:///(?P<path>[^?#]+)")
_HOST = r"(?:\[[0-9a-f:.]+\]|[^@/?#\s:,\[\]]*)(?::\d+)?"
# so strict that nothing of a password is taken for a host, a port, a path or a parameter
_SERVER_URL = re.compile(
    rf"[a-z]+://(?:[^@/?#\s]*@)?{_HOST}(?:,{_HOST})*(?:[/?][^@#\s]*)?", re.IGNORECASE
)


class StoreSettings(Section):
    """The store that holds the tables, and the schema they are in.

    Paths are as in SQLAlchemy's URLs: three slashes relative to the working directory, four
    absolute.
    """

    url: SecretUrl = SecretUrl("duckdb:///data/forebay.duckdb")
    schema: str = Field(default="canvas", pattern=r"^[a-z_][a-z0-9_]{0,62}$")  # type: ignore[assignment]

    @field_validator("url")
    @classmethod
    def _is_supported(cls, url: SecretUrl) -> SecretUrl:
        kind, text = _scheme(url), url.get_secret_value()
        if kind not in get_args(StoreKind):
            # the rest of an URL may be a password
            raise ValueError("must be duckdb:///<path>, postgresql://… or clickhouse://…")
        if kind != "duckdb":
            _check_server(kind, text)
            if kind == "clickhouse":
                Address.of(text)
            return url
        match = _DUCKDB_URL.fullmatch(text)
        if match is None or match["path"].startswith(":") or match["path"].endswith("/"):
            raise ValueError("a DuckDB file is written duckdb:///<path>")
        return url

    @model_validator(mode="after")
    def _names_differ(self) -> "StoreSettings":
        if self.kind == "duckdb" and _database_name(self.duckdb_path()) == self.schema:
            raise ValueError(
                f"a DuckDB file may not be named like the schema, {self.schema!r}: in SQL, "
                f"{self.schema}.events could then mean either"
            )
        return self

    @property
    def kind(self) -> StoreKind:
        """Which store it is."""
        return cast(StoreKind, _scheme(self.url))

    def files(self) -> list[Path]:
        """The files that hold the tables; none where a server does."""
        return [self.duckdb_path()] if self.kind == "duckdb" else []

    def duckdb_path(self) -> Path:
        """The file that `url` names."""
        return Path(self.url.get_secret_value().removeprefix("duckdb:///"))


def _scheme(url: SecretUrl) -> str:
    return url.get_secret_value().partition(":")[0]


def _check_server(kind: str, url: str) -> None:
    if _SERVER_URL.fullmatch(url) is None:
        raise ValueError(
            f"must be {kind}://user:password@host:port/database; in user and password @ is "
            "written %40, / %2F, ? %3F, # %23, a space %20"
        )


def _database_name(path: Path) -> str:
    """The name by which SQL in a DuckDB file calls the file (seen with DuckDB 1.4 and 2.0)."""
    return path.name.partition(".")[0].lower()


class WorkerSettings(Section):
    """One worker: its name is its consumer group's and its offsets'."""

    name: str = Field(default="tables", pattern=r"^[a-z0-9-]+$", max_length=100)
    flush_interval_s: float = Field(default=0.5, gt=0, le=60)
    max_batch_rows: int = Field(default=25_000, ge=1, le=1_000_000)
    max_batch_bytes: int = Field(default=24 * 1024**2, ge=1024**2)
    tables: Annotated[str, AfterValidator(tables_named)] = EVERYTHING
    types: Annotated[str, AfterValidator(types_named)] = EVERYTHING
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=9465, ge=0, le=65_535)
    admin_allowed_hosts: TextList = ()


class Settings(EnvironmentSettings):
    """All that `FOREBAY_*` may say to a consumer."""

    foreign_sections: ClassVar[frozenset[str]] = sections_of("ingest")
    foreign_settings: ClassVar[frozenset[str]] = settings_of("ingest")

    data_dir: Path = Path("data")

    eventlog: EventlogSettings = Field(default_factory=EventlogSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    topics: TopicsSettings = Field(default_factory=TopicsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)

    @model_validator(mode="after")
    def _duckdb_is_written_often(self) -> "Settings":
        if self.store.kind == "duckdb" and self.worker.flush_interval_s > 1:
            raise ValueError("FOREBAY_WORKER__FLUSH_INTERVAL_S may be at most 1 with DuckDB")
        return self
