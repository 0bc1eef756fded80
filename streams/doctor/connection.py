"""One connection to one broker: whether it can be used, what its certificate says, or why not and what to do about it.

Whether it can be used is librdkafka's to say (`kafka.problems`); only the facts of the certificate are Python's.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException

from streams.errors import StreamsError
from streams.kafka.problems import CONNECT_LIMIT_SECONDS, Problem, connection_problem, login_name
from streams.kafka.tls import ssl_context
from streams.settings import Settings

__all__ = [
    "CONNECT_LIMIT_SECONDS",
    "FAILURES",
    "Address",
    "Connected",
    "Problem",
    "TlsFacts",
    "bootstrap_addresses",
    "connect",
    "distinguished_name",
    "login_name",
]

FAILURES: Final = (TimeoutError, KafkaException, OSError, ValueError, StreamsError)
"""What a question to Kafka raises."""


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def bootstrap_addresses(settings: Settings) -> list[Address]:
    """The servers of STREAMS_KAFKA_BOOTSTRAP_SERVERS."""
    servers = (server.strip().rpartition(":") for server in settings.kafka_bootstrap_servers.split(","))
    return list(dict.fromkeys(Address(host.strip("[]"), int(port)) for host, _, port in servers))


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a TLS handshake has settled; names as in `CN=broker-1`."""

    version: str
    cipher: str
    subject: str
    issuer: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Connected:
    """A broker that can be used; `tls` is `None` without TLS, or where Python could not look at the certificate."""

    address: Address
    tls: TlsFacts | None


async def connect(address: Address, settings: Settings) -> Connected | Problem:
    """Reach the broker, shake hands, log in and be answered, all within `CONNECT_LIMIT_SECONDS`."""
    problem = await connection_problem(settings, str(address))
    return problem if problem is not None else Connected(address, await _look_at_certificate(address, settings))


async def _look_at_certificate(address: Address, settings: Settings) -> TlsFacts | None:
    """Connect and leave again; what TLS has settled."""
    try:
        context = ssl_context(settings)
        if context is None:
            return None
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            _, writer = await asyncio.open_connection(*address, ssl=context)
    except (OSError, TimeoutError):
        return None
    try:
        return tls_facts(writer.get_extra_info("ssl_object"))
    finally:
        writer.transport.abort()


def tls_facts(connection: Any) -> TlsFacts:
    """The facts of an established `ssl.SSLObject`."""
    certificate = connection.getpeercert()
    expires_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return TlsFacts(
        connection.version(),
        connection.cipher()[0],
        distinguished_name(certificate["subject"]),
        distinguished_name(certificate["issuer"]),
        expires_at,
    )


_SHORT_NAMES: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
}


def distinguished_name(parts: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A name as `ssl` decodes it, in the short form: `CN=broker-1, O=Example`; the most specific part first."""
    pairs = [pair for relative in reversed(parts) for pair in relative]
    return ", ".join(f"{_SHORT_NAMES.get(name, name)}={value}" for name, value in pairs) or "no name"
