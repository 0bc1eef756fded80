"""What librdkafka says when it cannot connect, in words that help: one row for each way to fail.

The texts were said by librdkafka 2.16.0 of a real broker (4.1), or of one that was not there, but for the last three,
where the code says it all; those of AWS_MSK_IAM are the same broker's answers to bearer tokens. Most of
them are said again in `test_connection_problems`.
"""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from streams.kafka.explanations import explain, explain_text, is_refusal, no_answer, plain_words, untrusted
from streams.kafka.token_failures import without_secrets
from streams.settings import Settings

REQUIRED: dict[str, Any] = {
    "kafka_bootstrap_servers": "broker:9092",
    "topics": "orders",
    "consumer_group": "orders-to-s3",
    "s3_bucket": "events",
}
PLAIN = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "PLAIN",
    "kafka_sasl_username": "alice",
    "kafka_sasl_password": "hunter2",
}
SCRAM = PLAIN | {"kafka_sasl_mechanism": "SCRAM-SHA-256"}
OAUTH = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
    "kafka_oauth_token_url": "https://login.example.com/token?key=hunter2",
    "kafka_oauth_client_id": "streams-worker",
    "kafka_oauth_client_secret": "hunter2",
}
MSK = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "AWS_MSK_IAM", "kafka_aws_region": "eu-west-1"}
SSL = {"kafka_security_protocol": "SSL"}
PLAINTEXT: dict[str, Any] = {}

TOKEN = "Failed to acquire SASL OAUTHBEARER token: "
AT = "sasl_ssl://127.0.0.1:30822/bootstrap: "

