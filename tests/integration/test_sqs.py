"""The whole worker with a queue as its sink: kill it, stop the queue, move partitions; every event is in the queue.

Read back with boto3 and compared by value with what was published. A standard queue may hold an event twice, a FIFO
queue holds it once and in the order of its key.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter

import pytest

from streams.record import Record
from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import RunCommand, StartWorker
from tests.integration.test_faults import QUICK_RETRIES, SHORT_SESSION, spread, wait_stats, wait_written
from tests.services.archive import next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.producer import Expected
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY
from tests.services.sqs import SqsServer
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

AssertSent = Callable[..., list[Record]]


@pytest.fixture
def base_settings(broker: KafkaBroker, group: str) -> dict[str, str]:
    """A worker without any bucket; what cannot be written is held."""
    return {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAMS_CONSUMER_GROUP": group,
        "STREAMS_SINK": "sqs",
        "STREAMS_ON_REJECT": "hold",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
    }


@pytest.fixture
def assert_sent(broker: KafkaBroker, group: str) -> AssertSent:
    """The proof: waits until everything is committed, then compares every message with every event."""

    def check(server: SqsServer, queue_url: str, expected: Expected, timeout_seconds: float = 60) -> list[Record]:
        wait_until(
            lambda: broker.committed_offsets(group) == next_offsets(expected),
            timeout_seconds,
            lambda: f"committed {broker.committed_offsets(group)}, expected {next_offsets(expected)}",
        )
        # ElasticMQ hands messages of one millisecond out in any order after it was started again; the order in which
        # it took them stands in the messages.
        events = [message.event for message in sorted(server.receive_all(queue_url), key=attrgetter("taken"))]
        found = {
            (event.topic, event.partition, event.offset): (event.key, event.value, event.headers) for event in events
        }
        assert expected.keys() == found.keys()
        assert {place: (key, value, tuple(headers)) for place, (key, value, headers) in expected.items()} == found
        return events

    return check


def to_queue(queue_url: str, **settings: str) -> dict[str, str]:
    return {"STREAMS_SQS_QUEUE_URL": queue_url, **settings}


def keyed(count: int, keys: int) -> list[tuple[bytes, bytes, tuple[()]]]:
    return [(b"key-%d" % (number % keys), b'{"number": %d}' % number, ()) for number in range(count)]


def holds(server: SqsServer, queue_url: str, count: int) -> bool:
    """Whether so many messages are in the queue."""
    return server.count(queue_url) >= count


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_killed_again_and_again_loses_nothing(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    sqs_server: SqsServer,
    assert_sent: AssertSent,
    fifo: bool,
) -> None:
    """`kill -9` of one of two workers, in turn, while messages flow; FIFO has each once and in its key's order."""
    topic = make_topic(4)
    queue_url = sqs_server.create_queue(fifo=fifo)
    settings = to_queue(queue_url, STREAMS_MAX_IN_FLIGHT="60") | SHORT_SESSION | QUICK_RETRIES
    expected = produce(topic, keyed(3_000, 40))
    workers = [start_worker(topic, settings, wait=False), start_worker(topic, settings, wait=False)]
    for kill in range(2):
        enough = min(2_900, sqs_server.count(queue_url) + 250)
        wait_until(partial(holds, sqs_server, queue_url, enough), 60, "no messages arrive any more", 0.05)
        workers[kill % 2].kill()
        workers[kill % 2].start()
    events = assert_sent(sqs_server, queue_url, expected, 90)
    if fifo:
        assert len(events) == len(expected)
        assert_ordered(events)


def assert_ordered(events: list[Record]) -> None:
    """Within each key of each partition, offsets rise."""
    groups: dict[tuple[int, bytes | None], list[int]] = {}
    for event in events:
        groups.setdefault((event.partition, event.key), []).append(event.offset)
    assert all(offsets == sorted(offsets) for offsets in groups.values())


