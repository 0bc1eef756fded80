"""What librdkafka is told about the connection, and the tokens of AWS; `test_connection_problems` tries it for real."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streams.kafka.aws_iam import AwsTokenError, signed_token
from streams.kafka.connection import client_options, system_authorities
from streams.kafka.problems import connection_problem
from streams.settings import Settings

REQUIRED: dict[str, Any] = {
    "kafka_bootstrap_servers": "broker:9092",
    "topics": "orders",
    "consumer_group": "group",
    "s3_bucket": "events",
}
LOGIN = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "key", "kafka_sasl_password": "hunter2"}
OAUTH = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
    "kafka_oauth_token_url": "https://login.example.com/token",
    "kafka_oauth_client_id": "id",
    "kafka_oauth_client_secret": "hunter2",
}
MSK = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "AWS_MSK_IAM", "kafka_aws_region": "eu-west-1"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


def options(**fields: Any) -> dict[str, Any]:
    return client_options(Settings(**REQUIRED | fields))


def test_plaintext_says_nothing_about_tls_or_login() -> None:
    """Nothing is sent that was not asked for."""
    found = options(kafka_sasl_username="key")
    assert "PLAINTEXT" == found["security.protocol"]
    assert [] == [name for name in found if name.startswith(("ssl.", "sasl."))]


def test_tls_checks_certificate_and_host_name() -> None:
    """As librdkafka does by default: no option of ours turns that off."""
    found = options(kafka_security_protocol="SSL", kafka_ssl_ca_file=__file__)
    assert __file__ == found["ssl.ca.location"]
    assert not found.keys() & {"ssl.endpoint.identification.algorithm", "enable.ssl.certificate.verification"}


def test_client_certificate_may_hold_its_key() -> None:
    """Without a file of its own the key is in the certificate's."""
    found = options(kafka_security_protocol="SSL", kafka_ssl_cert_file=__file__, kafka_ssl_key_password="hunter2")
    names = ("ssl.certificate.location", "ssl.key.location", "ssl.key.password")
    assert (__file__, __file__, "hunter2") == tuple(found[name] for name in names)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_name_and_password(mechanism: str) -> None:
    """Under the names that all three share."""
    found = options(**LOGIN, kafka_sasl_mechanism=mechanism)
    assert (mechanism, "key", "hunter2") == tuple(found[f"sasl.{it}"] for it in ("mechanism", "username", "password"))


def test_oidc_is_librdkafkas_own(tmp_path: Path) -> None:
    """No callback; a private authority is trusted beside the system's, which librdkafka's wheel would not find."""
    authority = tmp_path / "ca.pem"
    authority.write_text("-----PRIVATE AUTHORITY-----")
    found = options(
        **OAUTH, kafka_oauth_scope="read", kafka_oauth_extensions="logicalCluster=lkc-1", kafka_ssl_ca_file=authority
    )
    assert {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example.com/token",
        "sasl.oauthbearer.client.id": "id",
        "sasl.oauthbearer.client.secret": "hunter2",
        "sasl.oauthbearer.scope": "read",
        "sasl.oauthbearer.extensions": "logicalCluster=lkc-1",
    } == {name: value for name, value in found.items() if name.startswith("sasl.")}
    assert system_authorities() + "\n-----PRIVATE AUTHORITY-----" == found["https.ca.pem"]


def test_system_authorities_are_certificates() -> None:
    """What the machine trusts, as PEM."""
    assert ssl.create_default_context(cadata=system_authorities()).get_ca_certs()


def test_token_endpoint_without_tls_needs_no_authority() -> None:
    """A hundred certificates are not read for nothing."""
    assert "https.ca.pem" not in options(**OAUTH | {"kafka_oauth_token_url": "http://localhost/token"})


def test_file_wins_over_our_choices_and_settings_over_the_file(tmp_path: Path) -> None:
    """Tuning is the user's; what is a setting is said by the setting."""
    file = tmp_path / "client.properties"
    file.write_text("socket.timeout.ms=20000\nssl.ca.pem=own\nhttps.ca.location=/a/ca.pem\nssl.crl.location=/a/crl\n")
    found = options(**OAUTH, kafka_client_properties=file)
    assert ("20000", "own", "/a/crl") == tuple(
        found[name] for name in ("socket.timeout.ms", "ssl.ca.pem", "ssl.crl.location")
    )
    assert "/a/ca.pem" == found["https.ca.location"]
    assert "https.ca.pem" not in found


@pytest.mark.parametrize("kind", [Consumer, Producer, AdminClient])
def test_every_client_takes_them(kind: Any) -> None:
    """librdkafka knows each name, and refuses none for one kind of client."""
    group = {"group.id": "group"} if kind is Consumer else {}
    for login in (
        {**LOGIN, "kafka_sasl_mechanism": "SCRAM-SHA-512"},
        OAUTH | {"kafka_oauth_token_url": "http://[::1]:1/"},
    ):
        found = options(**login, kafka_bootstrap_servers="127.0.0.1:1")
        client = kind({**found, **group, "log_level": 0})
        if kind is Consumer:
            client.close()


# -- AWS ---------------------------------------------------------------------------------------------------------------


def test_msk_logs_in_with_signed_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bearer tokens, from AWS's signer, for the cluster's region; its milliseconds become librdkafka's seconds."""
    asked: list[str] = []

    def sign(region: str) -> tuple[str, int]:
        asked.append(region)
        return "signed", 1_700_000_900_000

    monkeypatch.setattr(MSKAuthTokenProvider, "generate_auth_token", sign)
    found = options(**MSK)
    assert "OAUTHBEARER" == found["sasl.mechanism"]
    assert not found.keys() & {"sasl.username", "sasl.password", "sasl.oauthbearer.method"}
    assert ("signed", 1_700_000_900.0) == found["oauth_cb"]("")
    assert ["eu-west-1"] == asked


def test_real_signer_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With credentials of the environment; nothing is asked over the network."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    token, ends_at = signed_token("eu-west-1")
    assert len(token) > 300
    assert ends_at > 1_700_000_000


async def test_process_without_an_aws_identity_is_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a client waits ten seconds for a token; who has no password is told to check none."""

    def sign(_region: str) -> tuple[str, int]:
        return None.access_key  # type: ignore[attr-defined, no-any-return]  # what the signer does without credentials

    monkeypatch.setattr(MSKAuthTokenProvider, "generate_auth_token", sign)
    problem = await connection_problem(Settings(**REQUIRED | MSK))
    assert problem is not None
    assert "no AWS credentials were found" in problem.finding
    assert "aws sts get-caller-identity" in problem.remedy
    with pytest.raises(AwsTokenError):
        options(**MSK)["oauth_cb"]("")
    assert "cannot log in to Kafka: no AWS credentials" in caplog.text


@pytest.mark.parametrize("fields", [{"kafka_ssl_ca_file": __file__}, {"kafka_ssl_cert_file": __file__}])
async def test_file_that_is_no_pem_names_its_setting(fields: dict[str, str]) -> None:
    """librdkafka finds it when a client is made."""
    settings = Settings(**REQUIRED | {"kafka_security_protocol": "SSL"} | fields)
    with pytest.raises(KafkaException):
        AdminClient(client_options(settings))
    problem = await connection_problem(settings)
    assert problem is not None
    assert f"STREAMS_{next(iter(fields)).upper()}: {__file__}" in problem.finding
