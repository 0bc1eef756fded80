"""One name, several topics: what the commands say and do when a topic was deleted and recreated.

On the real broker and the real S3 server. Nothing is ever proved, read or written for one topic by another's objects.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicCollection, TopicPartition

from streams.consumer.lives import TopicLives, Wait
from streams.kafka.admin import KafkaAdmin, Topic
from streams.kafka.identity import Identity, decode_identity, encode_identity
from streams.ledger import decode_segment
from streams.record import Life
from streams.sinks.s3 import S3Sink
from streams.stats import Conditions, Kind
from tests.conftest import MakeTopic, Produce, require
from tests.integration.archiving import read_topic, worker_settings
from tests.integration.conftest import RunCommand, StartWorker
from tests.integration.test_verify import committed_offsets, delete_objects, object_key
from tests.services.install import S3
from tests.services.kafka import KafkaBroker
from tests.services.producer import Expected
from tests.services.s3 import S3Server
from tests.services.s3_users import S3ServerWithUsers
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

pytestmark = pytest.mark.timeout(180)

FIRST_EVENTS = 400
NEW_LIFE = {"STREAMS_ON_NEW_TOPIC": "new-life"}
Archived = Callable[..., None]


@pytest.fixture
def archived(start_worker: StartWorker, broker: KafkaBroker, group: str) -> Archived:
    """Lets a real worker archive a topic of one partition up to an offset, and stops it."""

    def archive(topic: str, offset: int, settings: Mapping[str, str] | None = None) -> None:
        worker = start_worker(topic, settings, wait=False)
        wait_until(
            lambda: committed_offsets(broker, group).get((topic, 0)) == offset,
            40,
            lambda: f"committed {committed_offsets(broker, group)}, expected {offset}\n{worker.log_tail()}",
        )
        worker.terminate()
        assert 0 == worker.wait()

    return archive


def values(count: int, name: str) -> Iterator[bytes]:
    return (b"%s %d" % (name.encode(), number) for number in range(count))


def topic_id(broker: KafkaBroker, topic: str) -> str:
    """As Kafka's own tools show it: librdkafka has the other alphabet of base64."""
    found = broker.admin.describe_topics(TopicCollection([topic]))[topic].result(30)
    return str(found.topic_id).replace("+", "-").replace("/", "_")


def recreate(broker: KafkaBroker, topic: str) -> str:
    """Delete and create it; the new one's tag."""
    before = topic_id(broker, topic)
    broker.admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in broker.admin.list_topics(timeout=10).topics, 30, "it is still there", 0.1)
    broker.create_topic(topic, 1)
    after = topic_id(broker, topic)
    assert before != after
    return after[:8]


class Objects:
    """What is in the test's bucket, for somebody who may do everything there."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self._server, self._bucket = server, bucket

    def under(self, prefix: str) -> dict[str, bytes]:
        """Bodies by key, in the order of the keys."""
        return {key: self._server.read(self._bucket, key).body for key in self._server.keys(self._bucket, prefix)}

    def put(self, key: str, body: bytes) -> None:
        self._server.client.put_object(Bucket=self._bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        delete_objects(self._server, self._bucket, [key])


@pytest.fixture
def objects(s3_server: S3Server, bucket: str) -> Objects:
    """Those of the test's bucket."""
    return Objects(s3_server, bucket)


def without_places(expected: Expected) -> list[bytes | None]:
    return [content[1] for _, content in sorted(expected.items())]


@pytest.mark.parametrize("refilled", [100, 600])
def test_recreated_topic_is_never_proved_by_the_objects_of_the_first(
    refilled: int,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
    broker: KafkaBroker,
    objects: Objects,
    group: str,
) -> None:
    """With fewer and with more events; not even by a commit that says nothing of the topic. Repair writes nothing."""
    topic = make_topic()
    produce(topic, values(FIRST_EVENTS, "first"), partition=0)
    archived(topic, FIRST_EVENTS)
    run_command("verify", topics=topic, check=0)
    first_id, before = topic_id(broker, topic), objects.under("")
    recreate(broker, topic)
    produce(topic, values(refilled, "second"), partition=0)
    commit = [TopicPartition(topic, 0, min(refilled, FIRST_EVENTS))]
    asked = broker.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, commit)])
    asked[group].result(30)
    for arguments in ((), ("--from", "0"), ("--content", "all"), ("--no-ledger",)):
        finished = run_command("verify", *arguments, topics=topic, check=2)
        assert "PROVED" not in finished.stdout
        assert "the bucket holds another topic of this name" in finished.stdout
        assert all(one in finished.stdout for one in (first_id, topic_id(broker, topic)))
    run_command("repair", "--content", "all", topics=topic, check=2)
    assert before == objects.under("")


