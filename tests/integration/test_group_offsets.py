"""What a group has committed is known, or an error: from the first moment of a broker's life on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as _TopicPartition

from streams.kafka.admin import Committed
from streams.kafka.group_offsets import committed_offsets
from streams.record import TopicPartition
from tests.conftest import MakeTopic, require
from tests.services.install import KAFKA
from tests.services.kafka import KafkaBroker


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """One whose `__consumer_offsets` does not exist yet: the first to ask meets coordinators that are not ready."""
    require(KAFKA)
    with KafkaBroker(tmp_path / "kafka") as broker:
        yield broker


async def test_first_question_to_a_new_cluster_is_answered(new_broker: KafkaBroker) -> None:
    """Nobody is the group's coordinator at first (the admin client's request ends the process then)."""
    new_broker.create_topic("orders", 1, {})
    where = TopicPartition("orders", 0)
    options = {"bootstrap.servers": new_broker.bootstrap_servers}
    for group in ("first", "second", "third"):
        assert {where: None} == await committed_offsets(options, group, [where])


async def test_offsets_come_with_their_text(broker: KafkaBroker, make_topic: MakeTopic, group: str) -> None:
    """Each partition by itself; what was never committed is `None`."""
    topic = make_topic(2)
    options = {"bootstrap.servers": broker.bootstrap_servers}
    consumer = Consumer({**options, "group.id": group, "enable.auto.commit": False, "log_level": 0})
    consumer.commit(offsets=[_TopicPartition(topic, 1, 42, "a text")], asynchronous=False)
    consumer.close()
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    found = await committed_offsets(options, group, [first, second])
    assert {first: None, second: Committed(42, "a text")} == found


async def test_silence_is_an_error() -> None:
    """Not "nothing committed"."""
    with pytest.raises(KafkaException) as raised:
        await committed_offsets({"bootstrap.servers": "127.0.0.1:1"}, "nobody", [TopicPartition("orders", 0)], 0.5)
    assert raised.value.args[0].code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)
