"""How many workers KEDA's Kafka scaler and the HorizontalPodAutoscaler behind it would run. Pure.

KEDA hands the group's total lag to an HPA, cut off where there would be more workers than partitions
(`getTotalLag` in kedacore/keda, pkg/scalers/kafka_scaler.go); the target is an average for each worker, `lagThreshold`.
The HPA looks every 15 s and wants ceil(lag / threshold). It changes nothing while the lag is within a tolerance of what
suits those that run, adds at most the larger of 4 workers and as many as there were in 15 s, and takes away only what
every recommendation of the last 300 s allows (the defaults of `spec.behavior`; kubernetes.io, "Horizontal Pod
Autoscaling"). KEDA's own `pollingInterval` and `cooldownPeriod` concern the way from and to zero workers alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rule:
    """The settings of a `ScaledObject` and of its HPA; seconds and workers."""

    lag_threshold: int
    minimum: int
    maximum: int
    partitions: int
    sync_seconds: float = 15.0
    tolerance: float = 0.1
    scale_down_stabilization_seconds: float = 300.0
    scale_up_workers: int = 4
    scale_up_share: float = 1.0
    period_seconds: float = 15.0

    def metric(self, total_lag: int) -> int:
        """What KEDA reports: the lag, but no more than keeps every partition's worker busy."""
        if total_lag // self.lag_threshold > self.partitions:
            return self.partitions * self.lag_threshold
        return total_lag

    def wanted(self, total_lag: int, running: int) -> int:
        """The HPA's recommendation, before it is slowed down."""
        metric = self.metric(total_lag)
        if running and abs(metric / (self.lag_threshold * running) - 1) <= self.tolerance:
            return running
        return self.bounded(math.ceil(metric / self.lag_threshold))

    def bounded(self, workers: int) -> int:
        """Within the minimum, the maximum and the partitions."""
        return max(self.minimum, min(workers, self.maximum, self.partitions))


@dataclass(slots=True)
class Autoscaler:
    """Rule and memory: what was recommended, and what was added, in the windows that count."""

    rule: Rule
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _added: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, total_lag: int, running: int) -> int:
        """How many workers there should be now; call it every `sync_seconds`."""
        rule = self.rule
        wanted = rule.wanted(total_lag, running)
        self._wanted.append((now, wanted))
        _forget(self._wanted, now - rule.scale_down_stabilization_seconds)
        _forget(self._added, now - rule.period_seconds)
        if wanted < running:
            # The highest of the window: a moment without lag is no reason to stop anybody.
            return rule.bounded(min(running, max(one for _, one in self._wanted)))
        decided = rule.bounded(max(running, min(wanted, self._most(running))))
        if decided > running:
            self._added.append((now, decided - running))
        return decided

    def _most(self, running: int) -> int:
        """What the scale-up policies allow: counted from what ran at the beginning of their period."""
        before = running - sum(added for _, added in self._added)
        return max(before + self.rule.scale_up_workers, math.ceil(before * (1 + self.rule.scale_up_share)))


def _forget(window: deque[tuple[float, int]], before: float) -> None:
    while window and window[0][0] < before:
        window.popleft()