TEXTS = [
    # (code, what librdkafka said, settings, of the finding, of the remedy)
    (
        KafkaError._RESOLVE,
        "no-such-host.invalid:9092/bootstrap: Failed to resolve 'no-such-host.invalid:9092': Name or service not known "
        "(after 0ms in state CONNECT)",
        PLAINTEXT,
        "the name cannot be resolved",
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS",
    ),
    (
        KafkaError._TRANSPORT,
        "127.0.0.1:44963/bootstrap: Connect to ipv4#127.0.0.1:44963 failed: Connection refused (after 0ms in state "
        "CONNECT)",
        PLAINTEXT,
        "unreachable: connection refused",
        "host and port",
    ),
    (
        KafkaError._TRANSPORT,
        "127.0.0.1:33791/bootstrap: Connection setup timed out in state APIVERSION_QUERY (after 9006ms in state "
        "APIVERSION_QUERY)",
        PLAINTEXT,
        "no answer within 10 s",
        "firewall",
    ),
    (
        KafkaError._TRANSPORT,
        "127.0.0.1:24053/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 0ms in "
        "state APIVERSION_QUERY)",
        PLAINTEXT,
        "the broker closed the connection",
        "STREAMS_KAFKA_SECURITY_PROTOCOL=PLAINTEXT, or does it ask for TLS or a login?",
    ),
    (
        KafkaError._TRANSPORT,
        "ssl://127.0.0.1:30822/bootstrap: Disconnected: SSL connection closed by peer (after 0ms in state UP)",
        SSL,
        "the broker closed the connection",
        "STREAMS_KAFKA_SECURITY_PROTOCOL=SSL",
    ),
    (
        KafkaError._TRANSPORT,
        "ssl://127.0.0.1:21427/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: "
        "connecting to a PLAINTEXT broker listener? (after 2ms in state SSL_HANDSHAKE)",
        SSL,
        "the broker closed the connection",
        "STREAMS_KAFKA_SECURITY_PROTOCOL=SSL",
    ),
    (
        KafkaError._SSL,
        "ssl://127.0.0.1:24053/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify "
        "failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured or root "
        "CA certificates are installed (install ca-certificates package) (after 3ms in state SSL_HANDSHAKE)",
        SSL,
        "its certificate is not trusted",
        "STREAMS_KAFKA_SSL_CA_FILE",
    ),
    (
        KafkaError._TRANSPORT,
        "ssl://127.0.0.1:24053/bootstrap: Receive failed: error:0A000416:SSL routines::ssl/tls alert certificate "
        "unknown: SSL alert number 46 (after 3ms in state APIVERSION_QUERY)",
        SSL,
        "the broker does not accept this worker's certificate (certificate unknown)",
        "STREAMS_KAFKA_SSL_CERT_FILE",
    ),
    (
        KafkaError._INVALID_ARG,
        "Failed to create admin client: ssl.ca.location failed: error:05800088:x509 certificate routines::no "
        "certificate or crl found",
        SSL,
        "is not a PEM file of certificates",
        "PEM",
    ),
    (
        KafkaError._INVALID_ARG,
        "Failed to create admin client: ssl.key.location failed: error:0A080009:SSL routines::PEM lib",
        SSL,
        "cannot be used (SSL routines: PEM lib)",
        "STREAMS_KAFKA_SSL_KEY_PASSWORD",
    ),
    (
        KafkaError._INVALID_ARG,
        "Failed to create admin client: ssl.key.location failed: error:05800074:x509 certificate routines::key values "
        "mismatch",
        SSL,
        "STREAMS_KAFKA_CLIENT_PROPERTIES: the certificate or key in it cannot be used",
        "belong together",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + "SASL authentication error: Authentication failed: Invalid username or password (after 301ms in state "
        "AUTH_REQ)",
        PLAIN,
        "wrong credentials: the broker refused the login (SASL PLAIN as alice)",
        "STREAMS_KAFKA_SASL_PASSWORD",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + "SASL authentication error: Authentication failed during authentication due to invalid credentials with "
        "SASL mechanism SCRAM-SHA-256 (after 310ms in state AUTH_REQ)",
        SCRAM,
        "SASL SCRAM-SHA-256 as alice",
        "STREAMS_KAFKA_SASL_USERNAME",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + "SASL authentication error: Authentication failed during authentication due to invalid credentials with "
        "SASL mechanism OAUTHBEARER (after 300ms in state AUTH_REQ)",
        OAUTH,
        "the broker refused the token of streams-worker",
        "STREAMS_KAFKA_OAUTH_SCOPE",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + 'SASL authentication error: {"status":"invalid_token"} (after 302ms in state AUTH_REQ)',
        MSK,
        "the broker refused this AWS identity",
        "kafka-cluster:Connect",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported "
        "mechanisms: SCRAM-SHA-256 (after 302ms in state AUTH_HANDSHAKE)",
        PLAIN,
        "it does not offer the SASL mechanism PLAIN",
        "one that the broker offers: SCRAM-SHA-256",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + "SASL OAUTHBEARER mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported "
        "mechanisms: SCRAM-SHA-256 (after 300ms in state AUTH_HANDSHAKE)",
        MSK,
        "it does not offer IAM access control",
        "9098",
    ),
    (
        KafkaError._AUTHENTICATION,
        AT + "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's "
        "supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
        PLAIN,
        "the broker asks for no login at this port",
        "set that to SSL",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + '{"error": "invalid_client", "error_description": "The client id or secret is wrong."}',
        OAUTH,
        "https://login.example.com/token refused (invalid_client)",
        "STREAMS_KAFKA_OAUTH_CLIENT_SECRET",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "<html>hunter2</html>",
        OAUTH,
        "https://login.example.com/token refused",
        "STREAMS_KAFKA_OAUTH_CLIENT_ID",
    ),
    (
        KafkaError._AUTHENTICATION,
        '[thrd:background]: Failed to retrieve OIDC token from "https://login.example.com/token?key=hunter2": '
        '{"error":"invalid_client","error_description":"hunter2"} (401)',
        OAUTH,
        "https://login.example.com/token refused (HTTP 401, invalid_client)",
        "STREAMS_KAFKA_OAUTH_CLIENT_SECRET",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "hunter2: SSL certificate, certificate verify, Connect, timed out, Recv failure, reset",
        OAUTH,
        "https://login.example.com/token refused",
        "STREAMS_KAFKA_OAUTH_CLIENT_ID",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + '{"error": "invalid client hunter2"}',
        OAUTH,
        "https://login.example.com/token refused",
        "STREAMS_KAFKA_OAUTH_CLIENT_ID",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "Response is not JSON encoded: text/hunter2",
        OAUTH,
        "answered without a token that can be used (Response is not JSON encoded)",
        "application/json",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "Failed to connect to 127.0.0.1:36365 after 0 ms: Could not connect to server",
        OAUTH,
        "STREAMS_KAFKA_OAUTH_TOKEN_URL: https://login.example.com/token cannot be reached",
        "network",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "Could not resolve host: no-such-host.invalid",
        OAUTH,
        "cannot be reached: Could not resolve host",
        "Check the address",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "TLS connect error: error:0A00010B:SSL routines::wrong version number",
        OAUTH,
        "cannot be reached: TLS connect error: SSL routines: wrong version number",
        "Check the address",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "SSL certificate OpenSSL verify result: self-signed certificate in certificate chain (19)",
        OAUTH,
        "cannot be trusted",
        "STREAMS_KAFKA_SSL_CA_FILE",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "Response is not JSON encoded: (n/a)",
        OAUTH,
        "answered without a token that can be used (Response is not JSON encoded)",
        "application/json",
    ),
    (
        KafkaError._AUTHENTICATION,
        TOKEN + "Failed to decode JWT payload: The token is invalid with less than 2 delimiters",
        OAUTH,
        "answered without a token that can be used",
        "JWT",
    ),
    (
        KafkaError.SASL_AUTHENTICATION_FAILED,
        "OAuth token not set within 10 seconds timeout",
        MSK,
        "no token could be signed with AWS credentials",
        "STREAMS_KAFKA_AWS_REGION",
    ),
    (
        KafkaError._INVALID_ARG,
        "Failed to create consumer: `fetch.max.bytes` must be >= `message.max.bytes`",
        PLAINTEXT,
        "librdkafka refuses its configuration: `fetch.max.bytes` must be",
        "Correct the setting",
    ),
    (
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        "LISTCONSUMERGROUPOFFSETS worker coordinator request failed: Broker: Group authorization failed",
        PLAINTEXT,
        "may not use the consumer group orders-to-s3 (STREAMS_CONSUMER_GROUP)",
        "READ on the group",
    ),
    (KafkaError.TOPIC_AUTHORIZATION_FAILED, "Broker: Topic authorization failed", PLAINTEXT, "may not read", "READ"),
    (KafkaError.CLUSTER_AUTHORIZATION_FAILED, "Broker: Cluster authorization failed", PLAINTEXT, "cluster", "DESCRIBE"),
    (KafkaError.UNKNOWN_TOPIC_OR_PART, "Broker: Unknown topic or partition", PLAINTEXT, "does not exist", "Create it"),
    (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        "Broker: Coordinator load in progress",
        PLAINTEXT,
        "no coordinator",
        "Wait",
    ),
]


