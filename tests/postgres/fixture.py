"""pytest fixtures: a server for the session, and schemas that no other test uses."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres.server import PostgresUnavailable, Server

OWN_SERVER = "TEST_POSTGRES_URL"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A server of this session's own, which a test may stop if it starts it again.

    Where none can be had the test is skipped with the reason, but fails if CI=true.
    """
    # not among pytest's directories, which nobody but their owner may enter
    directory = Path(tempfile.mkdtemp(prefix="forebay-postgres-"))
    try:
        server = Server(directory)
        server.start()
    except PostgresUnavailable as error:
        shutil.rmtree(directory, ignore_errors=True)
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL: {error}", pytrace=False)
        pytest.skip(f"no PostgreSQL: {error}")
    try:
        yield server
    finally:
        server.stop("immediate")
        server.remove()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """The server that TEST_POSTGRES_URL names, or `postgres_server`; of a role that may do all."""
    own = os.environ.get(OWN_SERVER)
    if own:
        return own
    server: Server = request.getfixturevalue("postgres_server")
    return server.url()


@pytest.fixture
def postgres_schema() -> str:
    """The name of a schema of this test's own."""
    return f"lake_{uuid.uuid4().hex[:12]}"
