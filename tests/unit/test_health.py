"""Liveness asks whether a restart would help; readiness asks whether the worker takes part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streams import health
from streams.health import Situation, liveness, readiness

WELL = Situation(
    rebalancing_seconds=0.0,
    lag_of_moving_partitions=10,
    behind_seconds=1.0,
    since_acknowledged_seconds=1.0,
    uncommitted_seconds=1.0,
    since_brokers_answered_seconds=1.0,
    refused_seconds=0.0,
    sink_failing=False,
    assigned=True,
    stopping=False,
)
STALLED = {"behind_seconds": 301.0, "since_acknowledged_seconds": 301.0}
AWAY = {"since_brokers_answered_seconds": 61.0}


@pytest.mark.parametrize(
    ("case", "changes", "alive"),
    [
        ("the ordinary case", {}, True),
        ("events in Kafka, none acknowledged for minutes, and S3 is not to blame", STALLED, False),
        ("the same while S3 is away: a restart does not bring it back", {**STALLED, "sink_failing": True}, True),
        ("the same while Kafka is away", {**STALLED, **AWAY}, True),
        ("the same in a rebalance, which has a rule of its own", {**STALLED, "rebalancing_seconds": 5.0}, True),
        (
            "idle for long: nothing to acknowledge",
            {"lag_of_moving_partitions": 0, "behind_seconds": None, "since_acknowledged_seconds": 9_999.0},
            True,
        ),
        ("an event after a long idle time is no stall", {"since_acknowledged_seconds": 9_999.0}, True),
        ("behind for long, but it moves", {"behind_seconds": 9_999.0}, True),
        (
            "unknown lag is no reason to restart",
            {"lag_of_moving_partitions": None, "behind_seconds": None, "since_acknowledged_seconds": 9_999.0},
            True,
        ),
        ("a group that never settles wants a fresh member", {"rebalancing_seconds": 301.0}, False),
        ("the same while Kafka is away", {"rebalancing_seconds": 301.0, **AWAY}, True),
        ("a zombie: it writes and never commits", {"uncommitted_seconds": 301.0}, False),
        ("the same, with brokers that answered within the last minute", {"uncommitted_seconds": 301.0}, False),
        ("the same while Kafka is away", {"uncommitted_seconds": 9_999.0, **AWAY}, True),
        (
            "the same while nobody knows whether Kafka is there",
            {"uncommitted_seconds": 9_999.0, "since_brokers_answered_seconds": None},
            True,
        ),
        (
            "the same while S3 fails as well",
            {"uncommitted_seconds": 301.0, "sink_failing": True},
            False,
        ),
        ("commits that are late for less", {"uncommitted_seconds": 299.0}, True),
        ("nothing to commit", {"uncommitted_seconds": None}, True),
        ("a refused login, for minutes: a restart reads the new one", {"refused_seconds": 301.0, **AWAY}, False),
        ("the same for less: brokers that start may refuse everybody", {"refused_seconds": 299.0, **AWAY}, True),
        ("what blocks readiness is no reason to restart", {"blocking": ("kafka_unreachable",)}, True),
    ],
)
def test_liveness(case: str, changes: dict[str, Any], alive: bool) -> None:
    """Only what a restart would mend makes it fail."""
    assert (case, alive) == (case, liveness(replace(WELL, **changes)).ok)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (STALLED, "Kafka has 10 events and none was acknowledged for 301 s"),
        ({"rebalancing_seconds": 301.0}, "a rebalance has lasted for 301 s"),
        ({"uncommitted_seconds": 301.0}, "events are durable and nothing was committed for 301 s"),
        (AWAY, "no broker has answered of late"),
        ({"refused_seconds": 301.0, **AWAY}, "no broker accepts this worker's login or TLS, for 301 s: a restart"),
    ],
)
def test_liveness_says_why(changes: dict[str, Any], words: str) -> None:
    """Whoever reads the probe's answer knows what it was."""
    assert words in liveness(replace(WELL, **changes)).reason


def test_commit_limit_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test with a real broker need not wait for five minutes."""
    monkeypatch.setattr(health, "COMMIT_LIMIT_SECONDS", 3.0)
    assert not liveness(replace(WELL, uncommitted_seconds=4.0)).ok


@pytest.mark.parametrize(
    ("changes", "ready", "words"),
    [
        ({}, True, "ready"),
        ({"assigned": False}, False, "waiting for the consumer group"),
        ({"stopping": True}, False, "stopping"),
        ({"stopping": True, "assigned": False, "blocking": ("x",)}, False, "stopping"),
        ({"blocking": ("kafka_unreachable, for 3 s: no", "topic_recreated a: no")}, False, "for 3 s: no; topic_recr"),
        ({"assigned": False, "blocking": ("kafka_unreachable: no",)}, False, "partitions; kafka_unreachable: no"),
        ({"sink_failing": True}, True, "ready"),
        ({"uncommitted_seconds": 9_999.0}, True, "ready"),
    ],
)
def test_readiness(changes: dict[str, Any], ready: bool, words: str) -> None:
    """503 while it takes no part in its group, with every reason."""
    verdict = readiness(replace(WELL, **changes))
    assert ready == verdict.ok
    assert words in verdict.reason
