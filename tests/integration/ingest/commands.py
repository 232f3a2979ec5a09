"""`forebay-ingest` as a command that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.emulator.school import School

TIMEOUT_S = 60.0
TENANTS_TOML = School.from_seed(1).tenants_toml(
    platform_jwks_url="https://keys.example.edu/jwks", pin_subscription=True
)


def run(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`forebay-ingest` with settings that are in order but for those given; "" unsets one."""
    tenants = directory / "tenants.toml"
    tenants.write_text(TENANTS_TOML)
    own = {name: text for name, text in os.environ.items() if not name.startswith("FOREBAY_")}
    in_order = {
        "FOREBAY_DATA_DIR": str(directory / "data"),
        "FOREBAY_TENANTS_FILE": str(tenants),
        "FOREBAY_HTTP__HOST": "127.0.0.1",
        "FOREBAY_HTTP__PORT": "0",
        "FOREBAY_ADMIN__PORT": "0",
    }
    return subprocess.run(
        [str(Path(sys.executable).with_name("forebay-ingest")), *arguments],
        env={**own, **in_order, **settings},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
