"""Every way to log in and every way to fail, on the real broker: what `connection_problem` and `check_kafka` say.

No worker is started; `test_security` and `test_start` say the same of one.
"""

from __future__ import annotations

import datetime
import http.server
import json
import logging
import os
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AclOperation, AdminClient

from streams.errors import ConfigurationError
from streams.kafka.connection import client_options
from streams.kafka.explanations import plain_words
from streams.kafka.logs import LOGGER_NAME, librdkafka_logger
from streams.kafka.problems import connection_problem
from streams.preflight import check_kafka
from streams.settings import Settings
from tests.services import certificates
from tests.services.certificates import CLIENT_KEY_PASSWORD, make_certificates
from tests.services.kafka import PASSWORD, STRANGER, SUPERUSER, KafkaBroker
from tests.services.oauth import TokenServer, unsigned_token
from tests.services.ports import free_port
from tests.services.waiting import wait_until

pytestmark = pytest.mark.kafka

MakeSettings = Callable[..., Settings]
PASSWORD_MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
WRONG = "not-the-password-of-anybody"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


@pytest.fixture
def make_settings(secure_broker: KafkaBroker) -> MakeSettings:
    """Settings for a listener of the secure broker; `fields` add to them."""

    def make(protocol: str = "PLAINTEXT", **fields: Any) -> Settings:
        assert secure_broker.certificates is not None
        needed: dict[str, Any] = {
            "kafka_bootstrap_servers": secure_broker.address(protocol),
            "kafka_security_protocol": protocol,
            "topics": "orders",
            "consumer_group": "group",
            "s3_bucket": "events",
        }
        if "SSL" in str(fields.get("kafka_security_protocol", protocol)):
            needed["kafka_ssl_ca_file"] = secure_broker.certificates.ca_file
        return Settings(**needed | fields)

    return make


def user(mechanism: str = "PLAIN", password: str = PASSWORD, name: str = SUPERUSER) -> dict[str, Any]:
    return {"kafka_sasl_mechanism": mechanism, "kafka_sasl_username": name, "kafka_sasl_password": password}


def oauth(url: str, secret: str = PASSWORD) -> dict[str, Any]:
    return {
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_token_url": url,
        "kafka_oauth_client_id": SUPERUSER,
        "kafka_oauth_client_secret": secret,
    }


async def problem_of(settings: Settings) -> str:
    """What is said of the first address, as one text; empty: nothing is wrong."""
    problem = await connection_problem(settings, settings.kafka_bootstrap_servers)
    return "" if problem is None else str(problem)


# -- what works --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS)
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_name_and_password_log_in(make_settings: MakeSettings, protocol: str, mechanism: str) -> None:
    """With every mechanism that has them."""
    assert "" == await problem_of(make_settings(protocol, **user(mechanism)))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain-key", "encrypted-key"])
async def test_client_certificate_logs_in(
    make_settings: MakeSettings, secure_broker: KafkaBroker, encrypted: bool
) -> None:
    """Its key may be encrypted."""
    files = secure_broker.certificates
    assert files is not None
    key = files.client_key_encrypted_file if encrypted else files.client_key_file
    password = {"kafka_ssl_key_password": CLIENT_KEY_PASSWORD} if encrypted else {}
    settings = make_settings("SSL", kafka_ssl_cert_file=files.client_cert_file, kafka_ssl_key_file=key, **password)
    assert "" == await problem_of(settings)


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_client_credentials_log_in(make_settings: MakeSettings, protocol: str) -> None:
    """librdkafka exchanges them for a token, with the scope that is asked for."""
    with TokenServer() as tokens:
        assert "" == await problem_of(make_settings(protocol, **oauth(tokens.url), kafka_oauth_scope="kafka.read"))
        assert [{"grant_type": "client_credentials", "scope": "kafka.read"}] == tokens.requests


async def test_token_endpoint_may_have_a_private_authority(
    make_settings: MakeSettings, secure_broker: KafkaBroker
) -> None:
    """The one that signed the brokers' certificates; without it the endpoint is not trusted."""
    files = secure_broker.certificates
    assert files is not None
    with endpoint(200, token_answer(), files.broker_keystore_file) as url:
        assert "" == await problem_of(make_settings("SASL_SSL", **oauth(url)))
        untrusting = make_settings("SASL_PLAINTEXT", **oauth(url))
        assert "cannot be trusted" in await problem_of(untrusting)


