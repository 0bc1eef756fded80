"""The loads that are measured, and those that are simulated because they do not fit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.scale.cluster import PARTITIONS
from bench.scale.rules import Rule
from bench.scale.simulation import Group, Moment, Outcome, Step, outcome, simulate

STEPS = (1, 2, 4, 8, 4)
STEPS_LOAD = 1600
LOOP_STEPS = (Step(0, 150), Step(30, 1200), Step(150, 2000), Step(210, 150))
LOOP_SECONDS = 360.0
LOOP_RULE = Rule(
    lag_threshold=200,
    minimum=1,
    maximum=8,
    partitions=PARTITIONS,
    # Everything five times as fast as in Kubernetes, so that the run takes minutes.
    sync_seconds=3.0,
    scale_down_stabilization_seconds=60.0,
    period_seconds=3.0,
)
_BIG_GROUP = Group(events_per_second=5_000, start_seconds=60.0, rebalance_seconds=1.0, commit_seconds=0.6)
_FEWEST, _MOST, _BIG_PARTITIONS = 5, 40, 120
_BEFORE, _AFTER = 20_000, 100_000
_RISES_AT, _FALLS_AT, _ENDS_AT = 600.0, 2400.0, 4200.0
# Lag threshold in seconds of what one worker writes, and HPA's scale-down stabilization in seconds (default 300).
_VARIANTS = ((0.5, 300.0), (2.0, 300.0), (10.0, 300.0), (60.0, 300.0), (0.5, 1800.0), (10.0, 1800.0))


@dataclass(frozen=True, slots=True)
class Simulated:
    """A rule, and what came of the same rise and fall with it."""

    threshold_seconds: float
    rule: Rule
    moments: list[Moment]
    outcome: Outcome


def big_load(variants: Sequence[tuple[float, float]] = _VARIANTS) -> list[Simulated]:
    """A load that becomes five times as large for half an hour, with Kubernetes' defaults otherwise."""
    steps = (Step(0, _BEFORE), Step(_RISES_AT, _AFTER), Step(_FALLS_AT, _BEFORE))
    found = []
    for seconds, stabilization_seconds in variants:
        rule = Rule(
            lag_threshold=int(seconds * _BIG_GROUP.events_per_second),
            minimum=_FEWEST,
            maximum=_MOST,
            partitions=_BIG_PARTITIONS,
            scale_down_stabilization_seconds=stabilization_seconds,
        )
        moments = simulate(steps, _BIG_GROUP, rule, _ENDS_AT)
        found.append(Simulated(seconds, rule, moments, outcome(moments, _RISES_AT)))
    return found


def big_load_in_words() -> str:
    """What was simulated, for the documentation."""
    group = _BIG_GROUP
    return (
        f"{_BEFORE:,} events/s, {_AFTER:,} from minute {_RISES_AT / 60:.0f} to minute {_FALLS_AT / 60:.0f}; a worker "
        f"writes {group.events_per_second:,.0f} events/s, is ready {group.start_seconds:.0f} s after it was asked for, "
        f"and a rebalance stops everybody for {group.rebalance_seconds:.0f} s; {_FEWEST} to {_MOST} workers, "
        f"{_BIG_PARTITIONS} partitions, Kubernetes' defaults otherwise."
    )
