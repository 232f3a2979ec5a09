"""The receiver's settings: defaults of the contract, bounds, and what belongs together."""

from pathlib import Path

import pytest

from ingest.settings import Settings
from ingest.shared.environment import SettingsError, load, typed, variables


@pytest.fixture(autouse=True)
def _no_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        monkeypatch.delenv(name)


def test_defaults_are_the_contracts() -> None:
    shown = variables(load(Settings))
    expected = {
        "FOREBAY_HTTP__HOST": "127.0.0.1",
        "FOREBAY_QUARANTINE__KEEP_UNPINNED": False,
        "FOREBAY_HTTP__PORT": 8080,
        "FOREBAY_ADMIN__HOST": "127.0.0.1",
        "FOREBAY_ADMIN__PORT": 9464,
        "FOREBAY_DATA_DIR": "data",
        "FOREBAY_TENANTS_FILE": None,
        "FOREBAY_TOPICS__PREFIX": "canvas",
        "FOREBAY_VERIFY__LEEWAY_S": 300,
        "FOREBAY_VERIFY__KEYS_MAX_AGE_S": 604_800,
        "FOREBAY_QUARANTINE__TENANT_UNKNOWN_PER_HOUR": 1_000,
        "FOREBAY_QUARANTINE__MAX_BYTES_PER_HOUR": 64 * 1024**2,
        "FOREBAY_EVENTLOG__RETENTION_HOURS": 168,
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": None,
        "FOREBAY_LIVE_EVENTS__ISSUER": "https://live-events.canvas.instructure.com",
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["FOREBAY_LIVE_EVENTS__JWKS_URL"].startswith("https://")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOREBAY_HTTP__PORT", "65536"),
        ("FOREBAY_HTTP__PORT", "-1"),
        ("FOREBAY_HTTP__PORT", "http"),
        ("FOREBAY_TOPICS__PREFIX", "Campus"),
        ("FOREBAY_TOPICS__PREFIX", "a_b"),
        ("FOREBAY_TOPICS__PREFIX", "a\n"),
        ("FOREBAY_LIVE_EVENTS__JWKS_URL", "http://keys.example.edu"),
        ("FOREBAY_VERIFY__LEEWAY_S", "-1"),
        ("FOREBAY_VERIFY__LEEWAY_S", "nan"),
        ("FOREBAY_PUBLISH__TIMEOUT_S", "60"),
        ("FOREBAY_KAFKA__SECURITY_PROTOCOL", "sasl"),
        ("FOREBAY_LOG__LEVEL", "loud"),
        ("FOREBAY_QUARANTINE__TENANT_UNKNOWN_PER_HOUR", "-1"),
        ("FOREBAY_HTTP__TRUSTED_PROXIES", "10.0.0.0/8"),
        ("FOREBAY_HTTP__TRUSTED_PROXIES", '["10.0.0.1/8"]'),
        ("FOREBAY_HTTP__TRUSTED_PROXIES", '["proxy.example.edu"]'),
        ("FOREBAY_ADMIN__ALLOWED_HOSTS", "[1]"),
        ("FOREBAY_QUARANTINE__MAX_BYTES_PER_HOUR", "4194303"),
        ("FOREBAY_VERIFY__KEYS_MAX_AGE_S", "0"),
    ],
)
def test_value_out_of_bounds_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    "environment",
    [
        {"FOREBAY_HTTP__TLS_CERT_FILE": "cert.pem"},
        {"FOREBAY_HTTP__TLS_KEY_FILE": "key.pem"},
        {"FOREBAY_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"},
        {
            "FOREBAY_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "FOREBAY_KAFKA__SASL_USERNAME": "receiver",
        },
    ],
)
def test_settings_that_belong_together_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert len(str(caught.value).splitlines()) == 1


def test_list_is_read_and_shown_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HTTP__TRUSTED_PROXIES", '["10.0.0.0/8", "192.0.2.1"]')
    settings = load(Settings)
    assert settings.http.trusted_proxies == ("10.0.0.0/8", "192.0.2.1/32")
    shown = variables(settings)["FOREBAY_HTTP__TRUSTED_PROXIES"]
    monkeypatch.setenv("FOREBAY_HTTP__TRUSTED_PROXIES", typed(shown))
    assert load(Settings) == settings


def test_sections_of_the_workers_are_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_STORE__URL", "duckdb:///x")
    monkeypatch.setenv("FOREBAY_WORKER__NAME", "tables")
    assert load(Settings) == Settings()


def test_kafka_password_reaches_the_client_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("open-sesame-5551\n")
    monkeypatch.setenv("FOREBAY_KAFKA__BOOTSTRAP_SERVERS", "broker.example.edu:9092")
    monkeypatch.setenv("FOREBAY_KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("FOREBAY_KAFKA__SASL_USERNAME", "receiver")
    monkeypatch.setenv("FOREBAY_KAFKA__SASL_PASSWORD_FILE", str(tmp_path / "password"))
    settings = load(Settings)
    options = settings.kafka.client_options()
    assert options["sasl_plain_password"] == "open-sesame-5551"
    assert options["bootstrap_servers"] == "broker.example.edu:9092"
    assert "open-sesame" not in repr(settings) + str(variables(settings))
