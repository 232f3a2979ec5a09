"""Where a ClickHouse server is, as `FOREBAY_STORE__URL` says it. Needs none of the driver."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_SECURE = {"true": True, "1": True, "false": False, "0": False}
_OPTIONS = frozenset({"secure", "ca_file"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server's HTTP interface. `ca_file` has the authorities to trust instead of the system's."""

    host: str
    port: int
    user: str = "default"
    password: str = field(default="", repr=False)
    secure: bool = False
    ca_file: Path | None = None

    @classmethod
    def of(cls, url: str) -> "Address":
        """From `clickhouse://user:password@host:port/?secure=true&ca_file=…`.

        Raises ValueError, whose text has nothing of the URL in it.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, strict_parsing=True) if parts.query else ())
            secure = _SECURE[options.get("secure", "false")]
            port = parts.port or (8443 if secure else 8123)
        except (ValueError, KeyError):
            raise ValueError(_FORM) from None
        if not parts.hostname or options.keys() - _OPTIONS:
            raise ValueError(_FORM)
        if parts.path not in ("", "/"):
            raise ValueError("the database is FOREBAY_STORE__SCHEMA, so the URL must not name one")
        return cls(
            host=parts.hostname,
            port=port,
            user=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=secure,
            ca_file=Path(options["ca_file"]) if "ca_file" in options else None,
        )

    def __str__(self) -> str:
        """As logs may have it."""
        return f"{self.host}:{self.port}"


_FORM = (
    "a ClickHouse server is written clickhouse://user:password@host:8123, with TLS"
    " clickhouse://user:password@host:8443/?secure=true, and &ca_file=<path> for an authority"
    " of your own"
)
