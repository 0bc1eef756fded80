"""What an error of librdkafka's means, and what to do about it: the only place that says why Kafka could not be used.

Pure. librdkafka gives a code and a sentence; the sentence is what tells one failure of a connection from another
(`rdkafka_broker.c`, `rdkafka_transport.c`, `rdkafka_ssl.c`, `rdkafka_sasl*.c` of 2.16). `tests/unit/
test_kafka_problems.py` holds one of each, as a real broker made them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from streams.kafka.token_failures import TokenFailure, bare_urls, token_failure, without_secrets
from streams.settings import Settings

CONNECT_LIMIT_SECONDS: Final = 10.0
"""How long connecting to a broker, TLS and login together may take."""


class Problem(NamedTuple):
    """Why something about Kafka failed, and what to do."""

    finding: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.finding}. {self.remedy}"


def explain(error: KafkaError, settings: Settings) -> Problem:
    """What an error means, by its code where that says it all, else by its text."""
    if (refused := _REFUSALS.get(error.code())) is not None:
        return refused(settings)
    return explain_text(error.str(), settings)


def explain_text(text: str, settings: Settings) -> Problem:
    """What a sentence of librdkafka's means, from an error or from a line of its log."""
    if (failure := token_failure(text)) is not None:
        return _no_token(failure, settings)
    for pattern, make in _RULES:
        if (match := re.search(pattern, text)) is not None:
            return make(match[1] if match.groups() else "", settings)
    return Problem(plain_words(text), "docs/confluent-cloud.md and docs/security.md say how to connect.")


def is_refusal(error: KafkaError) -> bool:
    """Whether somebody was there and did not accept this client's login or TLS, or the client not the broker's.

    A token endpoint that cannot be reached, or fails, has refused nothing: no other secret or file would help.
    """
    if (failure := token_failure(error.str())) is not None:
        return bool(failure.error) or failure.sentence.startswith("SSL certificate")
    return (
        error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)
        or _OUR_CERTIFICATE.search(error.str()) is not None
    )


def plain_words(text: str) -> str:
    """A sentence without what only librdkafka's own developers need: thread, address, duration, number of the error.

    Nor with what may be secret (`without_secrets`).
    """
    text = without_secrets(text)
    text = re.sub(r"^\[thrd:[^\]]*\]: ", "", text)
    text = re.sub(r"^(?:\w+://)?[^\s/]+:\d+/(?:bootstrap|\d+): ", "", text)
    text = re.sub(r" \(after \d+ms in state .*\)$", "", text)
    return re.sub(r"error:[0-9A-F]{8}:([\w ]+)::", r"\1: ", text)


def no_answer(settings: Settings) -> Problem:
    """Nothing was heard for `CONNECT_LIMIT_SECONDS`."""
    if settings.kafka_sasl_mechanism == "OAUTHBEARER" and settings.kafka_oauth_token_url:
        return Problem(
            f"no answer within {CONNECT_LIMIT_SECONDS:.0f} s, of the broker or of STREAMS_KAFKA_OAUTH_TOKEN_URL "
            f"({_token_url(settings)})",
            "Open the way from this machine to both (firewall, security group, route), and see whether the token "
            "endpoint answers with a server error, which is tried again and again.",
        )
    return Problem(
        f"no answer within {CONNECT_LIMIT_SECONDS:.0f} s",
        "Open the way from this machine to that port (firewall, security group, route), or correct the address in "
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS.",
    )


def untrusted(reason: str, settings: Settings) -> Problem:
    """A certificate that is not accepted; `reason` in OpenSSL's words, empty where it is not known."""
    finding = f"its certificate is not trusted{f' ({reason})' if reason else ''}"
    if "mismatch" in reason:
        return Problem(
            finding,
            "Use the name that the certificate is for in STREAMS_KAFKA_BOOTSTRAP_SERVERS, or have this one added to "
            "the certificate.",
        )
    if "expired" in reason or "not yet valid" in reason:
        return Problem(finding, "Renew the broker's certificate, or correct this machine's clock.")
    now = settings.kafka_ssl_ca_file or "not set: the system's authorities count"
    return Problem(
        finding, f"Set STREAMS_KAFKA_SSL_CA_FILE (now {now}) to the PEM file of the authority that signed it."
    )


def login_name(settings: Settings) -> str:
    """Who logs in, by the settings; never a secret."""
    return settings.kafka_sasl_username or settings.kafka_oauth_client_id or "nobody"


# -- by code -----------------------------------------------------------------------------------------------------------


def _topic_denied(_settings: Settings) -> Problem:
    return Problem("this user may not read the topic", "Add an ACL that allows READ (and DESCRIBE) on it.")


def _group_denied(settings: Settings) -> Problem:
    return Problem(
        f"this user may not use the consumer group {settings.consumer_group} (STREAMS_CONSUMER_GROUP)",
        "Add an ACL that allows READ on the group.",
    )


