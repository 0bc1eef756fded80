"""When a worker is alive and when it is ready: the rules behind `/health/live` and `/health/ready`.

Liveness answers "would a restart help?", so an outage of S3 never fails it. Pure: every input is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

REBALANCE_LIMIT_SECONDS = 300.0
STALL_LIMIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Condition:
    """What the rules look at; durations in seconds, `None` where there is nothing to measure yet."""

    rebalancing_seconds: float
    lag_of_moving_partitions: int | None
    """Lag of the partitions that are not held on purpose."""
    since_acknowledged_seconds: float
    sink_failing: bool
    assigned: bool
    """Whether the group has given this worker its share (which may be empty: a spare worker)."""
    stopping: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it holds, and the sentence that says why not."""

    ok: bool
    reason: str


def liveness(condition: Condition) -> Verdict:
    """A blocked event loop needs no rule: it cannot answer at all."""
    if condition.rebalancing_seconds > REBALANCE_LIMIT_SECONDS:
        return Verdict(False, f"a rebalance has lasted for {condition.rebalancing_seconds:.0f} s")
    stalled = condition.since_acknowledged_seconds > STALL_LIMIT_SECONDS and not condition.sink_failing
    if stalled and condition.lag_of_moving_partitions and not condition.rebalancing_seconds:
        return Verdict(
            False,
            f"Kafka has {condition.lag_of_moving_partitions} events and none was acknowledged "
            f"for {condition.since_acknowledged_seconds:.0f} s, although the sink answers",
        )
    return Verdict(True, "alive")


def readiness(condition: Condition) -> Verdict:
    """Ready once the group has answered; a worker on its way out is not ready."""
    if condition.stopping:
        return Verdict(False, "stopping: finishing the writes in flight")
    if not condition.assigned:
        return Verdict(False, "waiting for the consumer group to assign partitions")
    return Verdict(True, "ready")
