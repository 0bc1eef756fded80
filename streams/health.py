"""When a worker is alive and when it is ready: the rules behind `/health/live` and `/health/ready`.

Liveness answers "would a restart help?", so neither an outage of S3 nor one of Kafka ever fails it; brokers that are
there and refuse do, since secrets and certificates are read at the start. Pure: every input is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

REBALANCE_LIMIT_SECONDS = 300.0
STALL_LIMIT_SECONDS = 300.0
COMMIT_LIMIT_SECONDS = 300.0
REFUSED_LIMIT_SECONDS = 300.0
BROKERS_ANSWER_SECONDS = 60.0
"""Brokers that answered anything within this time are there: what does not work then is this worker's own."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules look at; durations in seconds, `None` where there is nothing to measure."""

    rebalancing_seconds: float
    lag_of_moving_partitions: int | None
    """Lag of the partitions that are not held on purpose."""
    behind_seconds: float | None
    """How long that lag has been there without a break; `None`: there is none, or it is unknown."""
    since_acknowledged_seconds: float
    uncommitted_seconds: float | None
    """How long durable events have waited for a commit while none at all was accepted; `None`: none wait."""
    since_brokers_answered_seconds: float | None
    refused_seconds: float
    """How long brokers have only refused this worker's login or TLS; 0 where they do not."""
    sink_failing: bool
    assigned: bool
    """Whether the group has given this worker its share (which may be empty: a spare worker)."""
    stopping: bool
    blocking: tuple[str, ...] = ()
    """What the worker is not ready for: conditions that block readiness, each as a sentence."""

    @property
    def brokers_answer(self) -> bool:
        """Whether Kafka is there."""
        since = self.since_brokers_answered_seconds
        return since is not None and since <= BROKERS_ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it holds, and the sentence that says why not."""

    ok: bool
    reason: str


def liveness(situation: Situation) -> Verdict:
    """A blocked event loop needs no rule: it cannot answer at all."""
    if situation.refused_seconds > REFUSED_LIMIT_SECONDS:
        return Verdict(
            False,
            f"no broker accepts this worker's login or TLS, for {situation.refused_seconds:.0f} s: a restart reads "
            "secrets and certificates again",
        )
    if not situation.brokers_answer:
        return Verdict(True, "alive; no broker has answered of late, which a restart would not change")
    problem = _endless_rebalance(situation) or _stall(situation) or _no_commit(situation)
    return Verdict(False, problem) if problem else Verdict(True, "alive")


def _endless_rebalance(situation: Situation) -> str | None:
    if situation.rebalancing_seconds <= REBALANCE_LIMIT_SECONDS:
        return None
    return f"a rebalance has lasted for {situation.rebalancing_seconds:.0f} s"


def _stall(situation: Situation) -> str | None:
    if situation.sink_failing or situation.rebalancing_seconds or situation.behind_seconds is None:
        return None
    seconds = min(situation.behind_seconds, situation.since_acknowledged_seconds)
    if seconds <= STALL_LIMIT_SECONDS:
        return None
    return (
        f"Kafka has {situation.lag_of_moving_partitions} events and none was acknowledged for {seconds:.0f} s, "
        "although the sink answers"
    )


def _no_commit(situation: Situation) -> str | None:
    seconds = situation.uncommitted_seconds
    if seconds is None or seconds <= COMMIT_LIMIT_SECONDS:
        return None
    return f"events are durable and nothing was committed for {seconds:.0f} s, although the brokers answer"


def readiness(situation: Situation) -> Verdict:
    """Ready once the group has answered; a worker on its way out, or without what it needs, is not ready."""
    if situation.stopping:
        return Verdict(False, "stopping: finishing the writes in flight")
    if not situation.assigned:
        waiting = "waiting for the consumer group to assign partitions"
        return Verdict(False, "; ".join((waiting, *situation.blocking)))
    if situation.blocking:
        return Verdict(False, "; ".join(situation.blocking))
    return Verdict(True, "ready")
