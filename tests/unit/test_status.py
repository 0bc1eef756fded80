"""What the pages and the health rules take from the status."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.web import condition_of
from tests.unit.status_of_nobody import StatusOfNobody, partition


def moving_lag(status: StatusOfNobody) -> int | None:
    """What liveness sees."""
    return condition_of(cast(Any, SimpleNamespace(should_stop=False)), status).lag_of_moving_partitions


def test_paused_topic_is_no_stall() -> None:
    """What waits on purpose counts for nothing; what was taken before the pause is still to be finished."""
    status = StatusOfNobody()
    status.shown = [partition(0, end=1005, paused=True), partition(1, end=1005, pending=3, paused=True), partition(2)]
    assert 3 == moving_lag(status)
    status.shown = [partition(0, end=None, paused=True)]
    assert 0 == moving_lag(status)


def test_moving_topic_beside_a_paused_one_counts() -> None:
    """A stall of the other topic is still seen."""
    status = StatusOfNobody()
    status.shown = [partition(0, end=1005, paused=True), partition(0, "payments", end=12)]
    assert 7 == moving_lag(status)


@pytest.mark.parametrize(("seconds", "at_risk"), [(None, None), (float("inf"), False), (12.0, True), (0.0, True)])
def test_nothing_at_risk_differs_from_unknown(seconds: float | None, at_risk: bool | None) -> None:
    """JSON has no infinity, so a field of its own says which null it is."""
    status = StatusOfNobody()
    status.shown = [partition(time_to_loss_seconds=seconds)]
    (shown,) = status.document()["partitions"]
    assert at_risk is shown["at_risk"]
    assert (seconds if at_risk else None) == shown["time_to_loss_seconds"]


def test_last_rebalance_is_when_it_was_counted() -> None:
    """Seen at the next tick, and kept until the next rebalance."""
    status = StatusOfNobody()
    status.tick(1.0)
    assert status.document()["last_rebalance_seconds_ago"] is None
    status.stats.rebalances += 1
    status.tick(2.0)
    status.tick(3.0)
    assert 2.0 == status.last_rebalance
