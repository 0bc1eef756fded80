"""The autoscaler's rule is KEDA's and the HPA's: what it decides must be what they would."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scale.rules import Autoscaler, Rule

RULE = Rule(lag_threshold=100, minimum=1, maximum=20, partitions=12)


@pytest.mark.parametrize(
    ("lag", "running", "expected"),
    [(0, 3, 1), (100, 1, 1), (101, 3, 2), (550, 3, 6), (99_999, 3, 12)],
    ids=["none", "one worker's share", "a little more", "in between", "more than there are partitions"],
)
def test_one_worker_for_each_threshold_of_lag(lag: int, running: int, expected: int) -> None:
    """ceil(lag / threshold), never below the minimum, never above the partitions."""
    assert expected == RULE.wanted(lag, running)


def test_a_lag_that_suits_those_that_run_changes_nothing() -> None:
    """Within a tenth of what suits the workers the HPA leaves everything as it is; beyond, it does not."""
    assert 5 == RULE.wanted(545, 5)
    assert 6 == RULE.wanted(555, 5)
    assert 5 == RULE.wanted(451, 5)
    assert 4 == RULE.wanted(400, 5)


def test_the_metric_is_cut_off_at_the_partitions() -> None:
    """KEDA reports no more lag than keeps one worker for each partition busy."""
    assert 1200 == RULE.metric(5000)
    assert 1250 == RULE.metric(1250)  # as KEDA divides: 12 whole thresholds are not more than 12 partitions


def test_the_maximum_bounds_what_partitions_would_allow() -> None:
    """`maxReplicaCount` holds."""
    assert 4 == replace(RULE, maximum=4).wanted(5000, 3)


def test_scale_up_adds_at_most_four_or_as_many_as_there_were_in_a_period() -> None:
    """The larger of 4 workers and 100 %, counted from what ran when the period began."""
    scaler = Autoscaler(replace(RULE, partitions=100, maximum=100))
    assert 5 == scaler.decide(0, 9000, 1)
    assert 5 == scaler.decide(5, 9000, 5)
    assert 10 == scaler.decide(16, 9000, 5)
    assert 20 == scaler.decide(32, 9000, 10)


def test_a_moment_without_lag_stops_nobody() -> None:
    """Scale-down takes the highest recommendation of the last 300 s."""
    scaler = Autoscaler(RULE)
    assert 6 == scaler.decide(0, 600, 6)
    assert 6 == scaler.decide(15, 0, 6)
    assert 6 == scaler.decide(299, 0, 6)
    assert 1 == scaler.decide(301, 0, 6)


def test_scale_down_goes_no_lower_than_the_window_allows() -> None:
    """A recommendation of three within the window keeps three."""
    scaler = Autoscaler(RULE)
    scaler.decide(0, 600, 6)
    scaler.decide(200, 300, 6)
    assert 3 == scaler.decide(301, 0, 6)


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=60), st.integers(1, 500))
def test_it_never_leaves_its_bounds(lags: list[int], threshold: int) -> None:
    """Whatever the lag does, there are between minimum and min(maximum, partitions) workers."""
    rule = Rule(lag_threshold=threshold, minimum=2, maximum=9, partitions=7)
    scaler, running = Autoscaler(rule), 2
    for number, lag in enumerate(lags):
        running = scaler.decide(number * 15.0, lag, running)
        assert 2 <= running <= 7
