"""Commits: never backwards, one request at a time, one partition's refusal holds up no other's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from confluent_kafka import KafkaError

from streams.consumer import commits as module
from streams.consumer.commits import Commits
from streams.consumer.poller import CommitPoint, CommitResult
from streams.record import TopicPartition
from streams.stats import Conditions, Kind

ORDERS, GONE = TopicPartition("orders", 0), TopicPartition("gone", 0)


class Kafka:
    """Takes what `Commits` sends, and answers when it is told to."""

    def __init__(self) -> None:
        self.requests: list[dict[TopicPartition, CommitPoint]] = []
        self.accepted: list[tuple[TopicPartition, int]] = []
        self.conditions = Conditions()
        self.commits = Commits(self.take, lambda tp, offset: self.accepted.append((tp, offset)), self.conditions)

    def take(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        self.requests.append(dict(points))

    def answer(self, error: int | None = None, request: int = -1) -> None:
        """One answer for the whole request, as librdkafka gives it."""
        problem = None if error is None else KafkaError(error)
        self.commits.answered(CommitResult(tp, point.offset, problem) for tp, point in self.requests[request].items())


def points(**offsets: int) -> dict[TopicPartition, CommitPoint]:
    return {TopicPartition(topic, 0): CommitPoint(offset, "", 1) for topic, offset in offsets.items()}


def test_offset_counts_when_kafka_has_said_so() -> None:
    """Not when it was sent; and the ledger hears of it then."""
    kafka = Kafka()
    kafka.commits.begin(ORDERS, 5, "", 1)
    assert kafka.commits.send_due(points(orders=7))
    assert 5 == kafka.commits.committed(ORDERS)
    kafka.answer()
    assert 7 == kafka.commits.committed(ORDERS)
    assert [(ORDERS, 7)] == kafka.accepted


def test_nothing_is_sent_while_the_last_request_is_on_its_way() -> None:
    """So answers cannot overtake each other."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    assert not kafka.commits.send_due(points(orders=9))
    kafka.answer()
    assert kafka.commits.send_due(points(orders=9))
    assert [7, 9] == [request[ORDERS].offset for request in kafka.requests]


def test_no_commit_goes_backwards() -> None:
    """A watermark below what Kafka has is never sent."""
    kafka = Kafka()
    kafka.commits.begin(ORDERS, 9, "", 1)
    assert not kafka.commits.send_due(points(orders=7))
    assert [] == kafka.requests


def test_changed_metadata_is_sent_with_the_same_offset() -> None:
    """The ledger's open part may change where the offset does not."""
    kafka = Kafka()
    kafka.commits.begin(ORDERS, 7, "v1 7", 1)
    assert not kafka.commits.send_due({ORDERS: CommitPoint(7, "v1 7", 2)}), "nothing new is said"
    assert kafka.commits.send_due({ORDERS: CommitPoint(7, "v1 7 2.", 2)})


def test_answer_of_a_partition_that_went_away_changes_nothing() -> None:
    """Its new owner commits."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    kafka.commits.forget([ORDERS])
    kafka.answer()
    assert kafka.commits.committed(ORDERS) is None
    assert [] == kafka.accepted


def test_deleted_topic_holds_up_no_other_topic() -> None:
    """librdkafka reports its error for every partition of the request; from then on each topic is asked for alone."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7, gone=3))
    kafka.answer(KafkaError.UNKNOWN_TOPIC_OR_PART)
    kafka.requests.clear()
    kafka.commits.send_due(points(orders=7, gone=3))
    assert [{"gone"}, {"orders"}] == [{tp.topic for tp in request} for request in kafka.requests]
    kafka.answer(KafkaError.UNKNOWN_TOPIC_OR_PART, request=0)
    kafka.answer(request=1)
    assert 7 == kafka.commits.committed(ORDERS)
    assert ["gone"] == [one.subject for one in kafka.conditions.of(Kind.COMMITS_REFUSED)]
    kafka.commits.forget([GONE])
    assert [] == kafka.conditions.active(), "a topic that is forgotten is no longer refused"


