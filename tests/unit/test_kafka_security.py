"""TLS and SASL for aiokafka, and OAuth tokens from a real (local) token endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka.errors import KafkaConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streams.errors import ConfigurationError
from streams.kafka_security import OAuthTokenError, OAuthTokenProvider, aiokafka_security_options, ssl_context
from streams.settings import Settings

REQUIRED: dict[str, Any] = {
    "kafka_bootstrap_servers": "broker:9092",
    "topics": "orders",
    "consumer_group": "group",
    "s3_bucket": "events",
}
SECRET = "s3:cr t+%"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("STREAMS_"):
            monkeypatch.delenv(name)


class TokenEndpoint:
    """A token endpoint that gives its answers in turn, the last one again and again, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = [token("token-1", 3600)]
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def handle(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append((request.headers.get("Authorization", ""), form))
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, body=body)


def token(text: str, expires_in_seconds: int) -> tuple[int, bytes]:
    return 200, json.dumps({"access_token": text, "expires_in": expires_in_seconds}).encode()


@pytest.fixture
def endpoint() -> TokenEndpoint:
    return TokenEndpoint()


@pytest.fixture
async def settings(endpoint: TokenEndpoint) -> AsyncIterator[Settings]:
    app = web.Application()
    app.router.add_post("/token", endpoint.handle)
    async with TestServer(app) as server:
        yield oauth_settings(str(server.make_url("/token")))


def oauth_settings(token_url: str) -> Settings:
    oauth: dict[str, Any] = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_token_url": token_url,
        "kafka_oauth_client_id": "id:1",
        "kafka_oauth_client_secret": SECRET,
        "kafka_oauth_scope": "kafka.read",
        "kafka_oauth_extensions": "logicalCluster=lkc-1,identityPoolId=pool-2",
    }
    return Settings(**REQUIRED | oauth)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key, encrypted with the password `open sesame`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    return cert_file, key_file


def tls_settings(**fields: Any) -> Settings:
    return Settings(**REQUIRED | {"kafka_security_protocol": "SSL"} | fields)


def test_plaintext_has_no_tls_context() -> None:
    """Nothing is encrypted that was not asked to be."""
    assert ssl_context(Settings(**REQUIRED)) is None


def test_tls_checks_certificate_and_host_name() -> None:
    """With the system's authorities when none is named."""
    context = ssl_context(tls_settings())
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_tls_trusts_the_named_authority_alone(certificate: tuple[Path, Path]) -> None:
    """Who names an authority does not mean the public ones as well."""
    context = ssl_context(tls_settings(kafka_ssl_ca_file=certificate[0]))
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_client_certificate_is_loaded_with_its_password(certificate: tuple[Path, Path]) -> None:
    """An encrypted key works with its password."""
    cert_file, key_file = certificate
    context = ssl_context(
        tls_settings(kafka_ssl_cert_file=cert_file, kafka_ssl_key_file=key_file, kafka_ssl_key_password="open sesame")
    )
    assert context is not None


@pytest.mark.parametrize("password", [None, "wrong"])
def test_wrong_key_password_is_a_clear_error(certificate: tuple[Path, Path], password: str | None) -> None:
    """And never a prompt on the terminal, which would hang a container."""
    cert_file, key_file = certificate
    wrong = tls_settings(kafka_ssl_cert_file=cert_file, kafka_ssl_key_file=key_file, kafka_ssl_key_password=password)
    with pytest.raises(ConfigurationError, match="STREAMS_KAFKA_SSL_KEY_PASSWORD"):
        ssl_context(wrong)


def test_ca_file_that_is_no_pem_is_a_clear_error(tmp_path: Path) -> None:
    """The message names the setting."""
    (tmp_path / "ca.jks").write_bytes(b"\xfe\xed\xfe\xed")
    with pytest.raises(ConfigurationError, match=r"STREAMS_KAFKA_SSL_CA_FILE: .*ca\.jks is not a PEM file"):
        ssl_context(tls_settings(kafka_ssl_ca_file=tmp_path / "ca.jks"))


def test_plaintext_options_hold_no_login() -> None:
    """What aiokafka is told without security."""
    assert aiokafka_security_options(Settings(**REQUIRED)) == {"security_protocol": "PLAINTEXT", "ssl_context": None}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_password_options_are_aiokafkas(mechanism: str) -> None:
    """User name and password in the clear, TLS as a context."""
    options = aiokafka_security_options(
        Settings(
            **REQUIRED,
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism=mechanism,
            kafka_sasl_username="key",
            kafka_sasl_password="secret",
        )
    )
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext)
    assert {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "key",
        "sasl_plain_password": "secret",
    } == options