def test_both_lives_are_archived_proved_repaired_read_and_restored_each_by_itself(
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
    broker: KafkaBroker,
    objects: Objects,
) -> None:
    """STREAMS_ON_NEW_TOPIC=new-life: names with the topic's tag, and nothing of the first life is touched."""
    topic, target = make_topic(), make_topic()
    first = produce(topic, values(FIRST_EVENTS, "first"), partition=0)
    archived(topic, FIRST_EVENTS)
    first_objects = objects.under(f"{topic}/")
    tag = recreate(broker, topic)
    name = f"{topic}@{tag}"
    held = run_command("restore", topic, topics=topic, check=0).stderr
    assert ("the worker holds it" in held, "archives the restored events" in held) == (True, False)
    second = produce(topic, values(100, "second"), partition=0)
    archived(topic, 100, NEW_LIFE)

    hint = run_command("verify", "--topic", name, topics=topic, check=2)
    assert f"Give --topic {topic}:" in hint.stderr
    report = run_command("verify", "--topic", topic, "--content", "all", "--json", topics=topic, check=0).json()
    (part,) = report["partitions"]
    assert (name, 100, 100, []) == (part["name_in_bucket"], part["objects"], part["compared"], part["notes"])
    assert 0 == report["other_objects"]

    objects.delete(object_key(name, 0, 7))
    assert f"{name}/0" in run_command("verify", topics=topic, check=1).stdout
    run_command("repair", topics=topic, check=0)
    run_command("verify", "--content", "all", topics=topic, check=0)
    assert first_objects == objects.under(f"{topic}/")
    assert 100 == len(objects.under(f"{name}/"))

    assert b"first 42" == run_command("get", f"{topic}/0/42", topics=topic, check=0).raw
    assert b"second 42" == run_command("get", f"{name}/0/42", topics=topic, check=0).raw
    assert "cannot tell" in run_command("get", f"{topic}/0/9999", topics=topic, check=1).stderr
    assert "next offset is 100" in run_command("get", f"{name}/0/9999", topics=topic, check=1).stderr

    plan = run_command("restore", topic, topics=topic, check=0)
    said = " ".join(plan.stderr.split())
    assert f"the bucket holds 2 topics of this name: {topic} (topic id" in said
    assert f"faust -A streams restore {name}" in said
    assert "is another one" in said
    assert "the worker archives the restored events" in said
    lives = run_command("restore", topic, "--json", topics=topic, check=0).json()["lives"]
    assert [topic, name] == [life["name"] for life in lives]
    run_command("restore", name, "--to-topic", target, "--accept-retention", "--execute", topics=topic, check=0)
    run_command("restore", topic, "--to-topic", target, "--accept-retention", "--execute", topics=topic, check=0)
    (restored,) = read_topic(broker.bootstrap_servers, target, 1)
    assert without_places(second) + without_places(first) == [published[1] for published in restored]


def test_doctor_tells_a_topic_that_is_held(
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
    broker: KafkaBroker,
    objects: Objects,
) -> None:
    """The same one is well; another one is wrong, with new-life a warning, and well when it has names of its own."""
    topic = make_topic()

    def diagnose(settings: Mapping[str, str] | None, check: int) -> dict[str, str]:
        findings = run_command("doctor", "--json", topics=topic, settings=settings, check=check).json()
        (found,) = (one for one in findings if one["check"].startswith("kafka topic") and "identity" in one["check"])
        return dict(found)

    nothing_yet = diagnose(None, 0)
    assert ("unchecked", True) == (nothing_yet["status"], "no topic.json" in nothing_yet["finding"])
    produce(topic, [b"first"], partition=0)
    archived(topic, 1)
    first_id = topic_id(broker, topic)
    assert "ok" == diagnose(None, 0)["status"]
    tag = recreate(broker, topic)
    held = diagnose(None, 1)
    said = f"{held['finding']} {held['remedy']}"
    assert "wrong" == held["status"]
    assert all(one in said for one in (first_id, topic_id(broker, topic), "docs/runbooks/topic-recreated.md"))
    beside = diagnose(NEW_LIFE, 0)
    assert ("warning", True) == (beside["status"], f"{topic}@{tag}" in beside["finding"])
    produce(topic, [b"second"], partition=0)
    archived(topic, 1, NEW_LIFE)
    assert "ok" == diagnose(None, 0)["status"]
    objects.put(f"ledger/{topic}/topic.json", b"garbage")
    assert "warning" == diagnose(None, 0)["status"]


