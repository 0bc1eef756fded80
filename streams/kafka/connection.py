"""What every client of librdkafka is told about the connection: servers, TLS, login. One place for all of them."""

from __future__ import annotations

from typing import Any, Final

from streams.settings import Settings

SOCKET_TIMEOUT_SECONDS: Final = 15.0
"""Longest wait for a broker's answer to one request."""
RECONNECT_BACKOFF_MAX_MS: Final = 2_000
"""So that a broker that is back is noticed within two seconds (librdkafka's own limit is ten)."""
METADATA_REFRESH_MS: Final = 30_000
"""How soon a topic's new leader, new partitions or end are noticed when nothing fails because of them."""


def client_options(settings: Settings) -> dict[str, Any]:
    """The configuration that consumers, producers and admin clients share (librdkafka's names, CONFIGURATION.md)."""
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": settings.kafka_client_id,
        "allow.auto.create.topics": False,
        "socket.timeout.ms": int(SOCKET_TIMEOUT_SECONDS * 1000),
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": RECONNECT_BACKOFF_MAX_MS,
        "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
        "security.protocol": settings.kafka_security_protocol,
        **_tls_options(settings),
        **_sasl_options(settings),
    }
    return {name: value for name, value in options.items() if value is not None}


def _tls_options(settings: Settings) -> dict[str, Any]:
    if not settings.uses_tls:
        return {}
    key_file, password = settings.kafka_ssl_key_file or settings.kafka_ssl_cert_file, settings.kafka_ssl_key_password
    return {
        "ssl.ca.location": _path(settings.kafka_ssl_ca_file),
        "ssl.certificate.location": _path(settings.kafka_ssl_cert_file),
        "ssl.key.location": _path(key_file),
        "ssl.key.password": None if password is None else password.get_secret_value(),
    }


def _path(file: Any) -> str | None:
    return None if file is None else str(file)


def _sasl_options(settings: Settings) -> dict[str, Any]:
    if not settings.uses_sasl:
        return {}
    password = settings.kafka_sasl_password
    return {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": None if password is None else password.get_secret_value(),
    }
