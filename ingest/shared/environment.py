"""Settings from the environment: `FOREBAY_SECTION__KEY`, `…_FILE` for secrets, no name misspelt."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "FOREBAY_"
_FILE_SUFFIX = "_FILE"
# before the host, up to the last @ there, or among the parameters
_PASSWORD = re.compile(
    r"([a-z][a-z0-9+.-]*://[^/?#\s:]*:)[^/?#\s]*(?=@)"
    r"|([?&][^=&#\s]*(?:password|secret|token)[^=&#\s]*=)[^&#\s]*",
    re.IGNORECASE,
)


def _listed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError):
        found = json.loads(value)
        if isinstance(found, list) and all(isinstance(text, str) for text in found):
            return found
    raise ValueError('must be a JSON list of texts, such as ["one", "two"]')


TextList = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Several texts, written as a JSON list."""


class SecretUrl(SecretStr):
    """An URL that may hold a password: all but the password is shown."""

    def _display(self) -> str:
        return _without_password(self.get_secret_value())


class SettingsError(Exception):
    """Settings that cannot be used; one line for each, naming the variable and never its value."""


class Section(BaseModel):
    """A group of settings: `FOREBAY_<SECTION>__<KEY>`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class EnvironmentSettings(BaseSettings):
    """Base of a program's settings: frozen, from the environment alone."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    foreign_sections: ClassVar[frozenset[str]] = frozenset()
    """Sections of the other program, which may share this environment; that program checks them."""

    foreign_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings of the other program that are in no section."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in, then our own reading of the environment."""
        return (init_settings, _EnvironmentSource(settings_cls))


SettingsT = TypeVar("SettingsT", bound=EnvironmentSettings)


def load(model: type[SettingsT], given: Mapping[str, Any] | None = None) -> SettingsT:
    """Reads the environment once. Raises SettingsError, naming every bad variable.

    What is `given`, by section and key, takes the place of the environment's.
    """
    try:
        return model(**(given or {}))
    except ValidationError as error:
        lines = problems(error, _variable)
    raise SettingsError(lines)  # out here it drags no values along as its context


def problems(error: ValidationError, place: Callable[[tuple[int | str, ...]], str]) -> str:
    """A line for each thing wrong: where, in the user's terms, and what; never the value."""
    found = [(item["loc"], item["msg"].removeprefix("Value error, ")) for item in error.errors()]
    return "\n".join(f"{place(at)}: {what}" if at else what for at, what in found)


def variables(settings: BaseModel) -> dict[str, Any]:
    """All settings as `{variable: value}`, secrets hidden, for `config show`."""
    shown: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, BaseModel):
            shown |= {
                f"{PREFIX}{name.upper()}__{key.removeprefix(PREFIX)}": inner
                for key, inner in variables(value).items()
            }
        else:
            shown[f"{PREFIX}{name.upper()}"] = _shown(value)
    return shown


def typed(value: Any) -> str:
    """A value of `variables` as it is written in the environment."""
    if isinstance(value, list):
        return json.dumps(value)
    return "" if value is None else str(value)


def secret_files(model: type[BaseModel], prefix: str = PREFIX) -> list[Path]:
    """The files that variables `…_FILE` name as holding secrets."""
    found: list[Path] = []
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if _is_section(field):
            found += secret_files(cast(type[BaseModel], field.annotation), f"{variable}__")
        elif _is_secret(field) and (path := os.environ.get(f"{variable}{_FILE_SUFFIX}")):
            found.append(Path(path))
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, SecretUrl):
        return str(value)
    if isinstance(value, SecretStr):
        return "hidden"
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if isinstance(value, str | Path):
        return _without_password(str(value))
    return value


def _without_password(text: str) -> str:
    return _PASSWORD.sub(r"\1\2***", text)


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + "__".join(str(part).upper() for part in location)


class _EnvironmentSource(PydanticBaseSettingsSource):
    """`FOREBAY_*` as a nested mapping; raises SettingsError on a name that nobody reads."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # the whole mapping is made at once in __call__

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for variable, text in sorted(os.environ.items()):
            if variable.startswith(PREFIX) and not self._is_foreign(variable):
                unknown += [] if self._place(values, variable, text) else [variable]
        if unknown:
            raise SettingsError("\n".join(f"{name}: there is no such setting" for name in unknown))
        return values

    def _is_foreign(self, variable: str) -> bool:
        name, separator, _ = variable.removeprefix(PREFIX).lower().partition("__")
        foreign = "foreign_sections" if separator else "foreign_settings"
        return name in getattr(self.settings_cls, foreign, ())

    def _place(self, values: dict[str, Any], variable: str, text: str) -> bool:
        path = variable.removeprefix(PREFIX).lower().split("__")
        fields: Mapping[str, FieldInfo] = self.settings_cls.model_fields
        target = values
        for section in path[:-1]:
            model = fields[section].annotation if section in fields else None
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                return False
            fields = model.model_fields
            target = target.setdefault(section, {})
        name = path[-1]
        if name in fields and not _is_section(fields[name]):
            if text:  # an empty variable is an unset one
                target[name] = text
            return True
        secret = name.removesuffix(_FILE_SUFFIX.lower())
        if secret != name and secret in fields and _is_secret(fields[secret]):
            if text:
                target[secret] = _read_secret(variable, Path(text))
            return True
        return False


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _is_secret(field: FieldInfo) -> bool:
    return any(kind.__name__ in str(field.annotation) for kind in (SecretStr, SecretUrl))


def _read_secret(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{variable}: cannot read the file: {reason}") from None
