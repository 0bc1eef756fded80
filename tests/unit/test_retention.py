"""Time to loss: never later than the truth, and unknown rather than guessed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import retention_watch
from streams.kafka.retention import Retention, retention_of, time_to_loss
from streams.record import TopicPartition
from streams.retention_watch import RetentionWatch

WEEK = 7 * 86_400.0
AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT))
HERE, THERE = TopicPartition("orders", 0), TopicPartition("orders", 1)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1"}, Retention(WEEK)),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "1000"}, Retention(None, 1000)),
        ({"cleanup.policy": "compact", "retention.ms": "604800000", "retention.bytes": "1000"}, Retention()),
        ({"cleanup.policy": "compact,delete", "retention.ms": "1000", "retention.bytes": "-1"}, Retention(1)),
        ({"cleanup.policy": "", "retention.ms": "1000"}, Retention()),
        ({"retention.ms": "0", "retention.bytes": "0"}, Retention(0, 0)),
    ],
)
def test_configuration_of_a_topic(config: dict[str, str], expected: Retention) -> None:
    """What deletes, what does not, and -1 for no limit; an empty policy (Kafka 4) keeps everything."""
    assert expected == retention_of(config)


@pytest.mark.parametrize(
    ("retention", "known", "expected"),
    [
        (Retention(), {}, math.inf),
        (Retention(100), {"oldest_timestamp_ms": 950_000}, 50),
        (Retention(100), {"oldest_timestamp_ms": 800_000}, 0),
        (Retention(100), {}, None),
        (Retention(None, 1), {"log_start": 40, "events_per_second": 2.0}, 30),
        (Retention(None, 1), {"log_start": 40, "events_per_second": 0.0}, math.inf),
        (Retention(None, 1), {"log_start": 120, "events_per_second": 2.0}, 0),
        (Retention(None, 1), {"log_start": 40}, None),
        (Retention(None, 1), {"events_per_second": 1.0}, None),
        (Retention(100, 1), {"oldest_timestamp_ms": 950_000, "log_start": 40, "events_per_second": 2.0}, 30),
        (Retention(100, 1), {"oldest_timestamp_ms": 950_000, "log_start": 40, "events_per_second": 1.0}, 50),
        (Retention(100, 1), {"oldest_timestamp_ms": 950_000}, None),
    ],
)
def test_time_to_loss(retention: Retention, known: dict[str, Any], expected: float | None) -> None:
    """By time, by size, the smaller of both; a limit that cannot be judged makes the whole unknown."""
    values: dict[str, Any] = {"oldest_timestamp_ms": None, **known}
    assert expected == time_to_loss(retention, now_seconds=1_000, watermark=100, **values)


class Broker:
    """Answers with what it is told, and counts the questions."""

    def __init__(self, *answers: dict[str, Retention | None] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[set[str]] = []

    async def __call__(self, topics: Iterable[str]) -> dict[str, Retention | None]:
        self.asked.append(set(topics))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_topics_are_asked_for_once_and_when_they_are_new() -> None:
    """Neither each refresh nor each partition costs a request."""
    broker = Broker({"orders": Retention(1)}, {"orders": Retention(1), "more": None})
    watch = RetentionWatch(broker)
    for topics in ({"orders"}, {"orders"}, {"orders", "more"}, {"orders"}, {"orders", "more"}):
        await watch.refresh(topics)
    assert [{"orders"}, {"orders", "more"}] == broker.asked
    assert (Retention(1), None) == (watch.retention("orders"), watch.retention("more"))


async def test_change_of_a_topic_is_seen_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ten minutes; an answer that does not come leaves what was known."""
    monkeypatch.setattr(retention_watch, "ASK_AGAIN_SECONDS", 0.0)
    broker = Broker({"orders": Retention(1)}, AWAY, {"orders": Retention(2)})
    watch = RetentionWatch(broker)
    seen = []
    for _ in range(3):
        await watch.refresh({"orders"})
        seen.append(watch.retention("orders"))
    assert [Retention(1), Retention(1), Retention(2)] == seen


@pytest.mark.parametrize("answer", [{"orders": None}, AWAY])
async def test_denied_retention_is_unknown_and_said_once(
    answer: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number is made up, and the log names both remedies."""
    monkeypatch.setattr(retention_watch, "ASK_AGAIN_SECONDS", 0.0)
    watch = RetentionWatch(Broker(answer, answer))
    with caplog.at_level("INFO"):
        await watch.refresh({"orders"})
        await watch.refresh({"orders"})
    assert watch.seconds_to_loss(HERE, watermark=1, end=2, oldest_timestamp_ms=1) is None
    (line,) = caplog.messages
    assert "DESCRIBE_CONFIGS" in line
    assert "STREAMS_KAFKA_RETENTION_SECONDS" in line


async def test_retention_that_is_set_is_not_asked_for() -> None:
    """STREAMS_KAFKA_RETENTION_SECONDS spares the permission."""
    broker = Broker()
    watch = RetentionWatch(broker, Retention(WEEK))
    await watch.refresh({"orders"})
    assert ([], Retention(WEEK)) == (broker.asked, watch.retention("orders"))


def test_nothing_is_at_risk_where_everything_is_durable() -> None:
    """Infinite, even while the retention is unknown; unknown while the end is."""
    watch = RetentionWatch(Broker())
    assert math.inf == watch.seconds_to_loss(HERE, watermark=5, end=5, oldest_timestamp_ms=None)
    assert watch.seconds_to_loss(HERE, watermark=5, end=None, oldest_timestamp_ms=None) is None
    assert watch.seconds_to_loss(HERE, watermark=None, end=5, oldest_timestamp_ms=None) is None
    unlimited = RetentionWatch(Broker(), Retention())
    assert math.inf == unlimited.seconds_to_loss(HERE, watermark=5, end=9, oldest_timestamp_ms=None)


def test_growth_is_that_of_the_last_minutes() -> None:
    """A burst of an hour ago does not count; a partition that was made anew begins afresh."""
    watch = RetentionWatch(Broker())
    for second in range(0, 3_600, 5):
        watch.note_ends({HERE: 1_000_000 if second < 1_800 else 1_000_000 + second, THERE: 0}, float(second))
    assert watch.events_per_second(HERE, 1_003_600, 3_600.0) == pytest.approx(1.0)
    assert 0 == watch.events_per_second(THERE, 0, 3_600.0)
    watch.note_ends({HERE: 10}, 3_600.0)
    assert watch.events_per_second(HERE, 20, 3_610.0) == pytest.approx(1.0)
    assert watch.events_per_second(THERE, 0, 3_610.0) is None


def test_only_partitions_of_limited_size_need_their_first_offset() -> None:
    """The others cost no request."""
    assert [] == RetentionWatch(Broker(), Retention(1)).limited_by_size([HERE])
    assert [HERE] == RetentionWatch(Broker(), Retention(1, 1)).limited_by_size([HERE])
    assert [] == RetentionWatch(Broker()).limited_by_size([HERE])