def test_oauth_options_hold_a_token_provider() -> None:
    """With its extensions, and without a password."""
    options = aiokafka_security_options(oauth_settings("https://idp.example/token"))
    provider = options["sasl_oauth_token_provider"]
    assert isinstance(provider, OAuthTokenProvider)
    assert provider.extensions() == {"logicalCluster": "lkc-1", "identityPoolId": "pool-2"}
    assert "sasl_plain_password" not in options


async def test_token_is_asked_for_as_rfc_6749_says(endpoint: TokenEndpoint, settings: Settings) -> None:
    """HTTP Basic with form-encoded id and secret (2.3.1), grant type and scope in the form (4.4.2)."""
    assert await OAuthTokenProvider(settings).token() == "token-1"
    authorization, form = endpoint.requests[0]
    assert "Basic " + base64.b64encode(b"id%3A1:s3%3Acr+t%2B%25").decode() == authorization
    assert form == {"grant_type": "client_credentials", "scope": "kafka.read"}


async def test_token_is_asked_for_once_by_many_connections(endpoint: TokenEndpoint, settings: Settings) -> None:
    """All connections of a client log in at the same time."""
    provider = OAuthTokenProvider(settings)
    assert {"token-1"} == set(await asyncio.gather(*(provider.token() for _ in range(20))))
    assert len(endpoint.requests) == 1


async def test_token_is_replaced_after_four_fifths_of_its_life(
    endpoint: TokenEndpoint, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token must outlive the login that it is used for."""
    now_seconds = 1000.0
    monkeypatch.setattr("streams.kafka_security.time.monotonic", lambda: now_seconds)
    endpoint.answers = [token("token-1", 100), token("token-2", 100)]
    provider = OAuthTokenProvider(settings)
    assert await provider.token() == "token-1"
    now_seconds = 1079.9
    assert await provider.token() == "token-1"
    now_seconds = 1080.0
    assert await provider.token() == "token-2"


async def test_token_endpoint_is_asked_again_after_server_errors(endpoint: TokenEndpoint, settings: Settings) -> None:
    """A restarting identity provider does not stop the worker."""
    endpoint.answers = [(503, b""), (429, b""), (200, b'{"access_token": "token-1"}')]
    assert await OAuthTokenProvider(settings, retry_pause_seconds=0).token() == "token-1"
    assert len(endpoint.requests) == 3


async def test_lasting_server_errors_end_in_an_error(endpoint: TokenEndpoint, settings: Settings) -> None:
    """After a few tries; aiokafka takes it for a failed connection and comes back later."""
    endpoint.answers = [(500, b"")]
    with pytest.raises(OAuthTokenError, match=r"STREAMS_KAFKA_OAUTH_TOKEN_URL: .* answered 500") as caught:
        await OAuthTokenProvider(settings, retry_pause_seconds=0).token()
    assert isinstance(caught.value, KafkaConnectionError)
    assert len(endpoint.requests) == 4


async def test_unreachable_endpoint_is_named(unused_tcp_port: int) -> None:
    """The address and the setting, to be checked."""
    unreachable = oauth_settings(f"http://127.0.0.1:{unused_tcp_port}/token")
    with pytest.raises(
        OAuthTokenError, match=r"STREAMS_KAFKA_OAUTH_TOKEN_URL: http://127\.0\.0\.1:.* cannot be reached"
    ):
        await OAuthTokenProvider(unreachable, retry_pause_seconds=0).token()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b'{"error": "invalid_client"}', "answered 401 invalid_client. Check STREAMS_KAFKA_OAUTH_CLIENT_ID"),
        (400, b"secret page", "answered 400. Check"),
        (302, b"", "answered 302. Check"),
        (200, b"not json", "answered without an access_token"),
        (200, b'{"id_token": "x"}', "answered without an access_token"),
        (200, b"[]", "answered without an access_token"),
    ],
)
async def test_refusal_is_clear_and_shows_no_secret(
    endpoint: TokenEndpoint, settings: Settings, status: int, body: bytes, expected: str
) -> None:
    """It is not tried again, names the settings to check, and quotes neither the secret nor the endpoint's page."""
    endpoint.answers = [(status, body)]
    with pytest.raises(OAuthTokenError) as caught:
        await OAuthTokenProvider(settings, retry_pause_seconds=0).token()
    assert expected in str(caught.value)
    assert len(endpoint.requests) == 1
    assert SECRET not in str(caught.value)
    assert "secret page" not in str(caught.value)
