"""Settings that both programs read, each spelled once, and whose all the others are.

Both programs may run with one environment. A section that none of them has is an error in either;
what is in a section is checked by whoever reads it.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ingest.contract.topics import PREFIX_PATTERN
from ingest.shared.environment import Section, SettingsError

Program = Literal["ingest", "consumers"]

_SECTIONS: Mapping[Program, frozenset[str]] = {
    "ingest": frozenset(
        {
            "admin",
            "alarm",
            "http",
            "live_events",
            "publish",
            "quarantine",
            "spool",
            "verify",
        }
    ),
    "consumers": frozenset({"store", "worker"}),
}
_SETTINGS: Mapping[Program, frozenset[str]] = {
    "ingest": frozenset({"tenants_file"}),
    "consumers": frozenset(),
}


def sections_of(program: Program) -> frozenset[str]:
    """The sections that this program reads alone."""
    return _SECTIONS[program]


def settings_of(program: Program) -> frozenset[str]:
    """The settings outside sections that this program reads alone."""
    return _SETTINGS[program]


def _addresses(text: str) -> str:
    for address in text.split(","):
        host, _, port = address.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65_536):
            raise ValueError("must be host:port, or several with commas between them")
    return text


class KafkaSettings(Section):
    """How to reach Kafka. Without `bootstrap_servers` the embedded event log takes its place."""

    bootstrap_servers: Annotated[str, AfterValidator(_addresses)] | None = None
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: Path | None = None

    @model_validator(mode="after")
    def _credentials_belong_together(self) -> "KafkaSettings":
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and self.sasl_password
        ):
            raise ValueError("SASL needs both SASL_USERNAME and SASL_PASSWORD")
        return self

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes. Raises SettingsError."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            assert self.sasl_password is not None  # the validator saw to it
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password.get_secret_value()
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._tls()
        return options

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ssl_ca_file)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or "not a certificate"
            raise SettingsError(f"FOREBAY_KAFKA__SSL_CA_FILE: {reason}") from None


class TopicsSettings(Section):
    """Names and shape of topics."""

    prefix: str = Field(default="canvas", pattern=f"^{PREFIX_PATTERN}$")
    partitions: int = Field(default=3, ge=1)
    retention_hours: int = Field(default=168, ge=1)


class EventlogSettings(Section):
    """The embedded event log, used while no Kafka is named. Its receiver keeps it to this."""

    retention_hours: float = Field(default=168, gt=0)
    max_bytes: int = Field(default=10 * 1024**3, ge=64 * 1024**2)


class LogSettings(Section):
    """Log lines on stderr; `auto` is for people on a terminal and JSON everywhere else."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