def _cluster_denied(_settings: Settings) -> Problem:
    return Problem("this user may not ask this of the cluster", "Add an ACL that allows DESCRIBE on the cluster.")


def _unknown_topic(_settings: Settings) -> Problem:
    return Problem(
        "the topic does not exist (or this user may not see it)",
        "Create it, correct the name in STREAMS_TOPICS, or allow READ on it.",
    )


def _no_coordinator(settings: Settings) -> Problem:
    return Problem(
        f"the group {settings.consumer_group} has no coordinator at the moment",
        "Wait until the brokers have chosen one; look at their logs and at the topic __consumer_offsets if it lasts.",
    )


_REFUSALS: Final[Mapping[int, Callable[[Settings], Problem]]] = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _topic_denied,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _group_denied,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _cluster_denied,
    KafkaError.UNKNOWN_TOPIC_OR_PART: _unknown_topic,
    KafkaError._UNKNOWN_TOPIC: _unknown_topic,
    KafkaError.COORDINATOR_NOT_AVAILABLE: _no_coordinator,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: _no_coordinator,
    KafkaError.NOT_COORDINATOR: _no_coordinator,
}


# -- by text: tokens ---------------------------------------------------------------------------------------------------


def _no_token(failure: TokenFailure, settings: Settings) -> Problem:
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        return no_aws_token("", settings)
    endpoint, sentence = f"STREAMS_KAFKA_OAUTH_TOKEN_URL: {_token_url(settings)}", failure.sentence
    if re.match(r"SSL certificate|error (?:adding|setting)", sentence):
        return Problem(
            f"{endpoint} cannot be trusted: {sentence}",
            "Add the authority that signed its certificate to the PEM file of STREAMS_KAFKA_SSL_CA_FILE.",
        )
    if re.match(r"Response is not JSON|Expected|Failed to (?:parse|decode)", sentence):
        return Problem(
            f"{endpoint} answered without a token that can be used ({sentence})",
            "It must be a token endpoint that answers as application/json, with a JWT that has exp and sub.",
        )
    if sentence and not sentence.startswith("Server did not"):
        return Problem(f"{endpoint} cannot be reached: {plain_words(sentence)}", "Check the address and the network.")
    return Problem(
        f"{endpoint} refused{failure.codes}",
        "Check STREAMS_KAFKA_OAUTH_CLIENT_ID, STREAMS_KAFKA_OAUTH_CLIENT_SECRET and STREAMS_KAFKA_OAUTH_SCOPE.",
    )


def _token_url(settings: Settings) -> str:
    return bare_urls(settings.kafka_oauth_token_url or "")


def no_aws_token(detail: str, settings: Settings) -> Problem:
    """The signer gave no token; `detail` is what it said, empty where it is not known."""
    return Problem(
        detail or "no token could be signed with AWS credentials",
        "Give this process an AWS identity (instance profile, IRSA, AWS_PROFILE), and see that "
        f"`aws sts get-caller-identity` shows it; the region is {settings.kafka_region} (STREAMS_KAFKA_AWS_REGION).",
    )


# -- by text: the login ------------------------------------------------------------------------------------------------


def _login_refused(_detail: str, settings: Settings) -> Problem:
    mechanism = settings.kafka_sasl_mechanism
    if mechanism == "AWS_MSK_IAM":
        return Problem(
            "the broker refused this AWS identity",
            "Allow kafka-cluster:Connect on the cluster in the IAM policy of the identity that "
            f"`aws sts get-caller-identity` shows, and check the region ({settings.kafka_region}, "
            "STREAMS_KAFKA_AWS_REGION) and this machine's clock.",
        )
    if mechanism == "OAUTHBEARER":
        return Problem(
            f"the broker refused the token of {login_name(settings)} (SASL OAUTHBEARER)",
            "The token endpoint has issued it, so look at what the brokers expect of it (issuer, audience), at "
            "STREAMS_KAFKA_OAUTH_SCOPE, and at STREAMS_KAFKA_OAUTH_EXTENSIONS (Confluent Cloud: logicalCluster and "
            "identityPoolId).",
        )
    return Problem(
        f"wrong credentials: the broker refused the login (SASL {mechanism} as {login_name(settings)})",
        "Check STREAMS_KAFKA_SASL_USERNAME and STREAMS_KAFKA_SASL_PASSWORD; the mechanism is "
        f"STREAMS_KAFKA_SASL_MECHANISM={mechanism}.",
    )


def _mechanism_not_offered(offered: str, settings: Settings) -> Problem:
    mechanism = settings.kafka_sasl_mechanism
    if mechanism == "AWS_MSK_IAM":
        remedy = "Is IAM access control on for the cluster, and is this the port for it (9098, from outside 9198)?"
        return Problem("it does not offer IAM access control", remedy)
    known = f": {offered}" if offered else "."
    return Problem(
        f"it does not offer the SASL mechanism {mechanism}",
        f"Set STREAMS_KAFKA_SASL_MECHANISM to one that the broker offers{known}",
    )


