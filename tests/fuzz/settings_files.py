"""What operators write: settings in the environment, and the tenants file."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from consumers.settings import Settings as ConsumersSettings
from ingest.settings import Settings
from ingest.shared.environment import PREFIX, SettingsError, load, variables
from ingest.verifying.tenants_file import read_tenants
from tests.fuzz.mutation import odd_value, spoilt

_TENANTS = b"""\
[[platform]]
issuer = "https://canvas.school.example"
jwks_url = "https://canvas.school.example/api/lti/security/jwks"

[[tenant]]
name = "north-campus"

[[tenant.live_events]]
root_account_uuid = "root-account-of-north-campus"
subscription_ids = ["subscription-7", 8]

[[tenant.pns]]
issuer = "https://canvas.school.example"
client_id = 10000000000777
deployment_ids = ["31:deployment-of-north-campus"]
"""
_BITS = [
    *(b"[[tenant]]\n", b"[tenant]\n", b"name = 5\n", b"issuer = 'x'\n", b"= ", b"''' ", b"inf\n"),
    *(b"2026-01-01\n", b"[[tenant.pns]]\n", b"a.b.c = 1\n", b"[" * 2_000, b"{a=" * 500, b"# \xff"),
    *(b"https://[", b"http://127.0.0.1", b"https://x:99999/", b"https://\xe2\x84\x80.example"),
]
_TEXTS = [
    *("", " ", "0", "-1", "1e9", "nan", "inf", "1_000", "٣", "true", "x" * 3_000, "127.0.0.1:1,"),
    *(
        "https://[",
        "http://[::1",
        "https://x:99999999/",
        "duckdb:///",
        "duckdb:////x/canvas.duckdb",
    ),
    *(
        "duckdb:///a?b",
        "\udcff",
        "[]",
        "{}",
        '{"port": 1}',
        "/dev/null/x",
        "https://\u2100.example",
    ),
]


class SettingsFromEnvironment:
    """Settings of either program: read, or refused in a line for each, without a value in it."""

    name = "settings"

    def __init__(self, seed: int) -> None:
        self._models = (Settings, ConsumersSettings)
        self._defaults = [{**variables(model())} for model in self._models]

    def draw(self, rng: Random) -> tuple[int, dict[str, str]]:
        which = rng.randrange(2)
        names = sorted(self._defaults[which])
        chosen: dict[str, str] = {}
        for _ in range(rng.choice((1, 1, 2, 4))):
            name = rng.choice(names) + rng.choice(("", "", "", "", "_FILE", "__X", "X"))
            text = rng.choice(_TEXTS) if rng.random() < 0.7 else str(odd_value(rng))
            chosen[name] = text.replace("\x00", "") + rng.choice(("", "", "s3cr3t-value"))
        return which, chosen

    def admits(self, drawn: tuple[int, Mapping[str, str]]) -> bool:
        which, chosen = drawn
        with _environment(chosen):
            try:
                variables(load(self._models[which]))
            except SettingsError as error:
                return "s3cr3t-value" in str(error)
        return False

    def close(self) -> None:
        pass


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """The process's environment without any setting but these, while the block runs."""
    before = {name: text for name, text in os.environ.items() if name.startswith(PREFIX)}
    for name in before:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            os.environ.pop(name, None)
        os.environ.update(before)


class TenantsFile:
    """The tenants file: read, or refused; what is read pins no more than the file's own texts."""

    name = "tenants"

    def __init__(self, seed: int) -> None:
        self._folder = TemporaryDirectory(prefix="fuzz-")
        self._path = Path(self._folder.name) / "tenants.toml"

    def draw(self, rng: Random) -> bytes:
        text = _TENANTS
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(text))
            lines = text.splitlines(keepends=True)
            how = rng.randrange(4)
            if how == 0:
                text = text[:at] + rng.choice(_BITS) + text[at:]
            elif how == 1:
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = b"".join(lines)
            elif how == 2:
                del lines[rng.randrange(len(lines))]
                text = b"".join(lines) or b"\n"
            else:
                text = spoilt(text, rng) or b"\n"
        return text

    def admits(self, drawn: bytes) -> bool:
        self._path.write_bytes(drawn)
        try:
            directory = read_tenants(self._path)
        except SettingsError:
            return False
        return not all(name.encode() in drawn for name in directory.names)

    def close(self) -> None:
        self._folder.cleanup()
