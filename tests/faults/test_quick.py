"""The quick cases of the matrix, one test each; `make faults` runs them all."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.grounds import Grounds
from tests.faults.matrix import ROWS, Case
from tests.kafka.errors import KafkaUnavailable

QUICK = {f"{row.number}-{case.name}": case for row in ROWS for case in row.cases if case.quick}
SEED_VARIABLE = "TEST_FAULTS_SEED"
LOAD = 0.2
"""Other tests run beside these; the whole rate is for `make faults`."""

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # the emulator sends bodies of a megabyte whole, which is what Canvas does
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grounds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    async with Grounds(tmp_path_factory.mktemp("faults"), quick=True, load=LOAD) as grounds:
        yield grounds


@pytest.fixture(scope="module")
def seed() -> int:
    """The seed in TEST_FAULTS_SEED, else a new one."""
    return int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(10**6))


@pytest.mark.parametrize("case", QUICK.values(), ids=QUICK.keys())
async def test_nothing_is_lost_doubled_or_wrongly_trusted(
    grounds: Grounds, case: Case, seed: int
) -> None:
    try:
        tally = await case.run(grounds, seed)
    except KafkaUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {str(error).splitlines()[0]}")
    assert tally.held, f"{SEED_VARIABLE}={seed}: {tally}"
    assert tally.acked > 0