def _no_login_asked(_detail: str, settings: Settings) -> Problem:
    plain = "SSL" if settings.uses_tls else "PLAINTEXT"
    return Problem(
        "the broker asks for no login at this port",
        f"Use the port for STREAMS_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}, or set that to {plain}.",
    )


# -- by text: TLS and the network --------------------------------------------------------------------------------------


def _our_certificate(alert: str, _settings: Settings) -> Problem:
    return Problem(
        f"the broker does not accept this worker's certificate ({alert})",
        "Set STREAMS_KAFKA_SSL_CERT_FILE and STREAMS_KAFKA_SSL_KEY_FILE to a certificate that the brokers' authority "
        "has signed and that has not expired.",
    )


def _untrusted(_detail: str, settings: Settings) -> Problem:
    return untrusted("", settings)


def _tls_failed(reason: str, settings: Settings) -> Problem:
    return Problem(
        f"TLS failed ({plain_words(reason)})",
        f"STREAMS_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}: is this port a TLS port? Correct the "
        "port in STREAMS_KAFKA_BOOTSTRAP_SERVERS or the protocol.",
    )


def _unreadable_authorities(_detail: str, settings: Settings) -> Problem:
    return Problem(
        f"STREAMS_KAFKA_SSL_CA_FILE: {settings.kafka_ssl_ca_file} is not a PEM file of certificates",
        "Name the PEM file of the authority that signed the brokers' certificates.",
    )


def _unreadable_certificate(reason: str, settings: Settings) -> Problem:
    file = settings.kafka_ssl_cert_file
    if file is None:
        return Problem(
            f"STREAMS_KAFKA_CLIENT_PROPERTIES: the certificate or key in it cannot be used ({plain_words(reason)})",
            "Check that both are PEM and belong together, and STREAMS_KAFKA_SSL_KEY_PASSWORD.",
        )
    return Problem(
        f"STREAMS_KAFKA_SSL_CERT_FILE: {file} cannot be used ({plain_words(reason)})",
        "Check that it and STREAMS_KAFKA_SSL_KEY_FILE are PEM and belong together, and STREAMS_KAFKA_SSL_KEY_PASSWORD.",
    )


def _refused_option(detail: str, settings: Settings) -> Problem:
    file = settings.kafka_client_properties
    return Problem(
        f"librdkafka refuses its configuration: {detail}",
        f"Correct that property in {file}." if file else "Correct the setting that it is about.",
    )


def _unknown_name(_detail: str, _settings: Settings) -> Problem:
    return Problem(
        "the name cannot be resolved",
        "Correct the host name in STREAMS_KAFKA_BOOTSTRAP_SERVERS, or this machine's DNS.",
    )


def _unreachable(reason: str, _settings: Settings) -> Problem:
    return Problem(
        f"unreachable: {reason[:1].lower()}{reason[1:]}",
        "Correct host and port in STREAMS_KAFKA_BOOTSTRAP_SERVERS, or start the broker that should listen there.",
    )


def _silent(_detail: str, settings: Settings) -> Problem:
    return no_answer(settings)


def _closed(_detail: str, settings: Settings) -> Problem:
    protocol = settings.kafka_security_protocol
    hint = "and are the credentials right?" if settings.uses_sasl else "or does it ask for TLS or a login?"
    return Problem(
        "the broker closed the connection",
        f"Does that port speak STREAMS_KAFKA_SECURITY_PROTOCOL={protocol}, {hint}",
    )


_OUR_CERTIFICATE: Final = re.compile(r"alert ((?:\w+ )?(?:certificate|unknown ca)[\w ]*)")
_RULES: Final[tuple[tuple[str, Callable[[str, Settings], Problem]], ...]] = (
    (r"OAuth token not set within()", no_aws_token),
    (r"Unsupported SASL mechanism: broker's supported mechanisms: ([\w,. -]*?)(?: \(after|$)", _mechanism_not_offered),
    (r"mechanism handshake failed: .*Request not valid in current SASL state", _no_login_asked),
    (r"SASL authentication error|mechanism handshake failed|SASL Authentication failed", _login_refused),
    (r"ssl\.ca\.(?:location|pem) failed", _unreadable_authorities),
    (r"ssl\.(?:key|certificate|keystore)\.\w+ failed: (.*)", _unreadable_certificate),
    (_OUR_CERTIFICATE.pattern, _our_certificate),
    (r"certificate verify failed", _untrusted),
    (r"connecting to a PLAINTEXT broker listener|[Dd]isconnected|closed by peer|reset by peer", _closed),
    (r"SSL handshake failed: (.*)", _tls_failed),
    (r"(?:Receive|Send) failed: (error:.*SSL.*)", _tls_failed),
    (r"Failed to resolve", _unknown_name),
    (r"(Connection refused|No route to host|(?:Network|Host) (?:is )?unreachable)", _unreachable),
    (r"[Tt]imed out|brokers are down", _silent),
    (r"Failed to create \w+(?: client)?: (.*)", _refused_option),
)
