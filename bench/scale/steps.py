"""Scales a group out and in under a steady load, and measures what each change costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from bench import processes
from bench.scale.cluster import IN_FLIGHT, LATENCY_MS, PARTITIONS, Cluster, Watch, cluster
from bench.scale.results import Change, StepsRun

_SETTLE_SECONDS = 2.0
_CATCH_UP_SECONDS = 240.0

Tell = Callable[[str], None]


def run_steps(counts: Sequence[int], load: int, hold_seconds: float, tell: Tell) -> StepsRun:
    """Run `counts[0]` workers, then `counts[1]`, ...; at the largest number the lag is worked off."""
    with cluster() as group:
        group.wait_ready(group.start_more(counts[0]))
        group.load.rate = load
        with group.watch() as watch:
            cpu, busy, began = group.cpu_seconds(), processes.machine_busy_seconds(), time.monotonic()
            changes = [_first(group, watch, counts[0], hold_seconds)]
            for before, after in pairwise(counts):
                changes.append(_change(group, watch, before, after, hold_seconds))
                _tell(changes[-1], watch, tell)
                if after == max(counts):
                    _catch_up(watch, load)
            group.load.stop()
            cpu = group.cpu_seconds() - cpu
            others = max(0.0, processes.machine_busy_seconds() - busy - cpu) / (time.monotonic() - began)
            group.drain()
            watch.pause(_SETTLE_SECONDS)
            durable = watch.durable[-1][1]
        return StepsRun(
            load=load,
            latency_ms=LATENCY_MS,
            in_flight=IN_FLIGHT,
            partitions=PARTITIONS,
            changes=changes,
            points=watch.points,
            published=group.load.published,
            durable=durable,
            repeated=watch.puts - durable,
            worker_cpu_us_per_event=cpu / max(1, durable) * 1e6,
            others_cores=others,
        )


def longest_pause(durable: Sequence[tuple[float, int]], start: float, end: float) -> float:
    """The longest time between two durable events, of (seconds, count) samples from start to end."""
    inside = [(at, count) for at, count in durable if start <= at <= end]
    if not inside:
        return end - start
    longest, (progress, last_count) = 0.0, inside[0]
    for at, count in inside[1:]:
        longest = max(longest, at - progress)
        if count > last_count:
            progress, last_count = at, count
    return round(longest, 2)


def per_second(durable: Sequence[tuple[float, int]], start: float, end: float) -> float:
    """The rate of durable events between two seconds."""
    inside = [(at, count) for at, count in durable if start <= at <= end]
    if len(inside) < 2:
        return 0.0
    (first_at, first), (last_at, last) = inside[0], inside[-1]
    return (last - first) / (last_at - first_at)


def _first(group: Cluster, watch: Watch, workers: int, hold_seconds: float) -> Change:
    watch.pause(_SETTLE_SECONDS + hold_seconds)
    rate = per_second(watch.durable, _SETTLE_SECONDS, watch.seconds)
    usual = longest_pause(watch.durable, _SETTLE_SECONDS, watch.seconds)
    return Change(0, workers, 0.0, 0.0, rate, 0.0, usual, 0, 0)


def _change(group: Cluster, watch: Watch, before: int, after: int, hold_seconds: float) -> Change:
    at, repeated, rebalances = watch.seconds, _repeated(watch), group.rebalances()
    if after > before:
        group.wait_ready(group.start_more(after - before))
    else:
        group.stop_some(before - after)
        group.wait_left()
    group.wait_settled()
    ready = watch.seconds
    watch.pause(_SETTLE_SECONDS)
    start = watch.seconds
    watch.pause(hold_seconds)
    return Change(
        before=before,
        after=after,
        at=at,
        ready_seconds=round(ready - at, 1),
        per_second=per_second(watch.durable, start, watch.seconds),
        longest_pause=longest_pause(watch.durable, at, start),
        usual_pause=longest_pause(watch.durable, start, watch.seconds),
        rebalances=group.rebalances() - rebalances,
        repeated=_repeated(watch) - repeated,
    )


def _catch_up(watch: Watch, load: int) -> None:
    """Until the lag is no more than what is in flight and waits for its commit."""
    end = watch.seconds + _CATCH_UP_SECONDS
    while watch.seconds < end and (watch.lag is None or watch.lag > 1.5 * load):
        watch.pause(1.0)


def _repeated(watch: Watch) -> int:
    return watch.puts - watch.durable[-1][1]


def _tell(change: Change, watch: Watch, tell: Tell) -> None:
    tell(
        f"{change.at:5.0f} s  {change.before} → {change.after} workers, ready after {change.ready_seconds:.1f} s: "
        f"{change.per_second:,.0f} events/s, longest pause {change.longest_pause:.2f} s (usually "
        f"{change.usual_pause:.2f}), {change.rebalances} rebalances, {change.repeated} repeated, lag {watch.lag}"
    )
