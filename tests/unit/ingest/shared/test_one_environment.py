"""Both programs run with one environment, in which every setting of both is set."""

import os
from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner
from pydantic import BaseModel

import consumers.settings
import ingest.settings
from consumers.commands.main import main as consumers_main
from ingest.commands.main import main as ingest_main
from ingest.shared.environment import load, variables
from ingest.shared.sections import sections_of, settings_of

MODELS = (ingest.settings.Settings, consumers.settings.Settings)
PROGRAMS = pytest.mark.parametrize("program", [ingest_main, consumers_main])
TENANTS = """
[[tenant]]
name = "north"

[[tenant.live_events]]
root_account_uuid = "root-account-of-north-campus"
"""
WITHOUT_DEFAULT = {
    "FOREBAY_HTTP__TLS_CERT_FILE": "cert.pem",
    "FOREBAY_HTTP__TLS_KEY_FILE": "key.pem",
    "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": "kafka.example.edu:9093",
    "FOREBAY_KAFKA__SASL_USERNAME": "north",
    "FOREBAY_KAFKA__SASL_PASSWORD": "sluice-gate",
    "FOREBAY_KAFKA__SSL_CA_FILE": "ca.pem",
    "FOREBAY_SPOOL__DIR": "spool",
    "FOREBAY_TENANTS_FILE": "tenants.toml",
    "FOREBAY_VERIFY__TENANT_EVENTS_PER_S": "100",
}


@pytest.fixture
def union(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Every setting of both programs, as it is by default where it has a default."""
    for name in list(os.environ):
        if name.startswith("FOREBAY_"):
            monkeypatch.delenv(name)
    (tmp_path / "tenants.toml").write_text(TENANTS)
    monkeypatch.chdir(tmp_path)
    defaults = {name: value for model in MODELS for name, value in variables(load(model)).items()}
    return {n: str(WITHOUT_DEFAULT[n] if v is None else v) for n, v in defaults.items()}


@PROGRAMS
def test_every_setting_of_both_may_be_set_for_either(
    program: Command, union: dict[str, str]
) -> None:
    result = CliRunner().invoke(program, ["config", "check"], env=union)
    assert (result.exit_code, result.stderr) == (0, "")


@PROGRAMS
@pytest.mark.parametrize("name", ["FOREBAY_SPOOLS__DIR", "FOREBAY_STORRE__URL", "FOREBAY_TENANTS"])
def test_section_that_neither_has_is_an_error_in_either(
    program: Command, union: dict[str, str], name: str
) -> None:
    result = CliRunner().invoke(program, ["config", "check"], env=union | {name: "x"})
    assert result.exit_code == 2
    assert f"{name}: there is no such setting" in result.stderr


def test_the_list_of_sections_is_what_the_programs_read() -> None:
    of_ingest, of_consumers = (set(model.model_fields) for model in MODELS)
    alone = {"ingest": of_ingest - of_consumers, "consumers": of_consumers - of_ingest}
    for program, names in alone.items():
        fields = MODELS[program == "consumers"].model_fields
        sections = {
            name
            for name in names
            if isinstance(kind := fields[name].annotation, type) and issubclass(kind, BaseModel)
        }
        assert sections_of(program) == sections  # type: ignore[arg-type]
        assert settings_of(program) == names - sections  # type: ignore[arg-type]
