"""Settings and what the command says about them."""

import os
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from consumers.commands.main import main
from consumers.settings import Settings, StoreSettings
from ingest.shared.environment import SecretUrl, load, secret_files


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FOREBAY_"):
            monkeypatch.delenv(name)


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def show(**environment: str) -> Mapping[str, object]:
    result = invoke("config", "show", "--json", **environment)
    assert result.exit_code == 0, result.output
    shown: Mapping[str, object] = orjson.loads(result.stdout)
    return shown


def test_a_password_in_a_url_is_not_shown() -> None:
    url = "https://reader:open-sesame-5551@keys.example.edu"
    for form in ((), ("--json",)):
        result = invoke("config", "show", *form, FOREBAY_KAFKA__SASL_USERNAME=url)
        assert "https://reader:***@keys.example.edu" in result.stdout
        assert "open-sesame" not in result.output


def test_defaults_need_no_environment() -> None:
    shown = show()
    assert shown["FOREBAY_STORE__URL"] == "duckdb:///data/forebay.duckdb"
    assert shown["FOREBAY_STORE__SCHEMA"] == "canvas"
    assert shown["FOREBAY_WORKER__NAME"] == "tables"
    assert shown["FOREBAY_WORKER__ADMIN_PORT"] == 9465
    assert shown["FOREBAY_DATA_DIR"] == "data"


def test_secrets_are_hidden() -> None:
    result = invoke(
        "config",
        "show",
        FOREBAY_KAFKA__BOOTSTRAP_SERVERS="kafka.example.edu:9093",
        FOREBAY_KAFKA__SECURITY_PROTOCOL="SASL_PLAINTEXT",
        FOREBAY_KAFKA__SASL_USERNAME="tables",
        FOREBAY_KAFKA__SASL_PASSWORD="sluice-gate",
    )
    assert "FOREBAY_KAFKA__SASL_PASSWORD=hidden" in result.stdout
    assert "sluice-gate" not in result.output


def test_the_receivers_settings_are_left_to_it() -> None:
    result = invoke(
        "config", "check", FOREBAY_HTTP__PORT="8443", FOREBAY_TENANTS_FILE="tenants.toml"
    )
    assert result.exit_code == 0
    assert "FOREBAY_TENANTS_FILE" not in show(FOREBAY_TENANTS_FILE="tenants.toml")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FOREBAY_STORE__URL", "mysql://root:sluice-gate@db.example.edu/lake", "duckdb:///<path>"),
        ("FOREBAY_STORE__URL", "sluice-gate", "postgresql://…"),
        ("FOREBAY_STORE__URL", "postgresql://root:sluice-gate@7@db.example.edu/lake", "%40"),
        ("FOREBAY_STORE__URL", "postgresql://root:5/sluice-gate@db.example.edu/lake", "%2F"),
        ("FOREBAY_STORE__URL", "postgresql://root:5?sluice-gate@db.example.edu/lake", "%3F"),
        ("FOREBAY_STORE__URL", "postgresql://root:5#sluice-gate@db.example.edu/lake", "%23"),
        ("FOREBAY_STORE__URL", "clickhouse://root:sluice-gate @db.example.edu/lake", "%20"),
        ("FOREBAY_STORE__URL", "postgresql://root:sluice-gate/lake", "host:port"),
        ("FOREBAY_STORE__URL", "clickhouse://root:sluice-gate@db/lake", "FOREBAY_STORE__SCHEMA"),
        ("FOREBAY_STORE__URL", "clickhouse://root:sluice-gate@db/?verify=0", "secure=true"),
        ("FOREBAY_STORE__URL", "postgresql:root:sluice-gate@db.example.edu/lake", "host:port"),
        ("FOREBAY_STORE__URL", "duckdb:///:memory:", "duckdb:///<path>"),
        ("FOREBAY_STORE__URL", "duckdb://lake.duckdb", "duckdb:///<path>"),
        ("FOREBAY_STORE__URL", "duckdb:///", "duckdb:///<path>"),
        ("FOREBAY_STORE__URL", "duckdb:///lake/", "duckdb:///<path>"),
        ("FOREBAY_STORE__URL", "duckdb:///data/canvas.duckdb", "named like the schema"),
        ("FOREBAY_STORE__URL", "duckdb:////srv/Canvas.v2.duckdb", "named like the schema"),
        ("FOREBAY_STORE__SCHEMA", "Two Words", "FOREBAY_STORE__SCHEMA"),
        ("FOREBAY_WORKER__NAME", "Tables", "FOREBAY_WORKER__NAME"),
        ("FOREBAY_WORKER__FLUSH_INTERVAL_S", "30", "FOREBAY_WORKER__FLUSH_INTERVAL_S"),
        ("FOREBAY_WORKER__TABLES", "events,flows", "there is no table of events 'flows'"),
        ("FOREBAY_WORKER__TYPES", "grade_*,flow_*", "there is no event type 'flow_*'"),
        ("FOREBAY_WORKER__COLOUR", "red", "there is no such setting"),
        ("FOREBAY_WROKER__NAME", "tables", "there is no such setting"),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("config", "show"), ("config", "check")])