@pytest.mark.parametrize("kind", [Consumer, Producer, AdminClient])
def test_aws_tokens_log_every_kind_of_client_in(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """Unpolled, and again when a token ends. The signature is a stand-in: the broker here takes unsigned tokens."""
    asked: list[str] = []

    def sign(region: str) -> tuple[str, float]:
        asked.append(region)
        return unsigned_token(SUPERUSER, 4), (time.time() + 4) * 1000

    monkeypatch.setattr(MSKAuthTokenProvider, "generate_auth_token", sign)
    settings = make_settings("SASL_SSL", kafka_sasl_mechanism="AWS_MSK_IAM", kafka_aws_region="eu-west-1")
    group = {"group.id": "group"} if kind is Consumer else {}
    client = kind({**client_options(settings), **group})
    assert client.list_topics(timeout=10).brokers
    deadline = time.monotonic() + 20
    while len(asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {"eu-west-1"} == set(asked)
    assert len(asked) >= 2
    if kind is Consumer:
        client.close()


# -- logins that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS)
async def test_wrong_password(make_settings: MakeSettings, mechanism: str) -> None:
    """The mechanism and the name are shown, the password is not."""
    said = await problem_of(make_settings("SASL_SSL", **user(mechanism, WRONG)))
    assert f"wrong credentials: the broker refused the login (SASL {mechanism} as {SUPERUSER})" in said
    assert WRONG not in said


async def test_wrong_client_secret(make_settings: MakeSettings) -> None:
    """It is the token endpoint that refuses."""
    with TokenServer() as tokens:
        said = await problem_of(make_settings("SASL_SSL", **oauth(tokens.url, WRONG)))
    assert f"{tokens.url} refused (HTTP 401, invalid_client)" in said
    assert "STREAMS_KAFKA_OAUTH_CLIENT_SECRET" in said
    assert WRONG not in said


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, b'{"error":"invalid_scope"}', "refused (HTTP 400, invalid_scope)"),
        (401, b"<html>hunter2</html>", "refused (HTTP 401). Check STREAMS_KAFKA_OAUTH_CLIENT_ID"),
        (403, b"Could not connect: hunter2", "refused (HTTP 403). Check STREAMS_KAFKA_OAUTH_CLIENT_ID"),
        (200, b'{"a":1}', "answered without a token that can be used"),
        (200, b'{"access_token":"opaque","expires_in":300}', "answered without a token that can be used"),
        (200, b"<html>", "answered without a token that can be used"),
    ],
)
async def test_answer_that_is_no_token(make_settings: MakeSettings, status: int, body: bytes, words: str) -> None:
    """The endpoint is named without its query, and what it sent is not repeated."""
    with endpoint(status, body) as url:
        said = await problem_of(make_settings("SASL_PLAINTEXT", **oauth(f"{url}?key=hunter2")))
    assert f"STREAMS_KAFKA_OAUTH_TOKEN_URL: {url} " in said
    assert words in said
    assert "hunter2" not in said


