"""The emulator's two key rings, kept in a directory between runs if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson

from tests.support.keys import KeyRing, SigningKey

KEYS_FILE: Final = "emulator-keys.json"

_PLACES = ("previous", "current", "next")


class KeyStoreError(Exception):
    """The kept keys cannot be read; the text says which file and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys that sign Live Events, and those that sign LTI notices."""

    live_events: KeyRing
    platform: KeyRing

    @classmethod
    def generate(cls) -> Self:
        """Six fresh keys; takes some tenths of a second."""
        return cls(live_events=KeyRing.generate(), platform=KeyRing.generate(kid_suffix=True))

    def rotated(self) -> Keys:
        """Both rings a rotation later; two fresh keys take about a tenth of a second."""
        return Keys(live_events=self.live_events.rotated(), platform=self.platform.rotated())


def load_or_generate(directory: Path) -> Keys:
    """The keys kept in `directory`, or fresh ones, kept there from now on.

    KeyStoreError when kept keys are unreadable, OSError when the directory is not usable.
    """
    path = directory / KEYS_FILE
    if path.exists():
        return _load(path)
    keys = Keys.generate()
    save(keys, directory)
    return keys


def save(keys: Keys, directory: Path) -> None:
    """Keep `keys` in `directory`, which is made if need be, readable by this user alone."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEYS_FILE
    unfinished = path.with_suffix(".unfinished")
    text = orjson.dumps(
        {"live_events": _plain(keys.live_events), "platform": _plain(keys.platform)}
    )
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(text)
    unfinished.replace(path)


def _load(path: Path) -> Keys:
    try:
        kept = orjson.loads(path.read_bytes())
        return Keys(
            live_events=_ring(kept["live_events"], kid_suffix=False),
            platform=_ring(kept["platform"], kid_suffix=True),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise KeyStoreError(f"{path}: not the emulator's keys ({error})") from error


def _plain(ring: KeyRing) -> dict[str, dict[str, str]]:
    keys = (ring.previous, ring.current, ring.next)
    return {
        place: {"kid": key.kid, "pem": key.private_pem()}
        for place, key in zip(_PLACES, keys, strict=True)
    }


def _ring(kept: dict[str, dict[str, Any]], *, kid_suffix: bool) -> KeyRing:
    keys = {place: SigningKey.from_pem(kept[place]["kid"], kept[place]["pem"]) for place in _PLACES}
    return KeyRing(**keys, kid_suffix=kid_suffix)
