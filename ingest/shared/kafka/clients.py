"""Starting and stopping aiokafka's clients, and why Kafka would not have one."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

_PROBE_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 10.0
_LOGIN_REFUSED = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_RIGHT_MISSING = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class TopicError(Exception):
    """Kafka could not be asked, or would not do it; the text says which and why, in one line."""


class KafkaUnreachable(TopicError):
    """Nobody answers for now; the text names every address and what is wrong with it."""


class KafkaRefused(TopicError):
    """Kafka answers, and will not have us; the text says what to change."""


class Client(Protocol):
    """What all clients of aiokafka have in common."""

    async def start(self) -> None:
        """Connects."""
        ...

    async def stop(self) -> None:
        """Disconnects; may hang while the cluster does not answer."""
        ...


async def start(client: Client, client_options: Mapping[str, Any]) -> None:
    """Connects, or leaves nothing behind. Raises KafkaUnreachable or KafkaRefused.

    `client_options` are those that the client was made with.
    """
    try:
        await client.start()
    except (KafkaError, OSError, TimeoutError) as error:
        await stop(client)
        raise await _cause(error, client_options) from error
    except BaseException:
        await stop(client)
        raise


async def stop(client: Client) -> None:
    """Disconnects, or gives up: all that matters was acknowledged before."""
    # in a task, for aiokafka 0.14 lets a cancellation of its own out while no broker answers
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait({stopping}, timeout=_STOP_TIMEOUT_S)
    if not stopping.done():
        stopping.cancel()
        log.warning("kafka client not closed in time, left open", client=type(client).__name__)
    elif stopping.cancelled() or stopping.exception():
        log.warning("kafka client not closed cleanly", client=type(client).__name__)


@asynccontextmanager
async def admin_client(client_options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises KafkaUnreachable or KafkaRefused, also from its block."""
    admin = AIOKafkaAdminClient(**client_options)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise await _cause(error, client_options) from error
    finally:
        await admin.close()


def refusal(error: BaseException, *, what: str = "") -> KafkaRefused | None:
    """What an error means that no waiting cures, None if it is none of these.

    `what` is what was asked for, such as a topic.
    """
    subject = f"{what}: " if what else ""
    if isinstance(error, _LOGIN_REFUSED):
        return KafkaRefused(
            f"{subject}Kafka refuses the login; check FOREBAY_KAFKA__SASL_USERNAME,"
            " __SASL_PASSWORD and __SASL_MECHANISM"
        )
    if isinstance(error, _RIGHT_MISSING):
        return KafkaRefused(
            f"{subject}Kafka denies this login the right to do it ({type(error).__name__})"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return KafkaRefused(
            f"{subject}the broker's certificate is not trusted ({error.verify_message});"
            " check FOREBAY_KAFKA__SSL_CA_FILE"
        )
    return None


async def _cause(error: Exception, client_options: Mapping[str, Any]) -> TopicError:
    """Why: aiokafka says no more than that it could not bootstrap, so each address is tried."""
    refused = refusal(error)
    if refused is not None:
        return refused
    found = []
    for host, port, _ in collect_hosts(client_options["bootstrap_servers"]):
        failure = await _try(host, port, client_options)
        refused = refusal(failure, what=f"{host}:{port}") if failure else None
        if refused is not None:
            return refused
        found.append(f"{host}:{port}: {_text(failure or error)}")
    return KafkaUnreachable(f"Kafka does not answer: {', '.join(found)}")


async def _try(host: str, port: int, client_options: Mapping[str, Any]) -> Exception | None:
    options = {name: o for name, o in client_options.items() if name != "bootstrap_servers"}
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            connection = await create_conn(
                host, port, request_timeout_ms=int(_PROBE_TIMEOUT_S * 1000), **options
            )
    except (KafkaError, OSError, TimeoutError) as error:
        return error
    connection.close()
    return None


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