def test_topic_that_is_taken_again_goes_with_the_others() -> None:
    """A refusal that ends leaves nothing behind."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    kafka.answer(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert ["orders"] == [one.subject for one in kafka.conditions.of(Kind.COMMITS_REFUSED)]
    kafka.commits.send_due(points(orders=8))
    kafka.answer()
    assert [] == kafka.conditions.active()
    kafka.requests.clear()
    kafka.commits.send_due(points(orders=9, gone=1))
    assert 1 == len(kafka.requests)


@pytest.mark.parametrize(
    "error", [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError._TIMED_OUT]
)
def test_coordinator_that_is_away_is_a_condition_until_it_takes_a_commit(error: int) -> None:
    """With what to do, and over when commits go on."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    kafka.answer(error)
    assert kafka.conditions.get(Kind.COORDINATOR_AWAY) is not None
    assert kafka.commits.send_due(points(orders=7)), "it is tried again"
    kafka.answer()
    assert [] == kafka.conditions.active()


def test_group_that_refuses_commits_is_told_once() -> None:
    """It is no topic's matter; it is over when one is taken."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7, payments=9))
    kafka.answer(KafkaError.GROUP_AUTHORIZATION_FAILED)
    kafka.commits.send_due(points(orders=8, payments=9))
    assert [["orders", "payments"]] * 2 == [sorted(tp.topic for tp in request) for request in kafka.requests]
    kafka.answer(KafkaError.GROUP_AUTHORIZATION_FAILED)
    (said,) = kafka.conditions.of(Kind.COMMITS_REFUSED)
    assert "" == said.subject
    assert "group" in said.remedy
    kafka.commits.send_due(points(orders=8, payments=9))
    kafka.answer()
    assert not kafka.conditions.active()


@pytest.mark.parametrize("error", [KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID])
def test_dead_consumer_is_no_topic_s_refusal(error: int) -> None:
    """The consumer says what it died of."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    kafka.answer(error)
    assert not kafka.conditions.active()


@pytest.mark.parametrize("error", [KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS])
def test_rebalance_is_no_trouble(error: int) -> None:
    """Whoever has the partition next commits."""
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    kafka.answer(error)
    assert [] == kafka.conditions.active()
    assert kafka.commits.send_due(points(orders=7))


def test_refused_metadata_is_left_out_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    """The offset matters more than the ledger's notes, then than the topic's id; said once."""
    kafka = Kafka()
    identity = "t:SdosoGFiQNSZ6iuNvoBkyQ"
    with_notes = {ORDERS: CommitPoint(7, f"{identity} {'x' * 4_000}", 1)}
    for _ in range(3):
        kafka.commits.send_due(with_notes)
        kafka.answer(KafkaError.OFFSET_METADATA_TOO_LARGE)
    assert [4_025, identity, ""] == [
        len(said) if len(said) > 100 else said for said in (request[ORDERS].metadata for request in kafka.requests)
    ]
    assert 1 == caplog.text.count("the broker refuses the ledger's notes")


def test_commits_that_are_late_are_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is durable and could not be committed for a while is said, with since when."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    now += module.LATE_SECONDS + 1
    kafka.commits.send_due(points(orders=8))
    assert kafka.conditions.get(Kind.COMMITS_LATE) is not None
    assert 1_000.0 == kafka.commits.due_since
    kafka.answer()
    kafka.commits.send_due(points(orders=7))
    assert kafka.conditions.get(Kind.COMMITS_LATE) is None
    assert kafka.commits.due_since is None


def test_request_that_nobody_answers_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit can never be blocked for good."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    now += module.ANSWER_SECONDS + 1
    assert kafka.commits.send_due(points(orders=7))


def test_idle_partition_is_committed_again_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows that commits work, and mends an offset that a late request of an earlier owner has set back."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    kafka = Kafka()
    kafka.commits.send_due(points(orders=7))
    kafka.answer()
    assert not kafka.commits.send_due(points(orders=7))
    now += module.REFRESH_SECONDS + 1
    assert kafka.commits.send_due(points(orders=7))


def test_idle_partition_is_committed_again_beside_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each partition has its own minute."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    kafka = Kafka()
    kafka.commits.begin(ORDERS, 0, "", 1)
    kafka.commits.begin(GONE, 500, "", 1)
    for offset in range(1, 301):
        now += 2
        kafka.commits.send_due(points(orders=offset, gone=500))
        kafka.answer()
    assert 9 == sum(GONE in request for request in kafka.requests)
    assert 300 == sum(ORDERS in request for request in kafka.requests)
