"""`faust -A streams verify` on the real broker and S3 server: it names exactly what is missing, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import RunCommand, StartCommand, StartWorker
from tests.integration.test_events import end_offset, read_topic
from tests.services.archive import next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer, Expected, TransactionalProducer
from tests.services.s3 import S3Server
from tests.services.s3_faults import ACCESS_DENIED, SLOW_DOWN, Hang, S3Request
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until

COMMIT_TIMEOUT_SECONDS = 30
COMPACT_SOON = {"min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000", "segment.ms": "1000"}
Archived = Callable[..., None]


@pytest.fixture
def archived(start_worker: StartWorker, broker: KafkaBroker, group: str) -> Archived:
    """Archives topics with a real worker until these offsets are committed, and stops it."""

    def archive(topics: str, offsets: Mapping[tuple[str, int], int], settings: Mapping[str, str] | None = None) -> None:
        worker = start_worker(topics, settings, wait=False)
        wait_until(
            lambda: offsets.items() <= committed_offsets(broker, group).items(),
            COMMIT_TIMEOUT_SECONDS,
            lambda: f"committed {committed_offsets(broker, group)}, expected {offsets}\n{worker.log_tail()}",
        )
        worker.terminate()
        assert 0 == worker.wait()

    return archive


def committed_offsets(broker: KafkaBroker, group: str) -> dict[tuple[str, int], int]:
    """What the group has committed; nothing while a broker that is new still loads its topic of offsets."""
    try:
        return broker.committed_offsets(group)
    except KafkaException:
        return {}


def object_key(topic: str, partition: int, offset: int) -> str:
    """The key that the default template gives."""
    return f"{topic}/{partition}/{offset:020d}.json"


def delete_objects(s3_server: S3Server, bucket: str, keys: Iterable[str]) -> None:
    """Take objects away, as somebody with the console would."""
    waiting = [{"Key": key} for key in keys]
    for first in range(0, len(waiting), 1000):
        answer = s3_server.client.delete_objects(Bucket=bucket, Delete={"Objects": waiting[first : first + 1000]})
        assert not answer.get("Errors")


def offsets_of(report: Mapping[str, Any], kind: str) -> set[tuple[str, int, int]]:
    """The events of a report that are missing, wrong, ...: topic, partition, offset."""
    return {
        (part["topic"], part["partition"], offset)
        for part in report["partitions"]
        for start, stop in part[kind]["ranges"]
        for offset in range(start, stop)
    }


def delete_records(broker: KafkaBroker, topic: str, before: int) -> None:
    """Let Kafka forget the events of partition 0 below an offset, as retention does."""
    part = TopicPartition(topic, 0, before)
    for deleted in broker.admin.delete_records([part]).values():
        deleted.result(30)


def commit_without_ledger(broker: KafkaBroker, group: str, topic: str, offset: int) -> None:
    """Commit as somebody else would: without the metadata that carries the open ledger."""
    commit = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])

    def committed() -> bool:
        try:
            broker.admin.alter_consumer_group_offsets([commit])[group].result(30)
        except KafkaException:  # the group still has its last member
            return False
        return True

    wait_until(committed, 30, "the group's offset cannot be set")


# -- what is there ----------------------------------------------------------------------------------------------------


def test_complete_archive_is_proved(
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
    tmp_path: Path,
) -> None:
    """Everything is there: exit code 0, one sentence, and a report that vouches for itself until it is changed."""
    topic = make_topic(3)
    expected = produce(topic, [(b"%d" % number, b"x", ()) for number in range(1200)])
    archived(topic, next_offsets(expected))
    done = run_command(
        "verify", "--content", "50", "--seed", "7", "--report", str(tmp_path / "kept"), "--signed-off-by", "ann",
        topics=topic, check=0,
    )  # fmt: skip
    assert "PROVED: all 1,200 events of 3 partitions up to the committed offsets are in the bucket." in done.stdout
    assert "50 compared with Kafka byte for byte." in done.stdout
    (file,) = (tmp_path / "kept").glob("verify-*.json")
    report = json.loads(file.read_bytes())
    assert ("proved", "ann", 1200, 50) == (
        report["verdict"], report["signed_off_by"], report["totals"]["objects"], report["totals"]["compared"]
    )  # fmt: skip
    page = file.with_suffix(".html").read_text()
    assert report["sha256"] in page
    assert "<script" not in page
    run_command("verify", "--check-report", str(file), topics=topic, check=0)
    file.write_text(file.read_text().replace('"objects": 1200', '"objects": 1201'))
    changed = run_command("verify", "--check-report", str(file), topics=topic, check=1)
    assert "CHANGED" in changed.stdout


def test_compacted_and_transactional_topics_give_no_false_alarm(
    broker: KafkaBroker,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """Markers, aborted events and what was compacted away are absent, by the ledger and by asking Kafka."""
    transactional = make_topic()
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for number in range(5):
            producer.commit(transactional, [b"%d" % number] * 3, partition=0)
            producer.abort(transactional, [b"never"] * 4, partition=0)
    compacted = make_topic(config={"cleanup.policy": "compact", "segment.bytes": "1048576"} | COMPACT_SOON)
    produce(compacted, [(b"same", b"x" * 20_000, ()) for _ in range(200)], partition=0)
    wait_until(lambda: read_count(broker, compacted) < 150, 60, "the topic is not compacted")
    end = end_offset(broker, compacted)
    archived(f"{transactional},{compacted}", {(transactional, 0): 45, (compacted, 0): end})
    for options in ((), ("--no-ledger",), ("--content", "all")):
        report = run_command("verify", "--json", *options, topics=f"{transactional},{compacted}", check=0).json()
        first = next(part for part in report["partitions"] if part["topic"] == transactional)
        assert (15, 30) == (first["events"], first["absent"]["count"])


def read_count(broker: KafkaBroker, topic: str) -> int:
    """How many events an independent consumer is given."""
    return len(read_topic(broker, topic))


def test_events_that_kafka_has_forgotten_are_proved_by_the_ledger(
    broker: KafkaBroker,
    s3_server: S3Server,
    bucket: str,
    group: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """With the ledger: proved, or missing by name; without it what has no object is not verifiable, never fine."""
    topic = make_topic()
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        producer.commit(topic, [b"%d" % number for number in range(100)], partition=0)
    wait_until(lambda: end_offset(broker, topic) == 101, 20, "the transaction's marker is not there")
    produce(topic, [b"last"], partition=0)
    archived(topic, {(topic, 0): 102})
    delete_records(broker, topic, 101)
    report = run_command("verify", "--json", topics=topic, check=0).json()
    part = report["partitions"][0]
    assert (0, 101, 1) == (part["from"], part["objects"], part["absent"]["count"])
    unknown = run_command("verify", "--no-ledger", "--json", topics=topic, check=2).json()
    assert ("not verifiable", {(topic, 0, 100)}) == (unknown["verdict"], offsets_of(unknown, "unverifiable"))
    delete_objects(s3_server, bucket, [object_key(topic, 0, 42)])
    named = run_command("verify", "--json", topics=topic, check=1).json()
    assert ({(topic, 0, 42)}, set()) == (offsets_of(named, "missing"), offsets_of(named, "repairable"))
    commit_without_ledger(broker, group, topic, 102)
    unknown = run_command("verify", "--json", topics=topic, check=2).json()
    assert {(topic, 0, 42), (topic, 0, 100)} == offsets_of(unknown, "unverifiable")


def test_missing_object_of_a_compacted_event_is_named(
    broker: KafkaBroker,
    s3_server: S3Server,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """The ledger remembers that the event was there; Kafka alone would let its loss pass as compaction."""
    topic = make_topic(config={"cleanup.policy": "compact"})
    expected = produce(topic, [(b"same", b"x" * 20_000, ()) for _ in range(200)], partition=0)
    archived(topic, next_offsets(expected))
    delete_objects(s3_server, bucket, [object_key(topic, 0, 5)])
    alter_topic(broker, topic, {**COMPACT_SOON, "segment.bytes": "1048576"})
    produce(topic, [(b"same", b"x" * 20_000, ()) for _ in range(100)], partition=0)

    def compacted() -> bool:
        produce(topic, [(b"same", b"x", ())], partition=0)
        return read_count(broker, topic) < 150

    wait_until(compacted, 60, "the topic is not compacted", 1)
    report = run_command("verify", "--json", topics=topic, check=1).json()
    assert {(topic, 0, 5)} == offsets_of(report, "missing")
    assert "cannot be repaired" in report["sentence"]
    run_command("repair", topics=topic, check=1)


def alter_topic(broker: KafkaBroker, topic: str, config: Mapping[str, str]) -> None:
    """Change a topic's configuration."""
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for altered in broker.admin.incremental_alter_configs([resource]).values():
        altered.result(30)


