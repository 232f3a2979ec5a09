"""The fields of an envelope's metadata, from `metadata.toml`: ours, and those that are signed."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ingest.contract.catalogue import FIELD_TYPES, FieldType


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataField:
    """One field. `always`: in every envelope and never null. `values`: all it may be, if known."""

    type: FieldType
    about: str
    always: bool = False
    values: tuple[str, ...] = ()


@cache
def our_fields() -> dict[str, MetadataField]:
    """What forebay itself sets, whatever was signed."""
    return _section("ours")


@cache
def signed_fields() -> dict[str, MetadataField]:
    """What is taken over from the signed metadata, where it is known."""
    return _section("signed")


def _section(name: str) -> dict[str, MetadataField]:
    text = files("ingest.contract").joinpath("metadata.toml").read_text(encoding="utf-8")
    return {field: _field(field, spec) for field, spec in tomllib.loads(text)[name].items()}


def _field(name: str, spec: Mapping[str, Any]) -> MetadataField:
    if spec["type"] not in FIELD_TYPES:
        raise ValueError(f"metadata: {name} is of unknown type {spec['type']}")
    return MetadataField(**{**spec, "values": tuple(spec.get("values", ()))})
