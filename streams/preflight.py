"""The checks before the worker joins its group: what cannot work ends here, in one message, with exit code 2.

Only what makes consuming impossible is checked. An S3 that refuses or is away is no reason not to start: events hold,
and the worker says so.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import create_conn
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import ConfigurationError, StreamsError
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT_TIMEOUT_SECONDS = 10.0
COORDINATOR_TIMEOUT_SECONDS = 20.0
TOPICS_SHOWN = 10


async def check_kafka(settings: Settings, security: dict[str, Any]) -> list[str]:
    """Reach the broker, see the topics and the group; the names of the topics to consume.

    Raises:
        ConfigurationError: with the setting to mend.
    """
    await _check_connection(settings, security)
    async with _client(settings, security) as client:
        names = await _topics(client, settings)
        await _check_group(client, settings.consumer_group)
    return names


def check_web_port(settings: Settings) -> None:
    """Raises ConfigurationError when the address of the web endpoints is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.web_bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.web_bind, settings.web_port))
        except OSError as error:
            raise ConfigurationError(
                f"the web endpoints cannot listen on {settings.web_bind}:{settings.web_port} ({error.strerror}). "
                "Set STREAMS_WEB_BIND and STREAMS_WEB_PORT to a free address, or STREAMS_WEB_ENABLED=false."
            ) from error


async def _check_connection(settings: Settings, security: dict[str, Any]) -> None:
    """Connect to one of the bootstrap servers; AIOKafkaClient would hide why it cannot."""
    failures: list[str] = []
    aiokafka_logger = logging.getLogger("aiokafka")
    level = aiokafka_logger.level
    aiokafka_logger.setLevel(logging.CRITICAL)  # what it logs is in our message
    try:
        for host, port in _hosts(settings.kafka_bootstrap_servers):
            try:
                connection = await create_conn(
                    host, port, request_timeout_ms=int(CONNECT_TIMEOUT_SECONDS * 1000), **security
                )
                await connection.send(MetadataRequest([]))
            except (TimeoutError, KafkaError, OSError, ValueError) as error:
                failures.append(f"  {host}:{port}: {_why(error, settings)}")
            else:
                connection.close()
                return
    finally:
        aiokafka_logger.setLevel(level)
    raise ConfigurationError("no Kafka broker could be used:\n" + "\n".join(failures))


def _hosts(bootstrap_servers: str) -> Iterable[tuple[str, int]]:
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        yield host.strip("[]"), int(port)


def _why(error: BaseException, settings: Settings) -> str:
    """The sentence for a connection that failed: what happened, and which setting to look at."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({cause.verify_message}). Set STREAMS_KAFKA_SSL_CA_FILE to the PEM "
                "file of the authority that signed it."
            )
        if isinstance(cause, ssl.SSLError) and _refuses_our_certificate(cause):
            return (
                f"the broker does not accept this worker's certificate ({cause.reason}). Check "
                "STREAMS_KAFKA_SSL_CERT_FILE and STREAMS_KAFKA_SSL_KEY_FILE."
            )
        if isinstance(cause, ssl.SSLError):
            return (
                f"TLS failed ({cause.reason or cause}). Is the port a TLS port? "
                f"STREAMS_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}."
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, SaslAuthenticationFailed):
        return (
            "wrong credentials: the broker refused the login. Check STREAMS_KAFKA_SASL_USERNAME, "
            f"STREAMS_KAFKA_SASL_PASSWORD and STREAMS_KAFKA_SASL_MECHANISM ({settings.kafka_sasl_mechanism})."
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"the broker does not offer STREAMS_KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism}."
    if isinstance(error, StreamsError):  # a token that could not be had: it says why itself
        return str(error)
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved. Check STREAMS_KAFKA_BOOTSTRAP_SERVERS and DNS."
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower():
        return "unreachable: connection refused. Check STREAMS_KAFKA_BOOTSTRAP_SERVERS, and that the broker runs."
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_SECONDS:.0f} s. Check STREAMS_KAFKA_BOOTSTRAP_SERVERS and firewalls."
    closed = isinstance(error, ConnectionError | KafkaConnectionError)
    return (
        f"{'the broker closed the connection' if closed else repr(error)}. Does the listener speak "
        f"STREAMS_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}"
        + (
            " and are the credentials right?"
            if settings.kafka_security_protocol.startswith("SASL")
            else ", or does it ask for TLS or a login?"
        )
    )


def _refuses_our_certificate(error: ssl.SSLError) -> bool:
    """Whether the other side's alert (RFC 8446, 6.2) is about the certificate that it was shown, or missed."""
    reason = error.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


@asynccontextmanager
async def _client(settings: Settings, security: dict[str, Any]) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(bootstrap_servers=settings.kafka_bootstrap_servers, **security)
    try:
        await client.bootstrap()
        yield client
    except KafkaError as error:
        raise ConfigurationError(
            f"Kafka answered at STREAMS_KAFKA_BOOTSTRAP_SERVERS, but then failed: {type(error).__name__}: {error}. "
            "Can this machine reach the brokers at the addresses that they advertise?"
        ) from error
    finally:
        await client.close()


async def _topics(client: AIOKafkaClient, settings: Settings) -> list[str]:
    pattern = settings.topic_pattern
    wanted = None if pattern else list(settings.topic_names)
    answer = await client.send(client.get_random_node(), MetadataRequest(wanted, allow_auto_topic_creation=False))
    codes = {name: code for code, name, *_ in answer.topics}
    if pattern:
        return matching_topics(pattern, codes)
    missing = sorted(name for name, code in codes.items() if code == UnknownTopicOrPartitionError.errno)
    denied = sorted(name for name, code in codes.items() if code == TopicAuthorizationFailedError.errno)
    problems = []
    if missing:
        problems.append(
            f"STREAMS_TOPICS names topics that do not exist (or that this user may not see): {', '.join(missing)}. "
            "Create them, mend the name, or allow READ on them."
        )
    if denied:
        problems.append(
            f"STREAMS_TOPICS names topics that this user may not read: {', '.join(denied)}. "
            "Add an ACL that allows READ (and DESCRIBE) on them."
        )
    if problems:
        raise ConfigurationError("\n".join(problems))
    return sorted(codes)


def matching_topics(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """The topics that a pattern of `STREAMS_TOPICS` means; Kafka's own (`__consumer_offsets`) never.

    Raises:
        ConfigurationError: none matches.
    """
    found = sorted(name for name in names if not name.startswith("__") and pattern.match(name))
    if not found:
        seen = sorted(name for name in names if not name.startswith("__"))
        shown = ", ".join(seen[:TOPICS_SHOWN]) + (", …" if len(seen) > TOPICS_SHOWN else "")
        raise ConfigurationError(
            f"STREAMS_TOPICS={pattern.pattern} matches no topic. This user sees: {shown or 'none at all'}."
        )
    return found


async def _check_group(client: AIOKafkaClient, group: str) -> None:
    """A group that this user may not use; a coordinator that is still being elected is waited for."""
    deadline = asyncio.get_running_loop().time() + COORDINATOR_TIMEOUT_SECONDS
    while True:
        try:
            await client.coordinator_lookup(CoordinationType.GROUP, group)
            return
        except GroupAuthorizationFailedError as error:
            raise ConfigurationError(
                f"this user may not use the consumer group {group} (STREAMS_CONSUMER_GROUP). "
                "Add an ACL that allows READ on the group."
            ) from error
        except KafkaError as error:
            if not error.retriable or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