@pytest.mark.parametrize("body", [b'{"error":"invalid_client","a":"hunter2"}', b"hunter2 cannot Connect"])
def test_lines_of_the_client_repeat_no_answer(
    make_settings: MakeSettings, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log and its errors hold the whole answer and the address; ours hold status and `error` at most."""
    heard: list[str] = []
    logging.getLogger(LOGGER_NAME).filters.clear()
    with caplog.at_level(logging.DEBUG, LOGGER_NAME), endpoint(401, body) as url:
        options = {
            **client_options(make_settings("SASL_PLAINTEXT", **oauth(f"{url}?key=hunter2"))),
            "group.id": "nobody",
            "error_cb": lambda error: heard.append(error.str()),
        }
        consumer = Consumer(options, logger=librdkafka_logger())
        wait_until(lambda: consumer.poll(0.1) is None and bool(heard), 20, "no token was refused")
        consumer.close()
    assert any("hunter2" in text for text in heard)
    assert "No OAuth token could be had" in caplog.text
    assert "HTTP 401" in caplog.text
    assert "hunter2" not in caplog.text + "".join(plain_words(text) for text in heard)


async def test_token_endpoint_that_is_not_there(make_settings: MakeSettings) -> None:
    """It is told from a broker that is not there."""
    url = f"http://127.0.0.1:{free_port()}/token"
    said = await problem_of(make_settings("SASL_SSL", **oauth(url)))
    assert f"STREAMS_KAFKA_OAUTH_TOKEN_URL: {url} cannot be reached" in said


async def test_token_that_the_broker_refuses(make_settings: MakeSettings) -> None:
    """Who logs in with tokens is not told to check a password."""
    answer = json.dumps({"access_token": unsigned_token(SUPERUSER, -60), "expires_in": 300}).encode()
    with endpoint(200, answer) as url:
        said = await problem_of(make_settings("SASL_PLAINTEXT", **oauth(url)))
    assert "token" in said
    assert "STREAMS_KAFKA_SASL_PASSWORD" not in said


# -- certificates ------------------------------------------------------------------------------------------------------


async def test_broker_of_another_authority(make_settings: MakeSettings, secure_broker: KafkaBroker) -> None:
    """The file that counts now is named."""
    files = secure_broker.certificates
    assert files is not None
    said = await problem_of(make_settings("SSL", kafka_ssl_ca_file=files.other_ca_file))
    assert "its certificate is not trusted (self-signed certificate in certificate chain)" in said
    assert f"STREAMS_KAFKA_SSL_CA_FILE (now {files.other_ca_file})" in said


async def test_certificate_of_another_name(make_settings: MakeSettings, secure_broker: KafkaBroker) -> None:
    """The same broker under an address that its certificate is not for."""
    with relay(secure_broker.address("SSL"), "127.0.0.2") as address:
        said = await problem_of(make_settings("SSL", kafka_bootstrap_servers=address))
        assert "its certificate is not trusted (IP address mismatch" in said
        assert "Use the name that the certificate is for" in said


async def test_certificate_that_has_expired(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another authority would not help."""
    monkeypatch.setattr(certificates, "_LIFETIME", datetime.timedelta(minutes=-10))
    files = make_certificates(tmp_path, "expired")
    with endpoint(200, b"", files.broker_keystore_file) as url:
        address = url.removeprefix("https://").partition("/")[0]
        settings = make_settings("SSL", kafka_bootstrap_servers=address, kafka_ssl_ca_file=files.ca_file)
        said = await problem_of(settings)
    assert "certificate has expired" in said
    assert "Renew the broker's certificate" in said


async def test_client_certificate_of_another_authority(make_settings: MakeSettings, tmp_path: Path) -> None:
    """The broker refuses it."""
    files = make_certificates(tmp_path, SUPERUSER)
    settings = make_settings(
        "SSL", kafka_ssl_cert_file=files.client_cert_file, kafka_ssl_key_file=files.client_key_file
    )
    assert "the broker does not accept this worker's certificate" in await problem_of(settings)


# -- ports and addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoken", "actual", "words"),
    [
        ("PLAINTEXT", "SSL", "the broker closed the connection"),
        ("PLAINTEXT", "SASL_PLAINTEXT", "the broker closed the connection"),
        ("SSL", "PLAINTEXT", "the broker closed the connection"),
        ("SSL", "SASL_SSL", "the broker closed the connection"),
        ("SASL_PLAINTEXT", "SASL_SSL", "the broker closed the connection"),
        ("SASL_SSL", "SASL_PLAINTEXT", "the broker closed the connection"),
        ("SASL_PLAINTEXT", "PLAINTEXT", "asks for no login at this port"),
        ("SASL_SSL", "SSL", "asks for no login at this port"),
    ],
)
async def test_other_protocol_than_the_listeners(
    make_settings: MakeSettings, spoken: str, actual: str, words: str
) -> None:
    """The setting of the protocol is named."""
    login = user() if "SASL" in spoken else {}
    said = await problem_of(make_settings(actual, kafka_security_protocol=spoken, **login))
    assert words in said
    assert f"STREAMS_KAFKA_SECURITY_PROTOCOL={spoken}" in said


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
async def test_broker_that_never_answers(make_settings: MakeSettings, protocol: str) -> None:
    """A connection that is taken and not answered ends after ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        assert "no answer within 10 s" in await problem_of(make_settings(protocol, kafka_bootstrap_servers=address))
    assert time.monotonic() - began < 12


async def test_unusable_brokers_are_all_named(make_settings: MakeSettings) -> None:
    """Each of several bootstrap servers, with what is wrong with it."""
    closed = f"127.0.0.1:{free_port()}"
    settings = make_settings(kafka_bootstrap_servers=f"{closed},no-such-host.invalid:9092")
    with pytest.raises(ConfigurationError) as caught:
        await check_kafka(settings)
    first, *others = str(caught.value).splitlines()
    assert "no Kafka broker could be used:" == first
    assert [f"  {closed}: unreachable", "  no-such-host.invalid:9092: the name"] == [
        line[: line.index("unreachable") + 11 if "unreachable" in line else line.index("the name") + 8]
        for line in others
    ]


# -- topics and the group ----------------------------------------------------------------------------------------------


@pytest.fixture
def topic(secure_broker: KafkaBroker) -> str:
    name = f"guarded-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(name)
    return name


async def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await check_kafka(settings)
    return str(caught.value)


async def test_one_usable_broker_is_enough(make_settings: MakeSettings, topic: str, secure_broker: KafkaBroker) -> None:
    """The others may be down; the topics come back by name."""
    servers = f"127.0.0.1:{free_port()},{secure_broker.address('PLAINTEXT')}"
    assert [topic] == await check_kafka(make_settings(kafka_bootstrap_servers=servers, topics=topic))
    assert [topic] == await check_kafka(make_settings(topics=f"^{topic}$"))


async def test_missing_topic_is_named(make_settings: MakeSettings, topic: str) -> None:
    """Among several topics, the one that does not exist."""
    said = await refusal(make_settings(topics=f"{topic},missing-topic"))
    assert "topics that do not exist (or that this user may not see): missing-topic." in said
    assert topic not in said


async def test_pattern_without_a_match_shows_what_there_is(make_settings: MakeSettings, topic: str) -> None:
    """Kafka's own topics are none of it."""
    said = await refusal(make_settings(topics="^(__.*|no-topic-is-called-so)$"))
    assert "matches no topic. This user sees: " in said
    assert "__" not in said.partition("This user sees")[2]