@pytest.mark.parametrize(("code", "text", "fields", "finding", "remedy"), TEXTS, ids=[row[1][-60:] for row in TEXTS])
def test_failure_is_explained(code: int, text: str, fields: dict[str, Any], finding: str, remedy: str) -> None:
    """What happened in plain words, and the setting or the place to look at; never what a server sent."""
    problem = explain(KafkaError(code, text), Settings(**REQUIRED | fields))
    assert "hunter2" not in plain_words(text)
    assert finding in problem.finding
    assert remedy in problem.remedy
    assert "hunter2" not in str(problem)
    assert "in state" not in problem.finding


@pytest.mark.parametrize("fields", [OAUTH, MSK], ids=["OAUTHBEARER", "AWS_MSK_IAM"])
@pytest.mark.parametrize("text", [row[1] for row in TEXTS if row[0] == KafkaError._AUTHENTICATION])
def test_who_has_no_password_is_told_to_check_none(text: str, fields: dict[str, Any]) -> None:
    """Whatever the text: the settings of another mechanism are no remedy."""
    problem = explain(KafkaError(KafkaError._AUTHENTICATION, text), Settings(**REQUIRED | fields))
    assert "STREAMS_KAFKA_SASL_USERNAME" not in str(problem)
    assert "password" not in str(problem).lower()


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("IP address mismatch, certificate is not valid for '127.0.0.2'", "Use the name"),
        ("Hostname mismatch, certificate is not valid for 'broker-1'", "Use the name"),
        ("certificate has expired", "Renew"),
        ("self-signed certificate in certificate chain", "STREAMS_KAFKA_SSL_CA_FILE"),
    ],
)
def test_untrusted_certificate_has_the_remedy_for_its_reason(reason: str, remedy: str) -> None:
    """Another name, another certificate, or another authority: OpenSSL's reason says which."""
    problem = untrusted(reason, Settings(**REQUIRED | SSL))
    assert f"({reason})" in problem.finding
    assert problem.remedy.startswith(remedy) or remedy in problem.remedy