@pytest.mark.parametrize(
    "settings",
    [
        {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{timestamp:%Y/%m/%d/%H}/{topic}/{partition}/{offset}.json"},
        {
            "STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}all/{partition}-{offset}",
            "STREAMS_S3_PREFIX": "events/",
            "STREAMS_BODY": "envelope",
        },
    ],
    ids=["time-in-front", "no-topic-envelope"],
)
def test_other_templates(
    settings: dict[str, str],
    s3_server: S3Server,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """Whatever the keys look like: a missing event is named, strange objects are no events, repair writes it again."""
    topic = make_topic(2)
    expected = produce(topic, [(b"%d" % number, b'{"n": %d}' % number, (("h", b"v"),)) for number in range(60)])
    archived(topic, next_offsets(expected), settings)
    s3_server.client.put_object(Bucket=bucket, Key=f"{settings.get('STREAMS_S3_PREFIX', '')}README.txt", Body=b"mine")
    run_command("verify", "--content", "all", topics=topic, settings=settings, check=0)
    victim = next(iter(expected))
    before = s3_server.keys(bucket)
    places = (f"/{victim[1]}/{victim[2]:020d}.", f"/{victim[1]}-{victim[2]:020d}")
    delete_objects(s3_server, bucket, [key for key in before if any(place in key for place in places)])
    report = run_command("verify", "--json", topics=topic, settings=settings, check=1).json()
    assert {victim} == offsets_of(report, "missing")
    run_command("repair", topics=topic, settings=settings, check=0)
    assert before == s3_server.keys(bucket)


def test_dead_letters_count_as_there(
    s3_server: S3Server,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """A rejected event is kept as a dead letter, which is as good as its object; without it, it is missing."""
    settings = {"STREAMS_OBJECT_KEY_TEMPLATE": "{topic}/{partition}/{offset}/{value.id}.json"}
    topic = make_topic()
    produce(topic, [b'{"id": "a"}', b"no JSON", b'{"id": "b"}'], partition=0)
    archived(topic, {(topic, 0): 3}, settings)
    done = run_command("verify", "--content", "all", topics=topic, settings=settings, check=0)
    assert "PROVED: all 3 events of 1 partition up to the committed offsets are in the bucket (1 as dead" in done.stdout
    delete_objects(s3_server, bucket, [f"dead-letter/{topic}/0/{1:020d}.json"])
    report = run_command("verify", "--json", topics=topic, settings=settings, check=1).json()
    assert {(topic, 0, 1)} == offsets_of(report, "missing")
    run_command("repair", topics=topic, settings=settings, check=0)
    run_command("verify", "--content", "all", topics=topic, settings=settings, check=0)


# -- what cannot be checked -------------------------------------------------------------------------------------------


def test_what_cannot_be_checked_says_why(
    broker: KafkaBroker, group: str, make_topic: MakeTopic, produce: Produce, run_command: RunCommand
) -> None:
    """No commit, a commit behind the end, a template that tells nothing: exit code 2 and what to look at."""
    topic = make_topic()
    produce(topic, [b"1", b"2"], partition=0)
    nothing = run_command("verify", topics=topic, check=2)
    assert "Is STREAMS_CONSUMER_GROUP right" in nothing.stdout
    commit_without_ledger(broker, group, topic, 9)
    behind = run_command("verify", topics=topic, check=2)
    assert "deleted and made anew" in behind.stdout
    settings = {"STREAMS_OBJECT_KEY_TEMPLATE": "{key}", "STREAMS_ALLOW_OVERWRITE": "true"}
    refused = run_command("verify", topics=topic, settings=settings, check=2)
    assert "STREAMS_ALLOW_OVERWRITE" in refused.stderr
    assert "not one of the topics" in run_command("verify", "--topic", "other", topics=topic, check=2).stderr


def test_partition_without_commit_is_not_proved_by_the_others(
    broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, archived: Archived, run_command: RunCommand
) -> None:
    """An empty one has nothing to prove; one with events that nobody has read is named, with exit code 2.

    So is a topic that Kafka does not have, and the others are proved beside it.
    """
    topic = make_topic()
    produce(topic, [b"1", b"2"], partition=0)
    archived(topic, {(topic, 0): 2})
    broker.admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    wait_until(
        lambda: 2 == len(broker.admin.list_topics(topic, timeout=10).topics[topic].partitions), 30, "1 partition"
    )
    empty = run_command("verify", topics=topic, check=0)
    assert "nothing to check" in empty.stdout
    EventProducer(broker.bootstrap_servers).produce(topic, [b"3"], partition=1)
    unread = run_command("verify", topics=topic, check=2)
    assert f"NOT CHECKED: {topic}/1: the group" in unread.stdout
    assert "PROVED" not in unread.stdout
    assert "PROVED" in run_command("verify", "--partition", "0", topics=topic, check=0).stdout
    with_typo = f"{topic},gone-{topic}"
    beside = run_command("verify", "--partition", "0", topics=with_typo, check=2).stdout
    assert f"NOT CHECKED: gone-{topic}: the topic does not exist" in beside
    assert "The rest is proved: all 2 events of 1 partition" in beside
    assert "PROVED" in run_command("verify", "--topic", topic, "--partition", "0", topics=with_typo, check=0).stdout
    assert "gone" in run_command("repair", "--dry-run", "--partition", "0", topics=with_typo, check=2).stdout


@pytest.mark.fault
def test_denied_listing_is_no_verdict(
    s3_proxy: S3FaultProxy, make_topic: MakeTopic, produce: Produce, archived: Archived, run_command: RunCommand
) -> None:
    """An S3 that refuses ends with exit code 2 and the remedy; one that throttles now and then is waited for."""
    topic = make_topic()
    produce(topic, [b"1", b"2"], partition=0)
    archived(topic, {(topic, 0): 2})
    through_proxy = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_RETRY_BASE_SECONDS": "0.01"}
    s3_proxy.rule = lambda request: ACCESS_DENIED
    denied = run_command("verify", topics=topic, settings=through_proxy, check=2)
    assert "AccessDenied" in denied.stderr
    s3_proxy.rule = lambda request: SLOW_DOWN if request.number % 2 else None
    run_command("verify", "--content", "all", topics=topic, settings=through_proxy, check=0)


@pytest.mark.fault
def test_verify_that_was_stopped_or_killed_is_run_again(
    s3_proxy: S3FaultProxy,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    start_command: StartCommand,
    run_command: RunCommand,
) -> None:
    """SIGTERM ends it with 143, SIGKILL at once; nothing is left that a second run would stumble over."""
    topic = make_topic()
    produce(topic, [b"1", b"2"], partition=0)
    archived(topic, {(topic, 0): 2})
    seen: list[S3Request] = []

    def hang(request: S3Request) -> Any:
        seen.append(request)
        return Hang(30)

    s3_proxy.rule = hang
    through_proxy = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}
    for end, code in (("terminate", 143), ("kill", -9)):
        seen.clear()
        command = start_command("verify", topics=topic, settings=through_proxy)
        wait_until(lambda: seen, 30, "verify has not asked S3")
        getattr(command, end)()
        assert code == command.wait(20).code
    run_command("verify", topics=topic, check=0)


def test_worker_that_goes_on_meanwhile_gives_no_false_alarm(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, run_command: RunCommand
) -> None:
    """Only what was committed at the beginning is looked at, and all of that is in the bucket."""
    topic = make_topic(2)
    expected: Expected = produce(topic, [b"%d" % number for number in range(200)])
    worker = start_worker(topic)
    wait_until(lambda: worker.stats()["totals"]["events"] >= 200, 60, worker.log_tail)
    deadline = time.monotonic() + 3
    runs = 0
    while runs < 2 or time.monotonic() < deadline:
        expected |= produce(topic, [b"%d" % number for number in range(2000)])
        run_command("verify", "--no-ledger" if runs % 2 else "--json", topics=topic, check=0)
        runs += 1


# -- which range ------------------------------------------------------------------------------------------------------


def test_range_can_be_narrowed(
    s3_server: S3Server,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """--from, --since, --topic and --partition leave the rest alone."""
    topic = make_topic(2)
    expected = produce(topic, [b"old"] * 10, partition=0) | produce(topic, [b"other"] * 10, partition=1)
    time.sleep(1.1)
    moment = time.time()
    expected |= produce(topic, [b"new"] * 10, partition=0)
    archived(topic, next_offsets(expected))
    delete_objects(s3_server, bucket, [object_key(topic, 0, 3)])
    run_command("verify", topics=topic, check=1)
    run_command("verify", "--partition", "1", topics=topic, check=0)
    assert (
        12
        == run_command("verify", "--from", "8", "--partition", "0", "--json", topics=topic, check=0).json()["totals"][
            "events"
        ]
    )
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    report = run_command("verify", "--since", since, "--json", topics=topic, check=0).json()
    assert 10 == report["totals"]["events"]
