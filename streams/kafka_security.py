"""How the worker proves who it is to Kafka, and checks who the brokers are: TLS, SASL and OAuth tokens for aiokafka.

Sits between `settings` and everything that opens a connection to Kafka (`preflight`, the Faust transport).
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from streams.errors import ConfigurationError, StreamsError
from streams.settings import Settings

_ATTEMPTS: Final = 4
_REQUEST_TIMEOUT_SECONDS: Final = 10.0
_REUSED_SHARE: Final = 0.8
# RFC 6749, 5.1: `expires_in` is only recommended.
_DEFAULT_LIFETIME_SECONDS: Final = 300.0


class OAuthTokenError(StreamsError, KafkaConnectionError):
    """No token could be had; aiokafka takes it for a failed connection, so a running worker tries again later."""

    def __str__(self) -> str:
        """The message alone: aiokafka's errors would put their class in front."""
        return str(self.args[0])


class _TemporaryTokenError(Exception):
    """The token endpoint may answer if it is asked again."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    stale_at_seconds: float
    """When to ask for the next one, on the monotonic clock."""


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """What TLS connections to the brokers are checked with, `None` where the protocol has no TLS.

    Raises `ConfigurationError` naming the setting of a file that cannot be used.
    """
    if not settings.uses_tls:
        return None
    context = ssl.create_default_context()
    if settings.kafka_ssl_ca_file is not None:
        context = _context_trusting(settings)
    if settings.kafka_ssl_cert_file is not None:
        _load_client_certificate(context, settings)
    return context


def aiokafka_security_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments about security that every aiokafka client takes.

    With OAUTHBEARER each call makes a token provider of its own: call it once per process.
    """
    options: dict[str, Any] = {
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if not settings.uses_sasl:
        return options
    options["sasl_mechanism"] = settings.kafka_sasl_mechanism
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return {**options, "sasl_oauth_token_provider": OAuthTokenProvider(settings)}
    password = settings.kafka_sasl_password
    return {
        **options,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": password.get_secret_value() if password else None,
    }


class OAuthTokenProvider(AbstractTokenProvider):
    """Tokens by client credentials (RFC 6749, 4.4), kept until four fifths of their life are over.

    `token` may be called by many connections at once: one request is made for all. `retry_pause_seconds` is the first
    pause between tries, doubled each time.
    """

    def __init__(self, settings: Settings, retry_pause_seconds: float = 0.5) -> None:
        self._settings = settings
        self._retry_pause_seconds = retry_pause_seconds
        self._token: _Token | None = None
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """An access token that is good for a while yet. Raises `OAuthTokenError`."""
        async with self._asking:
            if self._token is None or time.monotonic() >= self._token.stale_at_seconds:
                self._token = await self._ask()
            return self._token.text

    def extensions(self) -> dict[str, str]:
        """SASL extensions to send with the token (KIP-342)."""
        return self._settings.kafka_oauth_extension_values

    async def _ask(self) -> _Token:
        problem = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._retry_pause_seconds * 2 ** (attempt - 1))
            try:
                return await self._ask_once()
            except _TemporaryTokenError as error:
                problem = str(error)
        raise self._error(f"{problem} ({_ATTEMPTS} tries). Check the address and the network.")

    async def _ask_once(self) -> _Token:
        form = {"grant_type": "client_credentials"}
        if self._settings.kafka_oauth_scope:
            form["scope"] = self._settings.kafka_oauth_scope
        asked_at_seconds = time.monotonic()
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS)) as session,
                session.post(
                    self._settings.kafka_oauth_token_url or "",
                    data=form,
                    headers={"Authorization": self._basic_authorization(), "Accept": "application/json"},
                    ssl=_token_endpoint_context(self._settings),
                    allow_redirects=False,
                ) as response,
            ):
                return self._understand(response.status, await response.read(), asked_at_seconds)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _TemporaryTokenError(f"cannot be reached: {error or type(error).__name__}") from error

    def _understand(self, status: int, body: bytes, asked_at_seconds: float) -> _Token:
        if status >= 500 or status == 429:
            raise _TemporaryTokenError(f"answered {status}")
        if status != 200:
            raise self._error(
                f"answered {status}{_error_code(body)}. Check STREAMS_KAFKA_OAUTH_CLIENT_ID, "
                "STREAMS_KAFKA_OAUTH_CLIENT_SECRET and STREAMS_KAFKA_OAUTH_SCOPE."
            )
        try:
            answer = json.loads(body)
            lifetime_seconds = float(answer.get("expires_in") or _DEFAULT_LIFETIME_SECONDS)
            return _Token(str(answer["access_token"]), asked_at_seconds + _REUSED_SHARE * lifetime_seconds)
        except (ValueError, KeyError, TypeError, AttributeError):
            # Without the cause: a parser's error may quote the token.
            raise self._error("answered without an access_token. Is it a token endpoint?") from None

    def _basic_authorization(self) -> str:
        # RFC 6749, 2.3.1: both are form-encoded before they go into the header.
        secret = self._settings.kafka_oauth_client_secret
        login = quote_plus(self._settings.kafka_oauth_client_id or "")
        password = quote_plus(secret.get_secret_value() if secret else "")
        return f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode('ascii')}"

    def _error(self, problem: str) -> OAuthTokenError:
        return OAuthTokenError(f"STREAMS_KAFKA_OAUTH_TOKEN_URL: {self._settings.kafka_oauth_token_url} {problem}")


def _context_trusting(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"STREAMS_KAFKA_SSL_CA_FILE: {settings.kafka_ssl_ca_file} is not a PEM file of certificates ({error})."
        ) from error


def _load_client_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    password = settings.kafka_ssl_key_password
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(
            str(settings.kafka_ssl_cert_file),
            str(settings.kafka_ssl_key_file) if settings.kafka_ssl_key_file else None,
            password.get_secret_value() if password else "",
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"STREAMS_KAFKA_SSL_CERT_FILE: {settings.kafka_ssl_cert_file} cannot be used ({error}). Check that it and "
            "STREAMS_KAFKA_SSL_KEY_FILE are PEM and belong together, and STREAMS_KAFKA_SSL_KEY_PASSWORD."
        ) from error


def _token_endpoint_context(settings: Settings) -> ssl.SSLContext:
    """The system's authorities, and the brokers' too: a company's own authority usually signs both."""
    context = ssl.create_default_context()
    if settings.kafka_ssl_ca_file is not None:
        context.load_verify_locations(cafile=settings.kafka_ssl_ca_file)
    return context


def _error_code(body: bytes) -> str:
    """The endpoint's own `error` (RFC 6749, 5.2: one word), as ` invalid_client`; nothing else of what it sent."""
    try:
        code = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" {code}" if isinstance(code, str) and code.isascii() and code.replace("_", "").isalnum() else ""
