"""What every client of librdkafka is told about the connection: servers, TLS, login. One place for all of them.

`client_options` serves consumers, producers and admin clients alike. None of them needs to be polled for its login:
librdkafka fetches OIDC tokens itself, and asks the callback of AWS_MSK_IAM in a thread of its own.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from streams.kafka.aws_iam import token_callback
from streams.settings import Settings

SOCKET_TIMEOUT_SECONDS: Final = 15.0
"""Longest wait for a broker's answer to one request."""
RECONNECT_BACKOFF_MAX_MS: Final = 2_000
"""So that a broker that is back is noticed within two seconds (librdkafka's own limit is ten)."""
RECEIVE_MAX_BYTES: Final = 1_000_000_000
"""Also the most that a zstd batch may be once it is unpacked; with librdkafka's own 100 MB, 3.7 KB of zeros stop a
partition for ever. Kafka's limit is one of the compressed size."""
METADATA_REFRESH_MS: Final = 30_000
"""How soon a topic's new leader, new partitions or end are noticed when nothing fails because of them."""

_AUTHORITIES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat, Amazon Linux
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)


def client_options(settings: Settings) -> dict[str, Any]:
    """The configuration that consumers, producers and admin clients share (librdkafka's names, CONFIGURATION.md).

    What the client properties file says wins over our own choices, and a setting over both. With AWS_MSK_IAM the
    constructor of a client waits a second for its first token, and raises `KafkaException` when ten have passed
    without one: do not call it in an event loop.
    """
    options: dict[str, Any] = {
        "allow.auto.create.topics": False,
        "socket.timeout.ms": int(SOCKET_TIMEOUT_SECONDS * 1000),
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": RECONNECT_BACKOFF_MAX_MS,
        "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
        "receive.message.max.bytes": RECEIVE_MAX_BYTES,
        "enable.metrics.push": False,  # what this client measures is no business of the brokers (KIP-714)
        **settings.kafka_options,
        "check.crcs": True,  # librdkafka does not by itself; brokers leave it to whoever reads
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": settings.kafka_client_id,
        "security.protocol": settings.kafka_security_protocol,
        **_tls_options(settings),
        **_sasl_options(settings),
    }
    return {name: value for name, value in options.items() if value is not None}


def _tls_options(settings: Settings) -> dict[str, Any]:
    """Checking the brokers' names against their certificates is librdkafka's default, and stays."""
    if not settings.uses_tls:
        return {}
    key_file, password = settings.kafka_ssl_key_file or settings.kafka_ssl_cert_file, settings.kafka_ssl_key_password
    return _without_none(
        {
            "ssl.ca.location": _path(settings.kafka_ssl_ca_file),
            "ssl.certificate.location": _path(settings.kafka_ssl_cert_file),
            "ssl.key.location": _path(key_file),
            "ssl.key.password": None if password is None else password.get_secret_value(),
        }
    )


def _path(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _without_none(options: dict[str, Any]) -> dict[str, Any]:
    """So that a setting that is not set hides nothing of the client properties file."""
    return {name: value for name, value in options.items() if value is not None}


def _sasl_options(settings: Settings) -> dict[str, Any]:
    if not settings.uses_sasl:
        return {}
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return _oidc_options(settings)
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        # MSK's own mechanism wraps the same signed request; its brokers take it as a bearer token too.
        return {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": token_callback(settings.kafka_region or "")}
    password = settings.kafka_sasl_password
    return {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": None if password is None else password.get_secret_value(),
    }


def _oidc_options(settings: Settings) -> dict[str, Any]:
    """Client credentials (RFC 6749, 4.4), which librdkafka exchanges for tokens at four fifths of their life."""
    secret = settings.kafka_oauth_client_secret
    authorities = None
    if not settings.kafka_options.keys() & {"https.ca.location", "https.ca.pem"}:
        authorities = token_authorities(settings)
    return _without_none(
        {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": settings.kafka_options.get("sasl.oauthbearer.method", "oidc"),
            "sasl.oauthbearer.token.endpoint.url": settings.kafka_oauth_token_url,
            "sasl.oauthbearer.client.id": settings.kafka_oauth_client_id,
            "sasl.oauthbearer.client.secret": None if secret is None else secret.get_secret_value(),
            "sasl.oauthbearer.scope": settings.kafka_oauth_scope,
            "sasl.oauthbearer.extensions": settings.kafka_oauth_extensions or None,
            "https.ca.pem": authorities,
        }
    )


def token_authorities(settings: Settings) -> str | None:
    """PEM of whom the token endpoint's certificate is checked against: the system's authorities, and the brokers' too.

    A company's own authority usually signs both. The system's are named even where that is all: the HTTP client in
    librdkafka's wheel looks for them where Red Hat has them, and `https.ca.location=probe` does not help (2.16).
    """
    if not (settings.kafka_oauth_token_url or "https:").startswith("https:"):
        return None
    own = settings.kafka_ssl_ca_file
    texts = [system_authorities(), "" if own is None else own.read_text(encoding="utf-8", errors="replace")]
    return "\n".join(filter(None, texts)) or None


def system_authorities() -> str:
    """PEM of the authorities that this machine trusts; empty where there are none."""
    default = ssl.get_default_verify_paths().cafile  # honours SSL_CERT_FILE
    for file in filter(None, (default, *_AUTHORITIES)):
        path = Path(file)
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return ""
