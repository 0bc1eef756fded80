"""What `docs/handbook.md` says will happen, done: partitions added to a topic, a group moved to another name."""

from __future__ import annotations

import re
import shlex
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import RunCommand, StartWorker
from tests.services.archive import Archive, next_offsets
from tests.services.install import KAFKA_JARS, ROOT
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess
from tests.unit.test_runbooks import RUNBOOK_PAGES, kafka_commands

HANDBOOK = ROOT / "docs" / "handbook.md"
GROUP_COMMAND = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CLASSES = {
    "kafka-consumer-groups": GROUP_COMMAND,
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-acls": "org.apache.kafka.tools.AclCommand",
}
"""What Kafka's scripts start."""


def wait_for_commits(
    broker: KafkaBroker, group: str, offsets: Mapping[tuple[str, int], int], worker: WorkerProcess
) -> None:
    wait_until(
        lambda: offsets.items() <= broker.committed_offsets(group).items(),
        60,  # new partitions are noticed after METADATA_REFRESH_MS
        lambda: f"committed: {broker.committed_offsets(group)}\n{worker.log_tail()}",
    )


def test_added_partitions_are_read_from_their_beginning(
    broker: KafkaBroker,
    group: str,
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    archive: Archive,
    run_command: RunCommand,
) -> None:
    """While it runs: nothing is skipped, nothing overwritten, and `verify` proves all partitions."""
    topic = make_topic(2)
    expected = produce(topic, [b"old-0"] * 5, partition=0) | produce(topic, [b"old-1"] * 5, partition=1)
    worker = start_worker(topic)
    wait_for_commits(broker, group, next_offsets(expected), worker)
    broker.admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    wait_until(lambda: 4 == len(broker.admin.list_topics(topic, timeout=10).topics[topic].partitions), 20, "partitions")
    fresh = EventProducer(broker.bootstrap_servers)  # one that has not seen the topic with two
    expected |= fresh.produce(topic, [b"new-2"] * 5, partition=2) | fresh.produce(topic, [b"new-3"] * 5, partition=3)
    expected |= produce(topic, [b"more"] * 5, partition=0)
    wait_for_commits(broker, group, next_offsets(expected), worker)
    archive.assert_complete(expected)
    run_command("verify", topics=topic, check=0)


def group_commands(broker: KafkaBroker, old: str, new: str) -> list[str]:
    """The handbook's two lines for copying offsets, with this test's names; no login on the test's broker."""
    lines = re.findall(r"^ +kafka-consumer-groups (.*--reset-offsets.*)$", HANDBOOK.read_text(), re.MULTILINE)
    assert 2 == len(lines)
    words = {"BROKER": broker.bootstrap_servers, "OLD": old, "NEW": new, "--command-config admin.properties": ""}
    for word, value in words.items():
        lines = [line.replace(word, value) for line in lines]
    return lines


def run_kafka(program: str, arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    java = ["java", "-cp", f"{KAFKA_JARS}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", CLASSES[program]]
    return subprocess.run([*java, *shlex.split(arguments)], cwd=directory, capture_output=True, text=True, check=False)


def run_group_command(line: str, directory: Path) -> None:
    """What `kafka-consumer-groups` starts."""
    command, _, target = line.partition(" > ")
    done = run_kafka("kafka-consumer-groups", command, directory)
    assert 0 == done.returncode, f"{done.stdout}{done.stderr}"
    assert "Error" not in done.stdout, done.stdout
    if target:
        (directory / target).write_text(done.stdout)


def test_group_moves_with_its_offsets(
    broker: KafkaBroker,
    group: str,
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    archive: Archive,
    run_command: RunCommand,
    tmp_path: Path,
) -> None:
    """Way B, with the handbook's commands: the new group begins where the old one ended, and all of it is proved."""
    topic = make_topic(2)
    expected = produce(topic, [b"before"] * 20, partition=0) | produce(topic, [b"before"] * 10, partition=1)
    first = start_worker(topic)
    wait_for_commits(broker, group, next_offsets(expected), first)
    first.terminate()
    assert 0 == first.wait(40), first.log_tail()
    moved = f"{group}-moved"
    for line in group_commands(broker, group, moved):
        run_group_command(line, tmp_path)
    assert broker.committed_offsets(group) == broker.committed_offsets(moved)
    expected |= produce(topic, [b"after"] * 7, partition=0)
    settings = {"STREAMS_CONSUMER_GROUP": moved}
    second = start_worker(topic, settings)
    wait_for_commits(broker, moved, next_offsets(expected), second)
    archive.assert_complete(expected)
    assert 7 == second.stats()["totals"]["events"], "none was written twice"
    run_command("verify", topics=topic, settings=settings, check=0)


def test_commands_of_the_runbooks_are_taken_by_kafka(
    broker: KafkaBroker, group: str, make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, tmp_path: Path
) -> None:
    """All of Kafka's own, with this test's names: each does what it says, and none is refused for its options."""
    topic = make_topic()
    expected = produce(topic, [b"1", b"2"], partition=0)
    worker = start_worker(topic)
    wait_for_commits(broker, group, next_offsets(expected), worker)
    worker.terminate()
    assert 0 == worker.wait(40), worker.log_tail()
    (tmp_path / "admin.properties").write_text("")
    words = {"BROKER": broker.bootstrap_servers, "GROUP": group, "TOPIC:PARTITION": f"{topic}:0", "OFFSET": "1"}
    words |= dict.fromkeys(("TOPIC", "NAME"), topic)
    commands = dict.fromkeys(kafka_commands([*RUNBOOK_PAGES, ROOT / "docs" / "restore.md"]))
    assert len(commands) > 8
    for command in commands:
        line = re.sub(r"TOPIC:PARTITION|\b[A-Z]+\b", lambda word: words.get(word[0], word[0]), command)
        program, _, arguments = line.partition(" | ")[0].partition(" ")
        done = run_kafka(program, arguments, tmp_path)
        said = f"{line}\n{done.stdout}{done.stderr}"
        if program == "kafka-acls":
            assert "No Authorizer is configured" in said, said  # the test's broker has none
        else:
            assert 0 == done.returncode, said
            assert "Error" not in done.stdout, said


@pytest.mark.parametrize(("unpacked_by", "taken"), [("producer", True), ("uncompressed", False)])
def test_topic_whose_batches_the_broker_unpacks_takes_none_that_are_large_inside(
    broker: KafkaBroker, unpacked_by: str, taken: bool
) -> None:
    """20 MB of zeros are a kilobyte of zstd: measured as they come, or against `max.message.bytes` (1 MB) unpacked."""
    topic = f"unpacked-{uuid.uuid4().hex[:12]}"
    broker.create_topic(topic, 1, {"compression.type": unpacked_by})
    producer = EventProducer(broker.bootstrap_servers, {"compression.type": "zstd", "message.max.bytes": 30_000_000})
    if taken:
        producer.produce(topic, [bytes(20_000_000)])
    else:
        with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
            producer.produce(topic, [bytes(20_000_000)])
