"""What is counted, and that percentiles, rates and waiting events say what happened."""

from __future__ import annotations

from streams.errors import RecordRejectedError
from streams.record import Record
from streams.stats import Stats


def record(offset: int, topic: str = "orders") -> Record:
    return Record(topic, 0, offset, None, None, None, b"v")


def test_percentiles_cover_the_last_minute_only() -> None:
    """Slow writes of an hour ago do not colour today's percentiles."""
    stats = Stats()
    for _ in range(100):
        stats.written("orders", 5.0, 1)
    for second in range(100):
        stats.tick(float(second))
    for _ in range(100):
        stats.written("orders", 0.049, 1)
    assert {0.5: 0.05, 0.99: 0.05} == stats.latency.percentiles_seconds((0.5, 0.99))


def test_percentiles_of_nothing_are_unknown() -> None:
    """No write, no latency."""
    assert {0.5: None} == Stats().latency.percentiles_seconds((0.5,))


def test_latency_past_the_last_bound_is_counted() -> None:
    """A write of two minutes is not lost from the histogram."""
    stats = Stats()
    stats.written("orders", 120.0, 1)
    assert sum(stats.latency.counts) == 1
    assert stats.latency.percentiles_seconds((0.5,)) == {0.5: 80}


def test_rates_are_taken_over_their_window() -> None:
    """100 events in the last 10 s are 10 a second."""
    stats = Stats(started=0.0)
    stats.tick(50.0)
    for _ in range(100):
        stats.written("orders", 0.01, 7)
    assert {"events_per_second": 10.0, "bytes_per_second": 70.0} == stats.rates(60.0)["10s"]


def test_retrying_event_keeps_its_first_failure_time_until_it_is_done() -> None:
    """The age of a waiting event is that of its trouble, not of its last attempt."""
    stats = Stats()
    stats.retrying(record(3), "throttled", "SlowDown", 1)
    since = stats.waiting["orders", 0, 3].since
    stats.retrying(record(3), "server_error", "InternalError", 2)
    waiting = stats.waiting["orders", 0, 3]
    assert (since, "server_error", 2) == (waiting.since, waiting.reason, waiting.attempts)
    stats.no_longer_waiting(record(3))
    assert not stats.waiting


def test_sink_is_failing_until_something_is_durable_again() -> None:
    """The worker holds from the first failure without a success after it."""
    stats = Stats()
    story = [stats.sink_failing]
    stats.retrying(record(0), "connection", "refused", 1)
    story.append(stats.sink_failing)
    stats.written("orders", 0.01, 1)
    story.append(stats.sink_failing)
    assert [False, True, False] == story


def test_held_partition_shows_its_lowest_event() -> None:
    """Of several rejected events the first one stops the partition."""
    stats = Stats()
    stats.held(record(9), RecordRejectedError("too_large", "nine"))
    stats.held(record(4), RecordRejectedError("key_template", "four"))
    stats.held(record(7), RecordRejectedError("too_large", "seven"))
    assert stats.holds["orders", 0].offset == 4
