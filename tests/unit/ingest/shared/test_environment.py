"""Settings from the environment: what is read, what is an error, and what is never shown."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr, ValidationError

from ingest.shared.environment import (
    EnvironmentSettings,
    Section,
    SettingsError,
    load,
    variables,
)
from tests.support.each import each_case

_SECRET = "open-sesame-5551"


class _Tap(Section):
    flow: int = 3
    valve_file: Path | None = None
    code: SecretStr | None = None
    pipe: str = ""


class _Settings(EnvironmentSettings):
    foreign_sections: ClassVar[frozenset[str]] = frozenset({"garden"})
    foreign_settings: ClassVar[frozenset[str]] = frozenset({"gate"})

    basin: Path = Path("basin")
    pin: SecretStr | None = None
    tap: _Tap = _Tap()


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def test_defaults_hold_without_any_variable() -> None:
    assert load(_Settings).tap.flow == 3


def test_variables_are_read_by_section_and_key(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_BASIN", "lake")
    env.setenv("FOREBAY_TAP__FLOW", "8")
    settings = load(_Settings)
    assert (settings.basin, settings.tap.flow) == (Path("lake"), 8)


@pytest.mark.parametrize(
    "name",
    [
        "FOREBAY_TAPP__FLOW",
        "FOREBAY_TAP__FLOWW",
        "FOREBAY_TAP_FLOW",
        "FOREBAY_TAP__FLOW__MORE",
        "FOREBAY_TAP",
        "FOREBAY_BASINN",
        "FOREBAY_BASIN_FILE",
        "FOREBAY_TAP__FLOW_FILE",
        "FOREBAY_",
        "FOREBAY___FLOW",
        "FOREBAY_GARDEN",
        "FOREBAY_GATE__HOSE",
        "FOREBAY_GATES",
        "FOREBAY_GARDENS__HOSE",
    ],
)
def test_misspelt_variable_is_named(env: pytest.MonkeyPatch, name: str) -> None:
    env.setenv(name, _SECRET)
    with pytest.raises(SettingsError) as caught:
        load(_Settings)
    assert str(caught.value) == f"{name}: there is no such setting"


def test_every_misspelt_variable_has_its_line(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_A", "1")
    env.setenv("FOREBAY_B__C", "1")
    with pytest.raises(SettingsError) as caught:
        load(_Settings)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "FOREBAY_A",
        "FOREBAY_B__C",
    ]


def test_section_of_the_other_program_is_left_to_it(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_GARDEN__HOSE", "long")
    env.setenv("FOREBAY_GATE", "open")
    env.setenv("FORE_BAY__X", "not ours at all")
    assert load(_Settings) == _Settings()


@pytest.mark.parametrize(
    "name", ["FOREBAY_TAP__FLOW", "FOREBAY_BASIN", "FOREBAY_PIN", "FOREBAY_PIN_FILE"]
)
def test_empty_variable_is_an_unset_one(env: pytest.MonkeyPatch, name: str) -> None:
    env.setenv(name, "")
    assert load(_Settings) == _Settings()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("FOREBAY_PIN", lambda settings: settings.pin),
        ("FOREBAY_TAP__CODE", lambda settings: settings.tap.code),
    ],
)
def test_secret_is_read_from_a_file(
    env: pytest.MonkeyPatch, tmp_path: Path, name: str, read: object
) -> None:
    (tmp_path / "secret").write_text(f"{_SECRET}\n")
    env.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    assert read(load(_Settings)).get_secret_value() == _SECRET  # type: ignore[operator]


def test_setting_that_ends_in_file_is_a_path_not_a_secret(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_TAP__VALVE_FILE", "valve.pem")
    assert load(_Settings).tap.valve_file == Path("valve.pem")


def test_unreadable_secret_file_is_named_by_its_variable(
    env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env.setenv("FOREBAY_PIN_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"^FOREBAY_PIN_FILE: cannot read the file: No such"):
        load(_Settings)


def test_secret_file_that_is_no_text_is_an_error_without_its_content(
    env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(_SECRET.encode() + b"\xff\xfe")
    env.setenv("FOREBAY_PIN_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match="not UTF-8 text") as caught:
        load(_Settings)
    assert _SECRET not in str(caught.value)


def test_error_names_the_variable_and_never_the_value(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_TAP__FLOW", _SECRET)
    with pytest.raises(SettingsError) as caught:
        load(_Settings)
    assert str(caught.value).startswith("FOREBAY_TAP__FLOW: ")
    assert _SECRET not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_secret_shows_nowhere(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_PIN", _SECRET)
    env.setenv("FOREBAY_TAP__CODE", _SECRET)
    settings = load(_Settings)
    shown = json.dumps(variables(settings))
    assert _SECRET not in repr(settings) + str(settings) + shown
    assert variables(settings)["FOREBAY_PIN"] == "hidden"
    assert variables(settings)["FOREBAY_TAP__CODE"] == "hidden"


def test_unset_secret_shows_as_unset() -> None:
    assert variables(_Settings())["FOREBAY_PIN"] is None


def test_every_shown_name_can_be_set_again(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_TAP__FLOW", "8")
    shown = variables(load(_Settings))
    for name, value in shown.items():
        env.setenv(name, "" if value is None else str(value))
    assert variables(load(_Settings)) == shown


def test_settings_are_frozen() -> None:
    settings = load(_Settings)
    with pytest.raises(ValidationError):
        settings.basin = Path("x")
    with pytest.raises(ValidationError):
        settings.tap.flow = 4


def test_passwords_inside_urls_are_not_shown(env: pytest.MonkeyPatch) -> None:
    urls = {
        f"https://reader:{_SECRET}@keys.example.edu/jwks": "https://reader:***@keys.example.edu/jwks",
        f"postgresql://reader:a@{_SECRET}@db:5432/x": "postgresql://reader:***@db:5432/x",
        f"redis://:{_SECRET}@cache": "redis://:***@cache",
        f"https://db.example.edu/?user=a&Password={_SECRET}&x=1": (
            "https://db.example.edu/?user=a&Password=***&x=1"
        ),
        "https://keys.example.edu:8443/jwks?at=a@b": "https://keys.example.edu:8443/jwks?at=a@b",
        "duckdb:////srv/a@b:c/forebay.duckdb": "duckdb:////srv/a@b:c/forebay.duckdb",
        "127.0.0.1:9092,127.0.0.2:9092": "127.0.0.1:9092,127.0.0.2:9092",
    }
    with each_case() as case:
        for url, shown in urls.items():
            with case(url):
                env.setenv("FOREBAY_TAP__PIPE", url)
                assert variables(load(_Settings))["FOREBAY_TAP__PIPE"] == shown
