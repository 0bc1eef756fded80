"""Liveness asks whether a restart would help; readiness asks whether the worker takes part."""

from __future__ import annotations

from dataclasses import replace

from streams.health import REBALANCE_LIMIT_SECONDS, STALL_LIMIT_SECONDS, Condition, liveness, readiness

WELL = Condition(
    rebalancing_seconds=0.0,
    lag_of_moving_partitions=10,
    since_acknowledged_seconds=1.0,
    sink_failing=False,
    assigned=True,
    stopping=False,
)
STALLED = replace(WELL, since_acknowledged_seconds=STALL_LIMIT_SECONDS + 1)


def test_working_worker_is_alive_and_ready() -> None:
    """The ordinary case."""
    assert (True, True) == (liveness(WELL).ok, readiness(WELL).ok)


def test_sink_outage_never_fails_liveness() -> None:
    """A restart does not bring S3 back; it only repeats work."""
    assert liveness(replace(STALLED, sink_failing=True)).ok


def test_stall_while_the_sink_answers_fails_liveness() -> None:
    """Events in Kafka, no acknowledgement for minutes, and S3 is not to blame: restart."""
    verdict = liveness(STALLED)
    assert not verdict.ok
    assert "none was acknowledged" in verdict.reason


def test_idle_worker_is_alive_however_long_nothing_came() -> None:
    """No lag, no acknowledgement, no problem."""
    assert liveness(replace(STALLED, lag_of_moving_partitions=0)).ok


def test_unknown_lag_does_not_fail_liveness() -> None:
    """What the broker has not told yet is no reason to restart."""
    assert liveness(replace(STALLED, lag_of_moving_partitions=None)).ok


def test_endless_rebalance_fails_liveness() -> None:
    """A group that never settles wants a fresh member."""
    assert not liveness(replace(WELL, rebalancing_seconds=REBALANCE_LIMIT_SECONDS + 1)).ok


def test_unassigned_worker_is_not_ready() -> None:
    """Before the group has answered there is nothing to be ready for."""
    assert not readiness(replace(WELL, assigned=False)).ok


def test_stopping_worker_is_not_ready() -> None:
    """A worker on its way out takes nothing new."""
    assert not readiness(replace(WELL, stopping=True)).ok