async def test_topic_that_may_not_be_seen(make_settings: MakeSettings, topic: str) -> None:
    """The right that is missing is named."""
    said = await refusal(make_settings("SASL_SSL", topics=topic, **user(name=STRANGER)))
    assert "STREAMS_TOPICS names topics that this user may not read" in said
    assert topic in said


@pytest.mark.parametrize("operation", [None, AclOperation.DESCRIBE], ids=["none", "describe-only"])
async def test_group_that_may_not_be_used(
    make_settings: MakeSettings, topic: str, secure_broker: KafkaBroker, operation: AclOperation | None
) -> None:
    """Before it is joined; a user who may only describe it could not join either."""
    group = f"group-{uuid.uuid4().hex[:12]}"
    secure_broker.grant(STRANGER, topic=topic)
    settings = make_settings("SASL_SSL", topics=topic, consumer_group=group, **user(name=STRANGER))
    if operation is not None:
        secure_broker.grant(STRANGER, group=group, operation=operation)
    said = await refusal(settings)
    assert f"this user may not use the consumer group {group} (STREAMS_CONSUMER_GROUP)" in said
    secure_broker.grant(STRANGER, group=group)
    assert [topic] == await check_kafka(settings)


# -- servers that are not brokers --------------------------------------------------------------------------------------


def token_answer() -> bytes:
    return json.dumps({"access_token": unsigned_token(SUPERUSER, 300), "expires_in": 300}).encode()


@contextmanager
def endpoint(status: int, body: bytes, certificate: Path | None = None) -> Iterator[str]:
    """A server that always gives this answer, over TLS with a certificate; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if body.startswith(b"<") else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """No line for each request."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that do not trust it leave in the middle of a handshake."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_address[1]}/token"
        server.shutdown()
        thread.join(10)


@contextmanager
def relay(target: str, host: str) -> Iterator[str]:
    """A way to `target` (`host:port`) over another address of this machine."""
    target_host, _, target_port = target.rpartition(":")

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()

    def serve(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            broker = socket.create_connection((target_host, int(target_port)))
            for pair in ((client, broker), (broker, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server((host, 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"{host}:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