def test_dead_letters_of_a_later_life_are_redriven_under_its_names(
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
    broker: KafkaBroker,
    objects: Objects,
) -> None:
    """Both lives have one at the same position; each goes to its own place."""
    topic = make_topic()
    broken = {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{topic}/{partition}/{offset}/{header.tenant}"}
    produce(topic, [b"first"], partition=0)
    archived(topic, 1, broken)
    name = f"{topic}@{recreate(broker, topic)}"
    produce(topic, [b"second"], partition=0)
    archived(topic, 1, {**broken, **NEW_LIFE})
    letters = [f"dead-letter/{one}/0/{0:020d}.json" for one in (topic, name)]
    assert letters == list(objects.under("dead-letter/"))
    assert f"{name}/0/0" in run_command("redrive", "--list", topics=topic, check=1).stdout
    run_command("redrive", "--execute", topics=topic, check=0)
    assert {} == objects.under("dead-letter/")
    assert {object_key(topic, 0, 0): b"first"} == objects.under(f"{topic}/")
    assert {object_key(name, 0, 0): b"second"} == objects.under(f"{name}/")


def test_segments_and_topic_json_say_whose_they_are(
    make_topic: MakeTopic, produce: Produce, archived: Archived, broker: KafkaBroker, objects: Objects
) -> None:
    """The cluster's id and the topic's; a segment is closed behind its 10,000th event."""
    topic = make_topic()
    produce(topic, values(10_500, "value"), partition=0)
    archived(topic, 10_500)
    written = objects.under(f"ledger/{topic}/")
    identity = json.loads(written.pop(f"ledger/{topic}/topic.json"))
    (segment,) = map(decode_segment, written.values())
    ids = (identity["cluster_id"], topic_id(broker, topic))
    assert (ids, ids) == ((segment.cluster_id, segment.topic_id), (identity["cluster_id"], identity["topic_id"]))


def test_archive_of_an_earlier_release_is_proved_with_a_note(
    make_topic: MakeTopic, produce: Produce, archived: Archived, run_command: RunCommand, objects: Objects
) -> None:
    """It has no topic.json; nothing else is known of whose events it holds."""
    topic = make_topic()
    produce(topic, values(50, "value"), partition=0)
    archived(topic, 50)
    objects.delete(f"ledger/{topic}/topic.json")
    finished = run_command("verify", topics=topic, check=0)
    assert "PROVED" in finished.stdout
    assert 1 == finished.stdout.count("no topic.json")


def test_unknown_head_is_not_verifiable_unless_it_is_left_out(
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
    broker: KafkaBroker,
    objects: Objects,
) -> None:
    """Kafka and the bucket begin at offset 50, no ledger does, and nobody can say what was before.

    Repair says so once, and also when it has repaired what is missing behind that.
    """
    topic = make_topic()
    produce(topic, values(100, "value"), partition=0)
    place = TopicPartition(topic, 0, 50)
    broker.admin.delete_records([place])[place].result(30)
    archived(topic, 100, {"STREAMS_LEDGER_ENABLED": "false"})
    finished = run_command("verify", topics=topic, check=2)
    assert "NOT VERIFIABLE" in finished.stdout
    assert "give --from 50" in finished.stdout
    assert "PROVED" in run_command("verify", "--from", "50", topics=topic, check=0).stdout
    run_command("verify", "--since", "1h", topics=topic, check=0)
    nothing = run_command("repair", topics=topic, check=2)
    assert 1 == (nothing.stdout + nothing.stderr).count("NOT VERIFIABLE")
    objects.delete(object_key(topic, 0, 60))
    repaired = run_command("repair", topics=topic, check=2)
    assert "REPAIRED: 1 event written again. The rest is not verifiable" in repaired.stdout


# -- the right to read topic.json -------------------------------------------------------------------------------------


class OneTopic:
    """A cluster as `TopicLives` asks it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def cluster_id(self, topics: Iterable[str]) -> str:
        return self._identity.cluster_id

    async def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        return {name: Topic(name, self._identity.topic_id, ()) for name in names}


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3ServerWithUsers]:
    """Where an account may do only what a test allows."""
    require(S3)
    server = S3ServerWithUsers(tmp_path_factory.mktemp("limited"))
    with server:
        yield server


WRITE = ["s3:PutObject"]
FIRST, SECOND = Identity("cluster", "SdosoGFiQNSZ6iuNvoBkyQ"), Identity("cluster", "AbCd-_09QNSZ6iuNvoBkyQ")


@pytest.mark.parametrize("client", ["obstore", "aiobotocore"])
@pytest.mark.parametrize("may_read", [True, False])
async def test_least_rights_tell_a_recreated_topic(
    client: str, may_read: bool, limited_server: S3ServerWithUsers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the right to list, S3 calls a missing topic.json denied: the worker writes it and goes on."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    limited_server.create_bucket(bucket)
    objects = f"arn:aws:s3:::{bucket}/"
    reading = [(["s3:GetObject"], [f"{objects}ledger/*/topic.json"])] if may_read else []
    limited_server.allow(bucket, [(WRITE, [f"{objects}*"]), *reading])
    environment = {
        **limited_server.user_environment(),
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
        "STREAMS_TOPICS": "orders",
        "STREAMS_CONSUMER_GROUP": "group",
        "STREAMS_S3_BUCKET": bucket,
        "STREAMS_S3_ENDPOINT_URL": limited_server.endpoint_url,
        "STREAMS_S3_PATH_STYLE": "true",
        "STREAMS_S3_CLIENT": client,
    }
    sink = S3Sink.from_settings(worker_settings(environment, monkeypatch))
    await sink.start()
    try:
        found = [await _life(sink, one) for one in (FIRST, FIRST, SECOND)]
    finally:
        await sink.close()
    assert encode_identity("orders", FIRST) == limited_server.read(bucket, "ledger/orders/topic.json").body
    (first, unknown), (again, unknown_again), (other, _) = found
    assert (FIRST.life(), False) == (first, unknown)
    assert (FIRST.life(), not may_read) == (again, unknown_again)
    assert isinstance(other, Wait) is may_read


def conditions_of(worker: WorkerProcess) -> set[str]:
    return {one["kind"] for one in worker.stats()["conditions"]}


def test_bucket_that_is_made_after_the_start_is_asked_again(
    group: str, make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_server: S3Server
) -> None:
    """The protection begins by itself: nobody restarts a worker that archives everything."""
    topic, bucket = make_topic(), f"late-{uuid.uuid4().hex[:12]}"
    produce(topic, values(20, "event"), partition=0)
    worker = start_worker(topic, {"STREAMS_S3_BUCKET": bucket}, app="tests.integration.apps.quick_identity")
    wait_until(lambda: "topic_identity_unknown" in conditions_of(worker), 30, worker.log_tail)
    s3_server.create_bucket(bucket)
    wait_until(lambda: not conditions_of(worker), 60, worker.log_tail)
    known = decode_identity(s3_server.read(bucket, f"ledger/{topic}/topic.json").body)
    assert known.topic_id is not None
    assert "Allow s3:GetObject" not in worker.log(), "the bucket is missing, not a right"


def test_trusted_topic_that_turns_out_to_be_another_is_held(
    broker: KafkaBroker,
    group: str,
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    objects: Objects,
) -> None:
    """What came before could not be told from the same topic's; what comes after is not written over it."""
    topic = make_topic()
    objects.put(f"ledger/{topic}/topic.json", b"damaged")
    produce(topic, values(20, "before"), partition=0)
    worker = start_worker(topic, app="tests.integration.apps.quick_identity")
    wait_until(lambda: committed_offsets(broker, group).get((topic, 0)) == 20, 40, worker.log_tail)
    assert {"topic_identity_unknown"} == conditions_of(worker)
    objects.put(f"ledger/{topic}/topic.json", encode_identity(topic, FIRST))
    wait_until(lambda: {"topic_recreated"} == conditions_of(worker), 30, worker.log_tail)
    produce(topic, values(20, "after"), partition=0)
    with pytest.raises(AssertionError):
        wait_until(lambda: worker.stats()["totals"]["events"] > 20, 5, "held")
    assert 20 == len(objects.under(f"{topic}/"))


async def _life(sink: S3Sink, identity: Identity) -> tuple[Life | Wait, bool]:
    """What a worker that begins now makes of it, and whether it says that it cannot tell."""
    conditions = Conditions()
    lives = TopicLives(cast(KafkaAdmin, OneTopic(identity)), sink, conditions, "hold")
    found = (await lives.of(["orders"]))["orders"]
    return found, conditions.get(Kind.IDENTITY_UNKNOWN, "orders") is not None
