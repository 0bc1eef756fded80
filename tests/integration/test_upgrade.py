"""From the releases on aiokafka (eager, `roundrobin`) to those on librdkafka, in one group and on a real broker."""

from __future__ import annotations

import re

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions as GroupOffsets

from tests.conftest import MakeTopic
from tests.integration.conftest import StartWorker
from tests.integration.test_faults import spread
from tests.integration.test_kafka_life import _answers as answers
from tests.integration.test_kafka_life import conditions, wait_committed, wait_condition
from tests.services.archive import Archive, next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.old_release import OldMember
from tests.services.producer import EventProducer, Expected
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.s3, pytest.mark.timeout(180)]

SESSION = {"STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "6"}
PARTITIONS = 4


def fill(broker: KafkaBroker, topic: str, count: int, start: int = 0) -> Expected:
    return spread(EventProducer(broker.bootstrap_servers).produce, topic, PARTITIONS, count, start)


def commits(broker: KafkaBroker, group: str) -> dict[int, tuple[int, str]]:
    """Offset and metadata by partition."""
    found = broker.admin.list_consumer_group_offsets([GroupOffsets(group)])[group].result(30).topic_partitions or ()
    return {part.partition: (part.offset, part.metadata or "") for part in found}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_new_release_goes_on_exactly_where_the_old_one_stopped(
    protocol: str, broker: KafkaBroker, make_topic: MakeTopic, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """Stop all, start the new: not one event is written that was committed, and the ledger's notes are taken over."""
    topic = make_topic(PARTITIONS)
    expected = fill(broker, topic, 1_200)
    with OldMember(broker.bootstrap_servers, group, topic) as old:
        old.wait_assigned(PARTITIONS)
        # The ledger of each partition began somewhere else: `v1` and its first offset in base 36.
        old.commit({partition: (100 + partition, f"v1 {partition + 1:x}") for partition in range(PARTITIONS)})
    worker = start_worker(topic, {"STREAMS_KAFKA_GROUP_PROTOCOL": protocol})
    wait_committed(broker, group, next_offsets(expected))
    archive.assert_complete({place: content for place, content in expected.items() if place[2] >= 100 + place[1]})
    found = commits(broker, group)
    for partition in range(PARTITIONS):
        assert re.fullmatch(rf"t:\S{{22}} v1 {partition + 1:x}\0?", found[partition][1]), found[partition]
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()


def test_new_release_waits_and_says_so_while_old_members_are_in_the_group(
    broker: KafkaBroker, make_topic: MakeTopic, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """It cannot join an eager group: not ready, with what to do; once the old one is gone it joins by itself."""
    topic = make_topic(PARTITIONS)
    expected = fill(broker, topic, 400)
    with OldMember(broker.bootstrap_servers, group, topic) as old:
        old.wait_assigned(PARTITIONS)
        old.commit(dict.fromkeys(range(PARTITIONS), (40, "v1 0")))
        worker = start_worker(topic, SESSION, wait=False)
        wait_until(lambda: answers(worker), 30, worker.log_tail)
        wait_condition(worker, "group_not_joined")
        said = conditions(worker)["group_not_joined"]
        assert "INCONSISTENT_GROUP_PROTOCOL" in said["detail"], said
        assert "must be stopped first" in said["remedy"], said
        code, body = worker.get("/health/ready")
        assert (503, True) == (code, "group_not_joined" in body), body
        assert 200 == worker.get("/health/live")[0]
        old.wait_assigned(PARTITIONS)
        assert [] == archive.events()
    worker.wait_ready(30)
    wait_condition(worker, "group_not_joined", active=False)
    wait_committed(broker, group, next_offsets(expected))
    archive.assert_complete({place: content for place, content in expected.items() if place[2] >= 40})


def test_new_release_joins_an_old_group_online_with_the_consumer_protocol(
    broker: KafkaBroker, make_topic: MakeTopic, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """KIP-848: the broker converts the group and serves old and new members together; each has its share."""
    topic = make_topic(PARTITIONS)
    expected = fill(broker, topic, 400)
    with OldMember(broker.bootstrap_servers, group, topic) as old:
        old.wait_assigned(PARTITIONS)
        old.commit(dict.fromkeys(range(PARTITIONS), (40, "v1 0")))
        worker = start_worker(topic, {"STREAMS_KAFKA_GROUP_PROTOCOL": "consumer"}, wait=False)
        wait_until(lambda: answers(worker), 30, worker.log_tail)
        old.wait_assigned(PARTITIONS // 2)
        worker.wait_ready(30)
        theirs = old.partitions()
        wait_until(
            lambda: (
                {place for place, (offset, _) in commits(broker, group).items() if offset == 100}
                == set(range(PARTITIONS)) - theirs
            ),
            30,
            lambda: f"{commits(broker, group)}, the old member has {theirs}",
        )
    wait_committed(broker, group, next_offsets(expected))
    archive.assert_complete({place: content for place, content in expected.items() if place[2] >= 40})
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()
