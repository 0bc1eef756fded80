"""Remedies are ready to paste: Kafka ACLs for this principal, IAM policies for this bucket and no more than needed."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from streams.doctor.remedies import IamStatements, KafkaAcls, Prefixes
from streams.settings import Settings

SCRAM: dict[str, Any] = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "worker",
    "kafka_sasl_password": "canary-password",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("STREAMS_"):
            monkeypatch.delenv(name)


def make_settings(**fields: Any) -> Settings:
    """Valid settings; what a test does not say has its default."""
    required = {
        "kafka_bootstrap_servers": "broker:9092",
        "topics": "orders",
        "consumer_group": "orders-to-s3",
        "s3_bucket": "my-events",
    }
    return Settings(**{**required, **fields})


# -- Kafka -------------------------------------------------------------------------------------------------------------


def test_topic_acl_for_both_command_lines() -> None:
    """Principal, topic and operations stand in both."""
    kafka, confluent = KafkaAcls(make_settings(**SCRAM)).topic("orders", "Read", "Describe").splitlines()
    assert (
        "kafka-acls --bootstrap-server broker:9092 --command-config admin.properties --add "
        "--allow-principal User:worker --operation Read --operation Describe --topic orders"
    ) == kafka
    assert (
        "or: confluent kafka acl create --allow --principal User:worker --operations read,describe --topic orders"
    ) == confluent


def test_group_acl_for_both_command_lines() -> None:
    """Confluent's option has another name."""
    kafka, confluent = KafkaAcls(make_settings(**SCRAM)).group("orders-to-s3", "Read").splitlines()
    assert kafka.endswith("--allow-principal User:worker --operation Read --group orders-to-s3")
    assert confluent.endswith("--principal User:worker --operations read --consumer-group orders-to-s3")


def test_names_are_quoted_for_the_shell() -> None:
    """A user or a group may hold what the shell would take apart."""
    acls = KafkaAcls(make_settings(**{**SCRAM, "kafka_sasl_username": "the worker;rm"}))
    words = shlex.split(acls.group("a b", "Read").splitlines()[0])
    assert "User:the worker;rm" == words[words.index("--allow-principal") + 1]
    assert "a b" == words[-1]


def test_confluent_cloud_takes_the_service_account_of_the_key() -> None:
    """There the login is an API key, and ACLs are about its owner."""
    settings = make_settings(
        **{**SCRAM, "kafka_sasl_mechanism": "PLAIN", "kafka_bootstrap_servers": "pkc-1.eu.aws.confluent.cloud:9092"}
    )
    text = KafkaAcls(settings).topic("orders", "DescribeConfigs")
    assert text.startswith(
        "confluent kafka acl create --allow --service-account SERVICE_ACCOUNT --operations describe-configs --topic"
    )
    assert "confluent api-key describe worker" in text


@pytest.mark.parametrize(
    ("fields", "principal"),
    [
        ({}, "User:ANONYMOUS"),
        (SCRAM, "User:worker"),
        (
            {
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "OAUTHBEARER",
                "kafka_oauth_client_id": "client-1",
            },
            "User:client-1",
        ),
    ],
)
def test_principal_is_who_logs_in(fields: dict[str, Any], principal: str) -> None:
    """As brokers name it by default."""
    assert principal == KafkaAcls(make_settings(**fields)).principal


def test_principal_of_a_certificate_is_its_subject(tmp_path: Path) -> None:
    """The command that shows it comes along."""
    file = tmp_path / "client.pem"
    file.write_text("")
    settings = make_settings(kafka_security_protocol="SSL", kafka_ssl_cert_file=file)
    assert f"openssl x509 -noout -subject -nameopt RFC2253 -in {file}" in KafkaAcls(settings).topic("orders", "Read")


def test_no_remedy_holds_the_password() -> None:
    """A command line would end up in a shell's history."""
    acls = KafkaAcls(make_settings(**SCRAM))
    assert "canary-password" not in acls.topic("orders", "Read") + acls.group("g", "Read")


# -- S3 ----------------------------------------------------------------------------------------------------------------

ARN = "arn:aws:s3:::my-events"


def statements(policy: str) -> list[dict[str, Any]]:
    document = json.loads(policy)
    assert "2012-10-17" == document["Version"]
    found: list[dict[str, Any]] = document["Statement"]
    return found


