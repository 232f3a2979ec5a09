"""One receiver for each file of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.ingest.site import Site, running_site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A receiver with the embedded log, shared by the tests of one file."""
    async with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running
