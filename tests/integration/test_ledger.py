"""The ledger in the bucket and in the commits tells the truth about every committed offset, whatever happens.

`ledger` reads both with clients that are not the worker's own; what it must say comes from the producer.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import TopicPartition as AIOKafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import Consumer, TopicPartition

from streams.kafka.identity import without_topic_id
from streams.ledger import Segment, decode_commit_metadata, decode_segment, gaps_of
from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import RunCommand, StartWorker
from tests.services.archive import Archive
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer, Expected, TransactionalProducer
from tests.services.s3 import S3Server
from tests.services.s3_faults import ACCESS_DENIED, Delay, always, matching
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until

SMALL = "tests.integration.apps.small_segments"
IMPATIENT = "tests.integration.apps.impatient_ledger"
EVENTS = {"STREAMS_S3_PREFIX": "events/"}
EVENT, ABSENT, LOST = "event", "absent", "lost"


@dataclass
class Ledger:
    """What the ledger of partition 0 of a topic says."""

    broker: KafkaBroker
    s3_server: S3Server
    bucket: str
    group: str

    def commit(self, topic: str) -> tuple[int, str]:
        """The committed offset and the ledger's part of its metadata; 0 before the first commit."""
        committed, metadata = self.whole_commit(topic)
        return committed, without_topic_id(metadata)[1]

    def whole_commit(self, topic: str) -> tuple[int, str]:
        """The committed offset and all of its metadata."""

        async def ask() -> tuple[int, str]:  # confluent_kafka gives metadata back from memory that was freed
            admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
            await admin.start()
            try:
                found = await admin.list_consumer_group_offsets(self.group)
            finally:
                await admin.close()
            commit = found.get(AIOKafkaTopicPartition(topic, 0))
            return (0, "") if commit is None else (commit.offset, commit.metadata.removesuffix("\0"))  # C's end

        return asyncio.run(ask())

    def objects(self, topic: str) -> list[Segment]:
        """The segments in the bucket, in the order of their names."""
        keys = self.s3_server.keys(self.bucket, f"ledger/{topic}/0/")
        found = [decode_segment(self.s3_server.read(self.bucket, key).body) for key in keys]
        names = [f"ledger/{topic}/0/{segment.start:020d}-{segment.stop:020d}-" for segment in found]
        assert names == [key.rpartition("-")[0] + "-" for key in keys]
        return found

    def told(self, topic: str) -> dict[int, str]:
        """What is said of each offset up to the committed one; no offset is told two things."""
        committed, metadata = self.commit(topic)
        carried = decode_commit_metadata(topic, 0, committed, metadata)
        said: dict[int, str] = {}
        for segment in [*self.objects(topic), *([carried] if carried else [])]:
            kinds = dict.fromkeys(range(segment.start, segment.stop), EVENT)
            for gap in gaps_of(segment):
                kinds |= dict.fromkeys(range(gap.start, gap.stop), LOST if gap.lost else ABSENT)
            for offset, kind in kinds.items():
                assert kind == said.setdefault(offset, kind), offset
        return said

    def wait_committed(self, topic: str, offset: int) -> None:
        wait_until(lambda: self.commit(topic)[0] == offset, 30, lambda: f"{self.commit(topic)}, expected {offset}")


@pytest.fixture
def ledger(broker: KafkaBroker, s3_server: S3Server, bucket: str, group: str) -> Ledger:
    """The ledger of the test's group in the test's bucket."""
    return Ledger(broker, s3_server, bucket, group)


@pytest.fixture
def events(s3_server: S3Server, bucket: str) -> Archive:
    """The events in the test's bucket, which are under a prefix here."""
    return Archive(s3_server, bucket, "events/")


