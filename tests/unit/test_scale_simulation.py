"""The simulated group: its lag must be what arithmetic by hand gives."""

from __future__ import annotations

import pytest

from bench.scale.rules import Rule
from bench.scale.scenarios import big_load
from bench.scale.simulation import Group, Moment, Step, ages, load_at, outcome, simulate

GROUP = Group(events_per_second=100, start_seconds=10, rebalance_seconds=2, commit_seconds=0)
FIXED = Rule(lag_threshold=1_000_000, minimum=2, maximum=2, partitions=10)


def test_a_group_that_is_large_enough_has_no_lag() -> None:
    """Two workers of 100 events/s keep up with 150."""
    assert 0 == max(moment.lag for moment in simulate([Step(0, 150)], GROUP, FIXED, 60))


def test_a_group_that_is_too_small_falls_behind_by_the_difference() -> None:
    """300 in, 200 out: 100 more every second."""
    assert 6000 == pytest.approx(simulate([Step(0, 300)], GROUP, FIXED, 60)[-1].lag)


def test_what_is_not_committed_counts_as_lag() -> None:
    """An autoscaler sees committed offsets: 150 events/s and a second to the next commit look like 150 events."""
    group = Group(100, 10, 2, commit_seconds=1)
    assert 150 == simulate([Step(0, 150)], group, FIXED, 60)[-1].lag


def test_new_workers_come_after_their_start_and_stop_everybody_once() -> None:
    """Asked for at 0, ready at 10: until then and for the 2 s of the rebalance the lag grows."""
    rule = Rule(lag_threshold=100, minimum=1, maximum=4, partitions=10)
    moments = simulate([Step(0, 300)], GROUP, rule, 60, tick_seconds=1)
    by_second = {moment.seconds: moment for moment in moments}
    asked = next(moment.seconds for moment in moments if moment.workers == 4)
    ready = next(moment.seconds for moment in moments if moment.ready == 4)
    assert 10 == ready - asked
    assert by_second[ready].lag + 600 == by_second[ready + 2].lag
    assert by_second[ready + 2].lag - 100 == by_second[ready + 3].lag


def test_workers_that_are_taken_away_stop_everybody_too() -> None:
    """After the stabilization the surplus goes, and a rebalance costs its two seconds of load."""
    rule = Rule(lag_threshold=100, minimum=1, maximum=4, partitions=10, scale_down_stabilization_seconds=30)
    moments = simulate([Step(0, 50)], GROUP, rule, 120, workers=4)
    gone = next(moment.seconds for moment in moments if moment.workers == 1)
    assert 100 == max(moment.lag for moment in moments if moment.seconds >= gone)


def test_the_load_is_that_of_the_last_step() -> None:
    """Nothing before the first, then each until the next."""
    steps = [Step(10, 5), Step(20, 7)]
    assert [0, 5, 5, 7, 7] == [load_at(steps, at) for at in (0, 10, 19.9, 20, 99)]


def test_the_oldest_event_is_as_old_as_the_load_says() -> None:
    """10 events/s, and nothing is written after the first 50: the oldest that waits came in at second 5."""
    moments = [Moment(float(at), 10.0, max(0.0, 10.0 * at - 50), 1, 1) for at in range(13)]
    assert 7 == ages(moments)[-1]
    assert 0 == ages(moments)[5]


def test_outcome_names_peak_and_recovery() -> None:
    """The highest lag, and when it was down to two seconds of the load again."""
    lags = [0.0, 0.0, 500.0, 300.0, 20.0, 0.0]
    moments = [Moment(float(at), 10.0, lag, 1 + at % 2, 1) for at, lag in enumerate(lags)]
    found = outcome(moments, since=1)
    assert (500, 3, 2, 5) == (found.most_lag, found.caught_up_seconds, found.most_workers, found.changes)


def test_a_threshold_above_what_is_always_uncommitted_makes_the_group_swing() -> None:
    """The advice of docs/scale.md: half a second of a worker's work settles, ten seconds of it scale up and down."""
    low, high = big_load([(0.5, 300.0), (10.0, 300.0)])
    assert low.outcome.changes < high.outcome.changes / 2