def test_silence_may_be_the_token_endpoints() -> None:
    """librdkafka says nothing while it asks one again that answers with server errors."""
    problem = no_answer(Settings(**REQUIRED | OAUTH))
    assert "token endpoint" in problem.remedy
    assert "(https://login.example.com/token)" in problem.finding
    assert "token endpoint" not in no_answer(Settings(**REQUIRED)).remedy


def test_unknown_words_are_shown_as_they_are() -> None:
    """Without librdkafka's own details."""
    text = (
        "[thrd:ssl://b:9093/1]: ssl://b:9093/1: Something new (after 3ms in state UP, 1 identical error(s) suppressed)"
    )
    assert "Something new" == explain_text(text, Settings(**REQUIRED)).finding == plain_words(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:hunter2@idp.example/t?key=hunter2#hunter2 failed", "GET https://idp.example/t failed"),
        ('to "http://idp.example?hunter2": no', 'to "http://idp.example": no'),
        ("sasl_ssl://127.0.0.1:9092/bootstrap: Disconnected", "sasl_ssl://127.0.0.1:9092/bootstrap: Disconnected"),
    ],
)
def test_addresses_are_shown_without_user_and_query(text: str, shown: str) -> None:
    """Both may hold secrets; host and path say which one it is."""
    assert shown == without_secrets(text)


@pytest.mark.parametrize(
    ("code", "text", "refused"),
    [
        (KafkaError._AUTHENTICATION, AT + "SASL authentication error: Authentication failed: Invalid username", True),
        (KafkaError._SSL, AT + "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: x", True),
        (
            KafkaError._TRANSPORT,
            AT + "Receive failed: error:0A000416:SSL routines::ssl/tls alert certificate unknown",
            True,
        ),
        (KafkaError._TRANSPORT, AT + "Receive failed: error:0A000418:SSL routines::tlsv1 alert unknown ca: SSL", True),
        (KafkaError._AUTHENTICATION, TOKEN + '{"error": "invalid_client"}', True),
        (KafkaError._AUTHENTICATION, TOKEN + "SSL certificate problem: unable to get local issuer certificate", True),
        (KafkaError._AUTHENTICATION, TOKEN + "Could not resolve host: login.example.com", False),
        (KafkaError._AUTHENTICATION, TOKEN + "<html>502 Bad Gateway</html>", False),
        (KafkaError._TRANSPORT, AT + "Connect to ipv4#127.0.0.1:30822 failed: Connection refused", False),
        (KafkaError._RESOLVE, "Failed to resolve 'no-such-host.invalid:9092': Name or service not known", False),
        (KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down", False),
    ],
)
def test_a_refusal_is_told_from_an_outage(code: int, text: str, refused: bool) -> None:
    """A restart may help with the one (it reads secrets and files again), and not with the other."""
    assert refused is is_refusal(KafkaError(code, text))


def test_token_that_aws_did_not_give_is_no_matter_of_a_token_endpoint() -> None:
    """There is none."""
    assert "sts get-caller-identity" in explain_text(TOKEN + "no credentials", Settings(**REQUIRED | MSK)).remedy