def end_offset(broker: KafkaBroker, topic: str) -> int:
    """The offset behind everything in partition 0, control records among it."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "watermarks", "log_level": 0})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1])
    finally:
        consumer.close()


def all_of(expected: Expected, end: int) -> dict[int, str]:
    """What must be said of a topic in which only these events were ever readable."""
    return dict.fromkeys(range(end), ABSENT) | {offset: EVENT for _, _, offset in expected}


def delete_before(broker: KafkaBroker, topic: str, offset: int) -> None:
    """What retention does, at once."""
    for deleted in broker.admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(30)


def test_dense_topic_costs_one_object_per_ten_thousand_events(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    ledger: Ledger,
    s3_proxy: S3FaultProxy,
    events: Archive,
) -> None:
    """25,000 events are 25,000 PUTs, two more and the topic's identity; the commit carries the rest in few letters."""
    topic = make_topic()
    expected = produce(topic, [b"%d" % number for number in range(25_000)], partition=0)
    worker = start_worker(topic, {**EVENTS, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    wait_until(lambda: worker.stats()["ledger"]["segments_written"] == 2, 60, lambda: f"{worker.stats()}")
    ledger.wait_committed(topic, 25_000)
    assert 25_003 == s3_proxy.requests["PUT"]
    segments = ledger.objects(topic)
    assert [(0, 10_000, (), ()), (10_000, 20_000, (), ())] == [(s.start, s.stop, s.absent, s.lost) for s in segments]
    assert {without_topic_id(ledger.whole_commit(topic)[1])[0]} == {segment.topic_id for segment in segments}
    assert all_of(expected, 25_000) == ledger.told(topic)
    (partition,) = worker.stats()["partitions"]
    assert 20_000 == partition["ledger_start"]
    assert "streams_ledger_segments_total 2.0" in worker.get("/metrics")[1]
    produce(topic, [b"one more"], partition=0)
    ledger.wait_committed(topic, 25_001)
    assert "v1 ffk" == ledger.commit(topic)[1]
    assert 25_001 == len(events.keys())


def test_markers_and_aborted_transactions_are_absent(
    make_topic: MakeTopic, broker: KafkaBroker, start_worker: StartWorker, ledger: Ledger
) -> None:
    """Offsets that hold no readable event are told from those that do, across many segments."""
    topic, expected = make_topic(), Expected()
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for number in range(30):
            expected |= producer.commit(topic, [b"%d" % number] * (number % 5 + 1), partition=0)
            producer.abort(topic, [b"never"] * (number % 3 + 1), partition=0)
    start_worker(topic, app=SMALL)
    end = end_offset(broker, topic)
    ledger.wait_committed(topic, end)
    wait_until(lambda: len(ledger.objects(topic)) >= 4, 20, lambda: f"{ledger.objects(topic)}")
    assert all_of(expected, end) == ledger.told(topic)


def test_compacted_topic(make_topic: MakeTopic, broker: KafkaBroker, start_worker: StartWorker, ledger: Ledger) -> None:
    """What compaction took away before the worker came is absent, from the very first offset on."""
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "50",
        "min.cleanable.dirty.ratio": "0.001",
        "delete.retention.ms": "0",
    }
    topic = make_topic(config=config)
    producer = EventProducer(broker.bootstrap_servers)
    for number in range(200):
        producer.produce(topic, [(b"key-%d" % (number % 7), b"%d" % number, ())], partition=0)

    def left() -> list[int]:
        settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": f"read-{topic}", "log_level": 0}
        consumer = Consumer({**settings, "enable.auto.commit": False, "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[int] = []
        try:
            while (message := consumer.poll(5)) is not None and message.error() is None:
                found.append(message.offset() or 0)
        finally:
            consumer.close()
        return found

    def compacted() -> bool:
        producer.produce(topic, [(b"filler", b"", ())], partition=0)
        return len(left()) < 50

    wait_until(compacted, 60, "nothing was compacted", 0.5)
    time.sleep(2)  # a cleaner's pass that is under way
    kept, end = left(), end_offset(broker, topic)
    start_worker(topic, app=SMALL)
    ledger.wait_committed(topic, end)
    told = ledger.told(topic)
    assert set(range(end)) == told.keys()
    assert set(kept) >= {offset for offset, kind in told.items() if kind == EVENT}
    assert LOST not in told.values()
    assert ABSENT in told.values()


@pytest.mark.fault
@pytest.mark.timeout(180)
def test_killed_workers_leave_no_hole(
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    ledger: Ledger,
    s3_proxy: S3FaultProxy,
    events: Archive,
) -> None:
    """Killed again and again between commits, with slow writes: the ledger is complete and nothing is in it twice."""
    topic, expected = make_topic(), Expected()
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for number in range(60):
            expected |= producer.commit(topic, [b"%d" % number] * random.randint(1, 20), partition=0)
            producer.abort(topic, [b"never"] * random.randint(1, 3), partition=0)
    s3_proxy.rule = always(Delay(0.1))
    settings = {
        **EVENTS,
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_MAX_IN_FLIGHT": "5",
        "STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
        "STREAMS_COMMIT_INTERVAL_SECONDS": "0.2",
        "STREAMS_KAFKA_GROUP_INSTANCE_ID": "the-same",
    }
    worker = start_worker(topic, settings, app=SMALL)
    for _ in range(4):
        before = ledger.commit(topic)[0]
        wait_until(lambda before=before: ledger.commit(topic)[0] > before, 30, worker.log_tail)  # type: ignore[misc] # bound
        time.sleep(random.uniform(0, 0.5))
        worker.kill()
        worker.start()
        worker.wait_ready()
    s3_proxy.rule = None
    end = end_offset(broker, topic)
    ledger.wait_committed(topic, end)
    assert all_of(expected, end) == ledger.told(topic)
    segments = ledger.objects(topic)
    assert [segment.start for segment in segments[1:]] == [segment.stop for segment in segments[:-1]]
    events.assert_complete(expected)


@pytest.mark.timeout(180)
def test_workers_that_come_and_go_keep_one_ledger(
    make_topic: MakeTopic, broker: KafkaBroker, start_worker: StartWorker, ledger: Ledger, s3_proxy: S3FaultProxy
) -> None:
    """Partitions move while segments are being written, and each next owner goes on where the last commit was."""
    topic, expected = make_topic(), Expected()
    s3_proxy.rule = matching("^ledger/", Delay(1))
    settings = {**EVENTS, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}
    workers = [start_worker(topic, settings, app=SMALL)]
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for number in range(4):
            for _ in range(15):
                expected |= producer.commit(topic, [b"%d" % number] * random.randint(1, 9), partition=0)
            workers.append(start_worker(topic, settings, app=SMALL))
            workers[0].terminate()
            for _ in range(15):
                expected |= producer.commit(topic, [b"%d" % number] * random.randint(1, 9), partition=0)
            assert 0 == workers.pop(0).wait(30)
    s3_proxy.rule = None
    end = end_offset(broker, topic)
    ledger.wait_committed(topic, end)
    assert all_of(expected, end) == ledger.told(topic)
    segments = ledger.objects(topic)
    assert len(segments) > 5
    assert [segment.start for segment in segments[1:]] == [segment.stop for segment in segments[:-1]]


@pytest.mark.fault
def test_failing_ledger_delays_no_event_and_loses_no_proof(
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    ledger: Ledger,
    s3_proxy: S3FaultProxy,
    events: Archive,
) -> None:
    """While only the ledger is refused all events become durable, a commit never says more than its metadata can hold,
    and once the ledger is let through everything is told."""
    topic, expected = make_topic(), Expected()
    s3_proxy.rule = matching("^ledger/", ACCESS_DENIED)
    settings = {**EVENTS, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_RETRY_MAX_SECONDS": "0.5"}
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for number in range(150):
            expected |= producer.commit(topic, [b"%d" % number], partition=0)
    worker = start_worker(topic, settings, app=SMALL)
    wait_until(lambda: worker.stats()["totals"]["events"] == len(expected), 30, worker.log_tail)
    wait_until(lambda: worker.stats()["ledger"]["write_errors"] >= 3, 30, worker.log_tail)
    events.assert_complete(expected)
    end = end_offset(broker, topic)
    committed, metadata = ledger.commit(topic)
    assert 60 < committed < end
    assert 100 < len(metadata) <= 120
    assert dict(list(all_of(expected, end).items())[:committed]) == ledger.told(topic)
    wait_until(lambda: worker.stats()["ledger"]["commits_held_seconds"] > 0, 20, worker.log_tail)
    wait_until(lambda: "ledger_not_written: The ledger cannot be written." in worker.log(), 20, worker.log_tail)
    s3_proxy.rule = None
    ledger.wait_committed(topic, end)
    assert all_of(expected, end) == ledger.told(topic)


@pytest.mark.fault
def test_commits_go_on_without_a_ledger_that_cannot_be_written(
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    run_command: RunCommand,
    ledger: Ledger,
    s3_proxy: S3FaultProxy,
    events: Archive,
) -> None:
    """After a minute (2 s here) the hole is named, counted and shown, everything is committed, and `verify` says that
    the ledger knows nothing of it. What comes behind is recorded as soon as the ledger can be written."""
    topic, expected = make_topic(), Expected()
    s3_proxy.rule = matching("^ledger/", ACCESS_DENIED)
    settings = {**EVENTS, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_RETRY_MAX_SECONDS": "0.5"}
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for number in range(150):
            expected |= producer.commit(topic, [b"%d" % number], partition=0)
        end = end_offset(broker, topic)
        worker = start_worker(topic, settings, app=IMPATIENT)
        ledger.wait_committed(topic, end)
        wait_until(lambda: worker.stats()["ledger"]["holes"] >= 1, 20, worker.log_tail)
        assert f"{topic}/0: the ledger could not be written for too long, so it holds nothing of the offsets 0 to" in (
            worker.log()
        )
        assert "ledger hole" in [error["kind"] for error in worker.stats()["errors"]]
        assert "streams_ledger_holes_total" in worker.get("/metrics")[1]
        hole = set(range(end)) - ledger.told(topic).keys()
        assert 0 in hole
        s3_proxy.rule = None
        for number in range(60):
            expected |= producer.commit(topic, [b"%d" % number], partition=0)
    end = end_offset(broker, topic)
    ledger.wait_committed(topic, end)
    told = ledger.told(topic)
    assert {offset: kind for offset, kind in all_of(expected, end).items() if offset not in hole} == told
    events.assert_complete(expected)
    delete_before(broker, topic, end)
    (part,) = run_command("verify", "--json", topics=topic, settings=EVENTS, check=2).json()["partitions"]
    without_object = [offset for offset in hole if all_of(expected, end)[offset] == ABSENT]
    assert len(without_object) == part["unverifiable"]["count"] > 0


def test_retention_that_overtook_a_stopped_worker(
    make_topic: MakeTopic, produce: Produce, broker: KafkaBroker, start_worker: StartWorker, ledger: Ledger
) -> None:
    """What was there and left Kafka before it was written is lost, not absent."""
    topic = make_topic()
    produce(topic, [b"x"] * 50, partition=0)
    worker = start_worker(topic, app=SMALL)
    ledger.wait_committed(topic, 50)
    worker.terminate()
    assert 0 == worker.wait(30)
    produce(topic, [b"x"] * 50, partition=0)
    delete_before(broker, topic, 80)
    start_worker(topic, app=SMALL)
    ledger.wait_committed(topic, 100)
    lost = dict.fromkeys(range(50, 80), LOST)
    assert dict.fromkeys(range(100), EVENT) | lost == ledger.told(topic)


def test_retention_that_overtakes_a_slow_worker(
    make_topic: MakeTopic,
    produce: Produce,
    broker: KafkaBroker,
    start_worker: StartWorker,
    ledger: Ledger,
    s3_proxy: S3FaultProxy,
    events: Archive,
) -> None:
    """The same while it runs: what it had fetched is written, what it had not is lost, the rest is written."""
    topic = make_topic()
    produce(topic, [b"x" * 2_000] * 5_000, partition=0)
    s3_proxy.rule = matching("^events/", Delay(5))
    settings = {
        **EVENTS,
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_MAX_IN_FLIGHT": "1",
        "STREAMS_KAFKA_FETCH_MAX_BYTES": "64KiB",
    }
    worker = start_worker(topic, settings)
    wait_until(lambda: s3_proxy.requests["PUT"] == 2, 20, worker.log_tail)  # the topic's identity, and an event
    delete_before(broker, topic, 4_000)
    s3_proxy.rule = None
    ledger.wait_committed(topic, 5_000)
    keys = events.keys()
    written = {int(key.rsplit("/", 1)[1].removesuffix(".json")) for key in keys}
    assert {0, 4_000, 4_999} <= written
    assert len(written) < 4_000
    told = ledger.told(topic)
    assert {offset: EVENT if offset in written else LOST for offset in range(5_000)} == told


class StingyBroker(KafkaBroker):
    """Takes hardly any metadata with a commit."""

    def _properties(self) -> dict[str, str]:
        return {**super()._properties(), "offset.metadata.max.bytes": "8"}


def test_broker_that_refuses_metadata(
    tmp_path: Path, group: str, s3_server: S3Server, bucket: str, start_worker: StartWorker
) -> None:
    """Offsets are committed all the same, the segments are written, and the log says once what is missing."""
    topic, expected = "events", Expected()
    with StingyBroker(tmp_path / "stingy") as stingy:
        stingy.create_topic(topic, 1, None)
        with TransactionalProducer(stingy.bootstrap_servers) as producer:
            for number in range(150):
                expected |= producer.commit(topic, [b"%d" % number], partition=0)
        worker = start_worker(topic, {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": stingy.bootstrap_servers}, app=SMALL)
        ledger = Ledger(stingy, s3_server, bucket, group)
        ledger.wait_committed(topic, 300)
        wait_until(lambda: len(ledger.objects(topic)) > 5, 20, worker.log_tail)
        assert "" == ledger.whole_commit(topic)[1]
        told = ledger.told(topic)
        assert dict(list(all_of(expected, 300).items())[: len(told)]) == told
        assert 1 == worker.log().count("refuses the ledger's notes")
        worker.kill()


def test_no_ledger_where_it_is_switched_off(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, ledger: Ledger
) -> None:
    """Then commits carry nothing of it; switched on later, it begins where the worker stands, and never before."""
    topic = make_topic()
    produce(topic, [b"x"] * 50, partition=0)
    worker = start_worker(topic, {"STREAMS_LEDGER_ENABLED": "false"}, app=SMALL)
    ledger.wait_committed(topic, 50)
    assert ((50, ""), []) == (ledger.commit(topic), ledger.objects(topic))
    assert [None] == [entry["ledger_start"] for entry in worker.stats()["partitions"]]
    worker.terminate()
    assert 0 == worker.wait(30)
    start_worker(topic, app=SMALL)
    produce(topic, [b"x"] * 45, partition=0)
    ledger.wait_committed(topic, 95)
    assert dict.fromkeys(range(50, 95), EVENT) == ledger.told(topic)
