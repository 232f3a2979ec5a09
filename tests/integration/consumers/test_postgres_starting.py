"""How PostgreSQL's sink begins, refuses to begin, and with which rights."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from consumers.errors import StartupError
from consumers.sinks.postgres import PostgresSink
from tests.integration.consumers.postgres_site import FIRST_TABLES, PostgresSite
from tests.postgres.server import Server
from tests.postgres.tls import TlsFront
from tests.suites.sinks import ONE, batch, row

PASSWORD = "sluice-gate@5551/?#"
ESCAPED = "sluice-gate%405551%2F%3F%23"


@pytest.fixture
async def site(postgres_server: Server, postgres_schema: str) -> AsyncIterator[PostgresSite]:
    async with AsyncExitStack() as sinks:
        yield PostgresSite(postgres_server.url(), postgres_schema, sinks)


@pytest.fixture
async def role(site: PostgresSite) -> AsyncIterator[str]:
    """A role with a password and no rights."""
    name = f"worker_{uuid.uuid4().hex[:12]}"
    await site.run(f"create role {name} login password '{PASSWORD}'")
    yield name
    await site.run(f"drop owned by {name} cascade", f"drop role {name}")


@asynccontextmanager
async def opened(url: str, schema: str) -> AsyncIterator[PostgresSink]:
    """A sink of this URL."""
    sink = PostgresSink(url, schema=schema, worker="tables", first_tables=FIRST_TABLES)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def refusal(url: str, schema: str) -> str:
    """Why the sink does not begin."""
    with pytest.raises(StartupError) as refused:
        async with opened(url, schema):
            pass
    text = str(refused.value)
    assert "sluice-gate" not in text
    assert "\n" not in text
    return text


async def test_a_role_that_owns_the_schema_needs_no_other_right(
    site: PostgresSite, role: str, postgres_server: Server
) -> None:
    await site.run(f"create schema {{}} authorization {role}")
    url = postgres_server.url(user=f"{role}:{ESCAPED}")
    rows = [row(1), row(1, table="events"), row(2, table="events", keeps_time=False)]
    async with opened(url, site.schema) as sink:
        assert await sink.write(batch(rows, {ONE: 3})) == {"things": 1, "events": 2}
        assert await sink.stored_offsets("log-1") == {ONE: 3}
        await sink.close()
        await sink.replace_offsets("log-1", {ONE: 1})


async def test_what_the_role_lacks_is_said_with_the_command_that_gives_it(
    site: PostgresSite, role: str, postgres_server: Server
) -> None:
    url = postgres_server.url(user=f"{role}:{ESCAPED}")
    text = await refusal(url, site.schema)
    assert "permission denied for database postgres" in text
    assert f'create schema "{site.schema}" authorization "{role}"' in text
    await site.run("create schema {}")
    assert "permission denied for schema" in await refusal(url, site.schema)


async def test_a_wrong_password_is_said(role: str, postgres_server: Server) -> None:
    text = await refusal(postgres_server.url(user=f"{role}:sluice-gate"), "lake")
    assert f'password authentication failed for user "{role}"' in text
    assert postgres_server.address in text


async def test_a_database_that_is_not_there_is_said(postgres_server: Server) -> None:
    text = await refusal(postgres_server.url(database="nowhere"), "lake")
    assert 'database "nowhere" does not exist' in text


async def test_a_database_that_cannot_hold_every_text_is_refused(
    site: PostgresSite, postgres_server: Server
) -> None:
    await site.run("create database latin encoding 'LATIN1' locale 'C' template template0")
    try:
        assert "encoding LATIN1" in await refusal(postgres_server.url(database="latin"), "lake")
    finally:
        await site.run("drop database latin")


async def test_a_url_that_the_client_does_not_read_is_refused(postgres_server: Server) -> None:
    url = postgres_server.url()
    assert "`sslmode` parameter" in await refusal(f"{url}?sslmode=maybe", "lake")
    assert "the URL" in await refusal(f"{url}?sluice-gate", "lake")
    assert "no_such_setting" in await refusal(f"{url}?no_such_setting=1", "lake")


async def test_a_name_that_something_else_has_is_said(site: PostgresSite) -> None:
    await site.run("create schema {}", "create view {}.events as select 1 as event_id")
    assert "already exists" in await refusal(site.url, site.schema)


AUTHORITY = trustme.CA()


@pytest.fixture
async def front(postgres_server: Server) -> AsyncIterator[tuple[TlsFront, str]]:
    """TLS before the server, and the URL of it."""
    front = TlsFront(postgres_server.port, AUTHORITY)
    async with front.listening() as port:
        yield front, f"postgresql://postgres@127.0.0.1:{port}/postgres"


@pytest.mark.parametrize(
    ("parameters", "is_encrypted"),
    [
        ("sslmode=disable", False),
        ("sslmode=prefer", True),
        ("sslmode=require", True),
        ("sslmode=verify-ca&sslrootcert={ca}", True),
        ("sslmode=verify-full&sslrootcert={ca}", True),
    ],
)
async def test_modes_of_tls_are_the_urls(
    front: tuple[TlsFront, str],
    postgres_schema: str,
    tmp_path: Path,
    parameters: str,
    is_encrypted: bool,
) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    url = f"{front[1]}?{parameters.format(ca=tmp_path / 'ca.pem')}"
    async with opened(url, postgres_schema) as sink:
        assert await sink.write(batch([row(1)])) == {"things": 1}
    assert front[0].was_encrypted == [is_encrypted]


async def test_a_server_without_tls_is_refused_where_the_url_wants_it(site: PostgresSite) -> None:
    assert "rejected SSL" in await refusal(f"{site.url}?sslmode=require", site.schema)
    async with opened(f"{site.url}?sslmode=prefer", site.schema):
        pass


@pytest.mark.parametrize("named", ["127.0.0.1", "localhost"])
async def test_a_certificate_that_is_not_to_be_trusted_is_refused(
    front: tuple[TlsFront, str], tmp_path: Path, named: str
) -> None:
    authority = trustme.CA() if named == "127.0.0.1" else AUTHORITY
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    url = front[1].replace("@127.0.0.1", f"@{named}")
    text = await refusal(f"{url}?sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}", "lake")
    assert "its certificate is not trusted" in text


async def test_a_certificate_file_that_is_not_there_is_named(
    site: PostgresSite, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    url = f"{site.url}?sslmode=verify-full&sslrootcert={missing}"
    assert f"cannot read {missing}: No such file" in await refusal(url, site.schema)


async def test_a_file_that_is_no_certificate_is_refused(site: PostgresSite, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    url = f"{site.url}?sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}"
    assert "certificate" in await refusal(url, site.schema)
