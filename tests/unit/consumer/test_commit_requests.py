"""Commits of many partitions with much metadata are cut into what Kafka can keep as one batch."""

from __future__ import annotations

from streams.consumer.poller import CommitPoint, commit_requests
from streams.record import TopicPartition

KAFKA_BATCH_BYTES = 1_048_588
"""`max.message.bytes` of a broker that nobody has configured."""


def test_usual_commit_is_one_request() -> None:
    """A thousand partitions without gaps go together."""
    points = {TopicPartition("orders", number): CommitPoint(number, "v1 7px", 1) for number in range(1_000)}
    assert [points] == list(commit_requests(points))


def test_commit_with_much_metadata_is_cut() -> None:
    """Every partition once, in order, and no part near the limit."""
    points = {TopicPartition("orders", number): CommitPoint(number, "x" * 4_000, 1) for number in range(1_000)}
    parts = list(commit_requests(points))
    assert points == {tp: point for part in parts for tp, point in part.items()}
    assert 1_000 == sum(map(len, parts))
    assert max(sum(4_300 for _ in part) for part in parts) < KAFKA_BATCH_BYTES / 2


def test_nothing_to_commit_is_no_request() -> None:
    """As before."""
    assert [] == list(commit_requests({}))
