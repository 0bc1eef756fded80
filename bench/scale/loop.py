"""The autoscaler's rule in the loop: it reads the group's lag and starts and stops real workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.scale.cluster import Cluster, cluster
from bench.scale.results import LoopRun
from bench.scale.rules import Autoscaler, Rule
from bench.scale.simulation import Step, load_at

Tell = Callable[[str], None]


def run_loop(steps: Sequence[Step], rule: Rule, total_seconds: float, tell: Tell) -> LoopRun:
    """Follow the load of `steps` for so many seconds; the workers begin at the rule's minimum."""
    scaler = Autoscaler(rule)
    changes = 0
    with cluster() as group:
        group.wait_ready(group.start_more(rule.minimum))
        with group.watch() as watch:
            next_poll = 0.0
            while (now := watch.seconds) < total_seconds:
                group.load.rate = load_at(steps, now)
                if now >= next_poll and watch.lag is not None:
                    changes += _scale(group, scaler.decide(now, watch.lag, len(group.workers)), now, watch.lag, tell)
                    next_poll += rule.sync_seconds
                watch.pause(0.25)
            group.load.stop()
            group.drain()
            group.wait_left()
            watch.pause(1.0)
            durable = watch.durable[-1][1]
        return LoopRun(
            rule=rule,
            steps=list(steps),
            points=watch.points,
            published=group.load.published,
            durable=durable,
            repeated=watch.puts - durable,
            changes=changes,
            seconds=total_seconds,
        )


def _scale(group: Cluster, wanted: int, now: float, lag: int, tell: Tell) -> int:
    """1 when something was changed."""
    running = len(group.workers)
    if wanted == running:
        return 0
    tell(f"{now:5.0f} s  {group.load.rate:,.0f} events/s, lag {lag:,}: {running} → {wanted} workers")
    if wanted > running:
        group.start_more(wanted - running)
    else:
        group.stop_some(running - wanted)
    return 1