def test_worker_is_allowed_put_and_nothing_else() -> None:
    """Under its prefixes only."""
    settings = make_settings(s3_prefix="events/")
    policy = IamStatements(settings, "eu-central-1").put(Prefixes(settings).all())
    assert [
        {
            "Sid": "StreamsWrite",
            "Effect": "Allow",
            "Action": ["s3:PutObject"],
            "Resource": [f"{ARN}/events/*", f"{ARN}/dead-letter/*", f"{ARN}/ledger/*"],
        }
    ] == statements(policy)


def test_worker_may_read_what_says_whose_events_there_are_and_no_event() -> None:
    """One name, under the ledger's prefix."""
    settings = make_settings()
    (statement,) = statements(IamStatements(settings, "eu-central-1").identity(Prefixes(settings).ledgers))
    assert (["s3:GetObject"], [f"{ARN}/ledger/*/topic.json"]) == (statement["Action"], statement["Resource"])


def test_tags_and_key_need_their_own_rights() -> None:
    """PutObjectTagging with tags, GenerateDataKey on the very key."""
    key = "arn:aws:kms:eu-central-1:111122223333:key/1234"
    settings = make_settings(s3_tags="team=data", s3_sse="aws:kms", s3_sse_kms_key_id=key)
    write, use_key = statements(IamStatements(settings, "eu-central-1").put(["events/"]))
    assert ["s3:PutObject", "s3:PutObjectTagging"] == write["Action"]
    assert (["kms:GenerateDataKey"], [key]) == (use_key["Action"], use_key["Resource"])


def test_reading_an_encrypted_object_needs_decrypt() -> None:
    """And not GenerateDataKey."""
    settings = make_settings(s3_sse="aws:kms", s3_sse_kms_key_id="1234")
    read, use_key = statements(IamStatements(settings, "eu-central-1", "111122223333").get(["events/"]))
    assert (["s3:GetObject"], [f"{ARN}/events/*"]) == (read["Action"], read["Resource"])
    assert ["kms:Decrypt"] == use_key["Action"]
    assert ["arn:aws:kms:eu-central-1:111122223333:key/1234"] == use_key["Resource"]


def test_key_alias_becomes_a_condition() -> None:
    """IAM takes no alias as a resource."""
    settings = make_settings(s3_sse="aws:kms", s3_sse_kms_key_id="alias/events")
    (use_key,) = statements(IamStatements(settings, "eu-central-1", "111122223333").kms())
    assert ["arn:aws:kms:eu-central-1:111122223333:key/*"] == use_key["Resource"]
    assert {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/events"}} == use_key["Condition"]


def test_listing_is_limited_to_our_prefixes() -> None:
    """On the bucket's own ARN, with a condition; without one where the events are the whole bucket."""
    settings = make_settings()
    iam = IamStatements(settings, "eu-central-1")
    (limited,) = statements(iam.list_objects(["events/", "ledger/"]))
    assert (["s3:ListBucket"], [ARN]) == (limited["Action"], limited["Resource"])
    assert {"StringLike": {"s3:prefix": ["events/*", "ledger/*"]}} == limited["Condition"]
    (whole,) = statements(iam.list_objects(Prefixes(settings).all()))
    assert "Condition" not in whole


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_arns_are_of_the_regions_partition(region: str, partition: str) -> None:
    """A policy of another partition is refused."""
    (statement,) = statements(IamStatements(make_settings(), region).put(["events/"]))
    assert [f"arn:{partition}:s3:::my-events/events/*"] == statement["Resource"]


@pytest.mark.parametrize(
    ("fields", "events", "everything"),
    [
        ({}, "", [""]),
        ({"s3_prefix": "events/"}, "events/", ["events/", "dead-letter/", "ledger/"]),
        (
            {"s3_prefix": "a/", "dead_letter_prefix": "a/dead/", "ledger_prefix": "a/proof/"},
            "a/",
            ["a/"],
        ),
        (
            {"s3_prefix": "e/", "object_key_template": "{prefix}{timestamp:%Y}/{topic}/{partition}/{offset}"},
            "e/",
            ["e/", "dead-letter/", "ledger/"],
        ),
        (
            {"object_key_template": "x/{topic}/{partition}/{offset}", "ledger_enabled": False},
            "x/",
            ["x/", "dead-letter/"],
        ),
    ],
)
def test_prefixes_are_those_of_the_template(fields: dict[str, Any], events: str, everything: list[str]) -> None:
    """As narrow as the keys allow, none twice, none inside another."""
    prefixes = Prefixes(make_settings(**fields))
    assert events == prefixes.events
    assert everything == prefixes.all()
