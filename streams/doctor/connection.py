"""One connection to one broker, step by step: reach it, TLS, login; and why a step failed, with what to do about it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streams.errors import StreamsError
from streams.settings import Settings

CONNECT_LIMIT_SECONDS: Final = 10.0

FAILURES: Final = (TimeoutError, KafkaError, OSError, ValueError, StreamsError)
"""What a connection attempt raises."""


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


class Problem(NamedTuple):
    """Why a connection could not be made, and what to do."""

    finding: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection that works, to be closed by who asked for it."""

    address: Address
    tls: TlsFacts | None
    connection: Any


async def connect(address: Address, settings: Settings, security: dict[str, Any]) -> Connected | Problem:
    """Reach the broker, shake hands and log in, all within `CONNECT_LIMIT_SECONDS`."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            tls = await _shake_hands(address, security.get("ssl_context"))
            connection = await create_conn(
                *address,
                client_id=settings.kafka_client_id,
                request_timeout_ms=int(CONNECT_LIMIT_SECONDS * 1000),
                **security,
            )
    except FAILURES as error:
        return explain(error, settings)
    return Connected(address, tls, connection)


async def _shake_hands(address: Address, context: ssl.SSLContext | None) -> TlsFacts | None:
    """Connect and leave again; what TLS has settled, `None` where the protocol has no TLS."""
    _, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        return None if context is None else tls_facts(writer.get_extra_info("ssl_object"))
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


def explain(error: BaseException, settings: Settings) -> Problem:
    """What a failed connection means."""
    for cause in _causes(error):
        if (problem := _explain_tls(cause, settings)) is not None:
            return problem
    return _explain_login(error, settings) or _explain_network(error, settings)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _explain_tls(error: BaseException, settings: Settings) -> Problem | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, settings)
    if not isinstance(error, ssl.SSLError):
        return None
    reason = getattr(error, "reason", None) or str(error)  # only errors of OpenSSL's own have one
    # RFC 8446, 6.2: alerts about the certificate that the other side was shown, or missed.
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return Problem(
            f"the broker does not accept this worker's certificate ({reason})",
            "Set STREAMS_KAFKA_SSL_CERT_FILE and STREAMS_KAFKA_SSL_KEY_FILE to a certificate that the brokers' "
            "authority has signed and that has not expired.",
        )
    return Problem(
        f"TLS failed ({reason})",
        f"STREAMS_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}: is this port a TLS port? Correct the "
        "port in STREAMS_KAFKA_BOOTSTRAP_SERVERS or the protocol.",
    )


def _untrusted(error: ssl.SSLCertVerificationError, settings: Settings) -> Problem:
    finding = f"its certificate is not trusted ({error.verify_message})"
    if "mismatch" in error.verify_message:
        return Problem(
            finding,
            "Use the name that the certificate is for in STREAMS_KAFKA_BOOTSTRAP_SERVERS, or have this one added to "
            "the certificate.",
        )
    if "expired" in error.verify_message:
        return Problem(finding, "Renew the broker's certificate, or mend this machine's clock.")
    now = settings.kafka_ssl_ca_file or "not set: the system's authorities count"
    return Problem(
        finding, f"Set STREAMS_KAFKA_SSL_CA_FILE (now {now}) to the PEM file of the authority that signed it."
    )


def _explain_login(error: BaseException, settings: Settings) -> Problem | None:
    if isinstance(error, SaslAuthenticationFailed):
        return Problem(
            f"the login was refused (SASL {settings.kafka_sasl_mechanism} as {login_name(settings)})",
            f"Check {_login_settings(settings)}; the mechanism is STREAMS_KAFKA_SASL_MECHANISM="
            f"{settings.kafka_sasl_mechanism}.",
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        _, _, offered = str(error).partition("Enabled mechanisms are: ")
        return Problem(
            f"it does not offer the SASL mechanism {settings.kafka_sasl_mechanism}",
            f"Set STREAMS_KAFKA_SASL_MECHANISM to one that the broker offers{f': {offered}' if offered else '.'}",
        )
    if isinstance(error, StreamsError):  # a token that could not be had: it says why itself
        return Problem(str(error), "Mend the token endpoint's settings (STREAMS_KAFKA_OAUTH_*), as the message says.")
    return None


def login_name(settings: Settings) -> str:
    """Who logs in, by the settings; never a secret."""
    return settings.kafka_sasl_username or settings.kafka_oauth_client_id or "nobody"


def _login_settings(settings: Settings) -> str:
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return "STREAMS_KAFKA_OAUTH_CLIENT_ID, STREAMS_KAFKA_OAUTH_CLIENT_SECRET and STREAMS_KAFKA_OAUTH_SCOPE"
    return "STREAMS_KAFKA_SASL_USERNAME and STREAMS_KAFKA_SASL_PASSWORD"


def _explain_network(error: BaseException, settings: Settings) -> Problem:
    if isinstance(error, socket.gaierror):
        return Problem("its name cannot be resolved", "Correct the host name, or this machine's DNS.")
    if isinstance(error, TimeoutError):
        return Problem(
            f"no answer within {CONNECT_LIMIT_SECONDS:.0f} s",
            "Open the way from this machine to that port (firewall, security group, route), or correct the address.",
        )
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower():
        return Problem(
            "unreachable: connection refused",
            "Correct the host and port, or start the broker that should listen there.",
        )
    closed = isinstance(error, ConnectionError | KafkaConnectionError)
    protocol = settings.kafka_security_protocol
    hint = "and are the credentials right?" if settings.uses_sasl else "or does it ask for TLS or a login?"
    return Problem(
        "the broker closed the connection" if closed else f"{type(error).__name__}: {error}",
        f"Does that port speak STREAMS_KAFKA_SECURITY_PROTOCOL={protocol}, {hint}",
    )
