"""A group of workers as arithmetic: lag over time for a load, a cost per event and an autoscaler. Pure, no randomness.

A worker makes so many events a second durable, is ready some seconds after it was asked for, and whenever one comes or
goes nobody writes for the length of a rebalance (the group's protocol stops everybody). How long those are is measured
on real workers by `steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bench.scale.rules import Autoscaler, Rule


@dataclass(frozen=True, slots=True)
class Step:
    """A load that begins at a second and stays until the next step's."""

    at: float
    events_per_second: float


@dataclass(frozen=True, slots=True)
class Group:
    """What a worker can do, and what a change of the group costs; seconds."""

    events_per_second: float
    start_seconds: float
    rebalance_seconds: float
    commit_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class Moment:
    """The state at a second: `lag` is what an autoscaler sees, events that are not committed."""

    seconds: float
    load: float
    lag: float
    workers: int
    ready: int


@dataclass(slots=True)
class _State:
    group: Group
    backlog: float = 0.0
    ready: int = 0
    starting: list[float] = field(default_factory=list)
    paused_until: float = 0.0

    @property
    def workers(self) -> int:
        return self.ready + len(self.starting)

    def scale(self, now: float, workers: int) -> None:
        """Ask for more, or stop some: those that are not ready yet go first."""
        while self.workers < workers:
            self.starting.append(now + self.group.start_seconds)
        while self.workers > workers and self.starting:
            self.starting.pop()
        if self.workers > workers:
            self.ready = workers
            self._rebalance(now)

    def arrive(self, now: float) -> None:
        """Workers whose start is over join, together where they are ready together."""
        arrived = sum(at <= now for at in self.starting)
        if arrived:
            self.starting = [at for at in self.starting if at > now]
            self.ready += arrived
            self._rebalance(now)

    def write(self, now: float, seconds: float, load: float) -> None:
        """Let the load come in and the ready workers write for so many seconds."""
        working = max(0.0, now + seconds - max(now, self.paused_until))
        capacity = self.ready * self.group.events_per_second * min(seconds, working)
        self.backlog = max(0.0, self.backlog + load * seconds - capacity)

    def _rebalance(self, now: float) -> None:
        self.paused_until = max(self.paused_until, now + self.group.rebalance_seconds)


def simulate(
    steps: Sequence[Step],
    group: Group,
    rule: Rule,
    total_seconds: float,
    *,
    tick_seconds: float = 0.5,
    workers: int | None = None,
) -> list[Moment]:
    """The moments of a run that begins with `workers` (the rule's minimum) ready and nothing to do."""
    scaler, state = Autoscaler(rule), _State(group, ready=rule.minimum if workers is None else workers)
    moments: list[Moment] = []
    next_poll = 0.0
    for tick in range(int(total_seconds / tick_seconds) + 1):
        now = tick * tick_seconds
        load = load_at(steps, now)
        state.arrive(now)
        lag = state.backlog + _uncommitted(load, group, state)
        if now >= next_poll:
            state.scale(now, scaler.decide(now, round(lag), state.workers))
            next_poll += rule.sync_seconds
        moments.append(Moment(now, load, lag, state.workers, state.ready))
        state.write(now, tick_seconds, load)
    return moments


def load_at(steps: Sequence[Step], seconds: float) -> float:
    """Events per second of the step that is on."""
    return next((step.events_per_second for step in reversed(steps) if step.at <= seconds), 0.0)


def _uncommitted(load: float, group: Group, state: _State) -> float:
    """Events that are durable or in flight and not committed yet: lag that is there when nobody is behind."""
    return min(load, state.ready * group.events_per_second) * group.commit_seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulated run in numbers; `oldest_seconds` is the longest that an event waited to be durable."""

    most_lag: float
    oldest_seconds: float
    caught_up_seconds: float | None
    most_workers: int
    changes: int


def outcome(moments: Sequence[Moment], since: float) -> Outcome:
    """What came of the load that began at `since`."""
    after = [moment for moment in moments if moment.seconds >= since]
    worst = max(after, key=lambda moment: moment.lag)
    ordinary = max(2.0 * worst.load, 1.0)
    caught_up = (one.seconds - since for one in after if one.seconds >= worst.seconds and one.lag <= ordinary)
    return Outcome(
        most_lag=worst.lag,
        oldest_seconds=max(ages(moments)),
        caught_up_seconds=next(caught_up, None),
        most_workers=max(one.workers for one in moments),
        changes=sum(one.workers != before.workers for before, one in pairwise(moments)),
    )


def ages(moments: Sequence[Moment]) -> list[float]:
    """At each moment, how long ago the oldest event came in that is not durable: the first of the last `lag` ones."""
    published = [0.0]
    for before, one in pairwise(moments):
        published.append(published[-1] + before.load * (one.seconds - before.seconds))
    oldest, found = 0, []
    for number, one in enumerate(moments):
        while oldest < number and published[oldest + 1] <= published[number] - one.lag:
            oldest += 1
        found.append(one.seconds - moments[oldest].seconds)
    return found