def test_workers_come_and_go(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, sqs_server: SqsServer, assert_sent: AssertSent
) -> None:
    """Rebalances and orderly stops: what was in flight is drained, so nothing is lost and next to nothing is twice."""
    topic = make_topic(4)
    queue_url = sqs_server.create_queue()
    settings = to_queue(queue_url, STREAMS_MAX_IN_FLIGHT="40")
    expected = spread(produce, topic, 4, 4_000)
    first = start_worker(topic, settings)
    wait_written(first, 200)
    second = start_worker(topic, settings)
    first.terminate()
    assert first.wait(40) == 0, first.log_tail()
    expected |= spread(produce, topic, 4, 1_000, 4_000)
    events = assert_sent(sqs_server, queue_url, expected)
    assert len(events) == len(expected), "a drained worker leaves nothing for the next one to send again"
    second.terminate()
    assert second.wait(40) == 0, second.log_tail()


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_outage_of_the_queue_ends_by_itself(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    own_sqs_server: SqsServer,
    assert_sent: AssertSent,
    fifo: bool,
) -> None:
    """SQS stops and comes back: the worker waits, commits nothing of what is not sent, and goes on; order is kept."""
    topic = make_topic(2)
    queue_url = own_sqs_server.create_queue(fifo=fifo)
    worker = start_worker(topic, to_queue(queue_url, STREAMS_MAX_IN_FLIGHT="100") | QUICK_RETRIES)
    expected = produce(topic, keyed(500, 7))
    wait_written(worker, 500)
    own_sqs_server.stop()
    expected |= produce(topic, keyed(500, 7))
    wait_stats(worker, lambda stats: sum(stats["totals"]["retries"].values()) > 20, "no retries during the outage")
    own_sqs_server.start()
    events = assert_sent(own_sqs_server, queue_url, expected)
    if fifo:
        assert_ordered(events)


def test_missing_queue_holds_the_events_until_it_is_made(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, sqs_server: SqsServer, assert_sent: AssertSent
) -> None:
    """The worker says which queue is missing, keeps the events, and goes on when somebody has made it."""
    topic = make_topic(1)
    name = f"late-{uuid.uuid4().hex[:12]}"
    queue_url = f"{sqs_server.endpoint_url}/000000000000/{name}"
    expected = produce(topic, keyed(50, 5))
    worker = start_worker(topic, to_queue(queue_url) | QUICK_RETRIES, wait=False)
    wait_until(lambda: "queue_missing" in worker.log(), 60, worker.log_tail)
    assert "STREAMS_SQS_QUEUE_URL" in worker.log()
    sqs_server.client.create_queue(QueueName=name)
    events = assert_sent(sqs_server, queue_url, expected)
    assert Counter(event.position for event in events).total() == len(expected)


def test_event_too_large_goes_to_the_dead_letter_queue(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, sqs_server: SqsServer, assert_sent: AssertSent
) -> None:
    """Without a bucket: the events around it are sent, it is whole in the other queue, and all is committed."""
    topic = make_topic(1)
    queue_url, dead_letters = sqs_server.create_queue(), sqs_server.create_queue()
    settings = to_queue(
        queue_url,
        STREAMS_SQS_DEAD_LETTER_QUEUE_URL=dead_letters,
        STREAMS_SQS_MAX_MESSAGE_BYTES="4KiB",
        STREAMS_ON_REJECT="dead-letter",
    )
    before = produce(topic, [b"before"])
    produce(topic, [b"x" * 5_000])
    after = produce(topic, [b"after"])
    start_worker(topic, settings)
    wait_until(lambda: holds(sqs_server, dead_letters, 1), 30, "no dead letter")
    (letter,) = sqs_server.receive_all(dead_letters)
    assert (letter.event.offset, letter.event.value) == (1, b"x" * 5_000)
    assert_sent(sqs_server, queue_url, before | after)


@pytest.mark.parametrize("command", [["verify"], ["restore", "orders/0"]], ids=lambda command: command[0])
def test_commands_about_s3_refuse(run_command: RunCommand, command: list[str]) -> None:
    """Exit code 2 and why, instead of an answer about an empty bucket."""
    settings: Mapping[str, str] = to_queue("https://sqs.us-east-1.amazonaws.com/111122223333/orders")
    finished = run_command(*command, topics="orders", settings=settings, check=2)
    assert "events go to SQS" in finished.stderr
