"""Keys are slow to make, so all tests share one set; schools and oracles are each test's own."""

from __future__ import annotations

import time

import pytest

from tests.emulator.forgeries import Forger
from tests.emulator.key_store import Keys
from tests.emulator.school import School
from tests.support.keys import SigningKey


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys.generate()


@pytest.fixture(scope="session")
def other_key(keys: Keys) -> SigningKey:
    return SigningKey.generate(keys.live_events.current.kid)


@pytest.fixture
def school() -> School:
    return School.from_seed(11)


@pytest.fixture
def forger(keys: Keys, other_key: SigningKey, school: School) -> Forger:
    """A forger of Live Events."""
    return Forger(
        key=keys.live_events.current,
        key_elsewhere=keys.platform.current,
        other_key=other_key,
        school=school,
        stranger=School.from_seed(12, name="elsewhere"),
        now_s=int(time.time()),
    )