def test_a_bad_setting_ends_every_command_with_one_line(
    command: tuple[str, ...], name: str, value: str, said: str
) -> None:
    result = invoke(*command, **{name: value})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "sluice-gate" not in result.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--tables", "FOREBAY_WORKER__TABLES: there is no table of events 'flows'"),
        ("--types", "FOREBAY_WORKER__TYPES: there is no event type 'flows'"),
    ],
)
def test_an_option_that_names_nothing_ends_the_worker_with_one_line(option: str, said: str) -> None:
    result = invoke("run", option, "flows", FOREBAY_WORKER__TABLES="events")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_option_takes_the_place_of_the_setting_alone() -> None:
    given = {"worker": {"tables": "events"}}
    environment = {"FOREBAY_WORKER__TABLES": "course_*", "FOREBAY_WORKER__NAME": "narrow"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        worker = load(Settings, given).worker
    assert (worker.tables, worker.types, worker.name) == ("events", "*", "narrow")


def test_paths_are_as_in_sqlalchemy() -> None:
    relative = StoreSettings(url=SecretUrl("duckdb:///lake/north.duckdb")).duckdb_path()
    absolute = StoreSettings(url=SecretUrl("duckdb:////srv/north.duckdb")).duckdb_path()
    assert (str(relative), str(absolute)) == ("lake/north.duckdb", "/srv/north.duckdb")


@pytest.mark.parametrize(
    ("url", "shown_as"),
    [
        ("postgresql://lake:sluice-gate@db.example.edu:5433/reservoir?sslmode=verify-full", None),
        ("postgresql://lake:sluice-gate@one.example.edu:1,two.example.edu:2/reservoir", None),
        ("clickhouse://lake:sluice-gate@db.example.edu", None),
        (
            "postgresql:///reservoir?host=/run/postgresql&user=lake&password=sluice-gate",
            "postgresql:///reservoir?host=/run/postgresql&user=lake&password=***",
        ),
    ],
)
def test_of_a_servers_url_all_but_the_password_is_shown(url: str, shown_as: str | None) -> None:
    masked = shown_as or url.replace("sluice-gate", "***")
    assert show(FOREBAY_STORE__URL=url)["FOREBAY_STORE__URL"] == masked
    store = StoreSettings(url=SecretUrl(url))
    assert store.url.get_secret_value() == url
    assert "sluice-gate" not in f"{store} {store!r} {store.model_dump_json()}"
    assert store.files() == []


def test_a_stores_url_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "store-url"
    file.write_text("postgresql://lake:sluice-gate@db.example.edu/reservoir\n")
    monkeypatch.setenv("FOREBAY_STORE__URL_FILE", str(file))
    settings = load(Settings)
    assert settings.store.kind == "postgresql"
    assert settings.store.url.get_secret_value().endswith("@db.example.edu/reservoir")
    assert secret_files(Settings) == [file]


def test_a_servers_schema_may_be_named_like_anything() -> None:
    url = "postgresql://db.example.edu/canvas"
    assert show(FOREBAY_STORE__URL=url, FOREBAY_STORE__SCHEMA="canvas")
