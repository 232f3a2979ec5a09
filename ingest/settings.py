"""All settings of the receiver in one frozen object, read once by the command."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from ingest.shared.environment import EnvironmentSettings, Section, TextList
from ingest.shared.sections import (
    EventlogSettings,
    KafkaSettings,
    LogSettings,
    TopicsSettings,
    sections_of,
)
from ingest.verifying.key_url import key_set_url

Port = Annotated[int, Field(ge=0, le=65535)]


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(network)) for network in networks)
    except ValueError:
        raise ValueError("must be networks such as 10.0.0.0/8, host bits zero") from None


Networks = Annotated[TextList, AfterValidator(_networks)]
"""Networks as CIDR; an address alone is one of itself."""


class HttpSettings(Section):
    """The public listener."""

    host: str = "127.0.0.1"  # a laptop needs no more, and who wants more says where
    port: Port = 8080
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    body_timeout_s: float = Field(default=3.0, gt=0, le=5)
    max_in_flight: int = Field(default=4_000, ge=1)
    handling_timeout_s: float = Field(default=9.5, gt=0, le=9.7)
    max_body_bytes_in_flight: int = Field(default=64 * 1024**2, ge=8 * 1024**2)
    head_timeout_s: float = Field(default=5.0, gt=0, le=10)
    max_connections: int = Field(default=10_000, ge=1)
    max_connections_per_address: int = Field(default=2_000, ge=1)
    """A fifth of all, so that one address cannot have them; Canvas sends from few addresses, and a
    load test from one, so it is no less. Past it that address's own idle connections go first."""
    trusted_proxies: Networks = ()
    shutdown_timeout_s: float = Field(default=15.0, gt=0)

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> "HttpSettings":
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS needs both TLS_CERT_FILE and TLS_KEY_FILE")
        return self


class AdminSettings(Section):
    """The admin listener: health and metrics, never public."""

    host: str = "127.0.0.1"
    port: Port = 9464
    allowed_hosts: TextList = ()


class LiveEventsSettings(Section):
    """Who signs Live Events. Source: Canvas documentation, Live Events: signed payloads."""

    issuer: str = "https://live-events.canvas.instructure.com"
    jwks_url: Annotated[str, AfterValidator(key_set_url)] = (
        "https://8axpcl50e4.execute-api.us-east-1.amazonaws.com/main/jwks"
    )


class VerifySettings(Section):
    """How tokens are judged."""

    leeway_s: float = Field(default=300, ge=0)
    keys_refresh_s: float = Field(default=600, ge=1)
    keys_max_age_s: float = Field(default=7 * 24 * 3600, gt=0)
    tenant_events_per_s: float | None = Field(default=None, gt=0)


class QuarantineSettings(Section):
    """What may be kept in quarantine."""

    tenant_unknown_per_hour: int = Field(default=1_000, ge=0)
    max_bytes_per_hour: int = Field(default=64 * 1024**2, ge=4 * 1024**2)
    keep_unpinned: bool = False


class SpoolSettings(Section):
    """The spool: what waits for Kafka, and tokens that wait for keys."""

    dir: Path | None = None
    """Its directory, of one process alone; `spool` inside the data directory if not set."""
    max_bytes: int = Field(default=4 * 1024**3, ge=32 * 1024**2)
    pns_reserve_bytes: int = Field(default=16 * 1024**2, ge=0)
    deferred_max_bytes: int = Field(default=512 * 1024**2, ge=1024**2)
    alarm_age_s: float = Field(default=600, gt=0)

    @model_validator(mode="after")
    def _reserve_leaves_room(self) -> "SpoolSettings":
        if 2 * self.pns_reserve_bytes > self.max_bytes:
            raise ValueError("PNS_RESERVE_BYTES must be at most half of MAX_BYTES")
        return self


class AlarmSettings(Section):
    """When somebody should look."""

    silence_hours: float = Field(default=24, gt=0)


class PublishSettings(Section):
    """How long Kafka may take for one record, from the moment that it is handed over.

    Beyond it the record goes to the spool, and both must fit into the ten seconds we have.
    """

    timeout_s: float = Field(default=2.0, gt=0, le=3)


class Settings(EnvironmentSettings):
    """Every setting of `forebay-ingest`: `FOREBAY_<SECTION>__<KEY>`."""

    foreign_sections: ClassVar[frozenset[str]] = sections_of("consumers")

    data_dir: Path = Path("data")
    tenants_file: Path | None = None
    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    live_events: LiveEventsSettings = LiveEventsSettings()
    verify: VerifySettings = VerifySettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    publish: PublishSettings = PublishSettings()
    eventlog: EventlogSettings = EventlogSettings()
    spool: SpoolSettings = SpoolSettings()
    alarm: AlarmSettings = AlarmSettings()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    log: LogSettings = LogSettings()

    @property
    def spool_dir(self) -> Path:
        """Where the spool is."""
        return self.spool.dir or self.data_dir / "spool"

    @model_validator(mode="after")
    def _listeners_differ(self) -> "Settings":
        if self.http.port == self.admin.port != 0:
            raise ValueError(
                f"FOREBAY_HTTP__PORT and FOREBAY_ADMIN__PORT are both {self.http.port},"
                " but one is public and one is not"
            )
        return self
