"""What brokers say of a topic's retention, and what happens where they do not say it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from streams.kafka.admin import KafkaAdmin
from streams.kafka.retention import Retention, topic_retentions
from streams.settings import Settings
from tests.conftest import MakeTopic
from tests.services.kafka import PASSWORD, STRANGER, KafkaBroker


def _admin(servers: str, **security: Any) -> KafkaAdmin:
    settings = Settings(
        kafka_bootstrap_servers=servers, topics="orders", consumer_group="g", s3_bucket="unused", **security
    )
    return KafkaAdmin(settings)


async def test_retention_of_topics(make_topic: MakeTopic, broker: KafkaBroker) -> None:
    """Several topics in one question, each with its own limits or the broker's default of a week."""
    plain = make_topic()
    limited = make_topic(config={"retention.ms": "60000", "retention.bytes": "1000000"})
    kept = make_topic(config={"cleanup.policy": "compact"})
    found = await topic_retentions(_admin(broker.bootstrap_servers), [plain, limited, kept, "missing"])
    expected = {plain: Retention(604_800), limited: Retention(60, 1_000_000), kept: Retention(), "missing": None}
    assert expected == found


async def test_retention_that_may_not_be_asked_for(secure_broker: KafkaBroker) -> None:
    """Without DESCRIBE_CONFIGS on the topic its retention is unknown, which is no failure."""
    topic = f"secured-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(topic)
    secure_broker.grant(STRANGER, topic=topic)
    admin = _admin(
        secure_broker.address("SASL_PLAINTEXT"),
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username=STRANGER,
        kafka_sasl_password=PASSWORD,
    )
    assert {topic: None} == await topic_retentions(admin, [topic])


@pytest.fixture
def simple_broker() -> Iterator[str]:
    """The demo's broker, which cannot describe a configuration."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    yield f"{broker.host}:{broker.port}"
    producer.flush(1)


async def test_broker_that_cannot_describe_a_configuration(simple_broker: str) -> None:
    """It is told apart from one that refuses, and nothing is left waiting."""
    with pytest.raises(KafkaException):
        await topic_retentions(_admin(simple_broker), ["orders"])


async def test_broker_that_is_away() -> None:
    """No broker, no answer: an error that the caller can name."""
    with pytest.raises(KafkaException):
        await topic_retentions(_admin("127.0.0.1:1"), ["orders"])
