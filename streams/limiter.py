"""How many writes may be in flight: an adaptive limit between 1 and `STREAMS_MAX_IN_FLIGHT`.

Pure arithmetic on a clock that is handed in; `delivery` asks it before each write and tells it each outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

START_LIMIT = 512
"""Enough for 3,500 PUT/s at 146 ms from the first second (Little's law); the rest is grown into when it is used."""
ADDITIVE_SHARE = 0.01
"""Growth per window after the first congestion, as a share of the maximum."""
CONGESTED_FACTOR = 0.5
"""What remains of the limit after a window in which every write was throttled or timed out."""
IN_USE = 0.8
"""A limit is in use while this share of it is in flight; otherwise the limit is not what bounds the rate."""
MIN_WINDOW_SECONDS = 0.1
WINDOW_LATENCIES = 2
"""A window lasts for two round trips, so that writes that move in waves do not look like a change of the rate."""
MIN_SAMPLES = 20

MIN_CEILING = 32
"""No trial goes below: fewer writes in flight cost no less each (docs/performance.md), and a few that hang would be a
large share of them."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a trial moves the ceiling, for how many windows, and what makes it stay there."""

    factor: float
    windows: int
    keep_lower: float
    """A lower ceiling is kept while it earns this share of the rate before."""


COARSE = Step(2.0, windows=2, keep_lower=0.9)
FINE = Step(4 / 3, windows=4, keep_lower=0.95)
KEEP_HIGHER = 1.06
"""A higher one is kept where it earns so much more; a rate bound by the limit alone grows by the whole factor."""
CLEARLY_WORSE = 0.85
CHANGED = 1.5
"""A rate that moved by this factor since the last trial means that the service, or the work, is another one."""
MAX_PAUSE_WINDOWS = 256


class Direction(Enum):
    """Where a trial moves the ceiling."""

    DOWN = "down"
    UP = "up"

    @property
    def other(self) -> Direction:
        return Direction.UP if self is Direction.DOWN else Direction.DOWN


@dataclass(frozen=True, slots=True)
class Window:
    """What one window saw."""

    rate: float
    """Durable writes per second."""
    in_use: bool


class CeilingTrials:
    """Finds by trial how many writes in flight are worth having.

    More writes than the sink or the machine can work on at once only queue, and cost memory and CPU time for it (an
    event cost 189 µs with 1,000 in flight and 153 µs with 32 where the CPU was the bound). No latency says where that
    point is, for S3's spread by itself. So the ceiling is moved for a few windows, and stays where it was moved to if
    the rate of durable writes agrees. Steps are coarse until one is refused; trials that go on being refused become
    rare.
    """

    __slots__ = (
        "_before",
        "_direction",
        "_old_rate",
        "_pause_windows",
        "_rates",
        "_settled",
        "_step",
        "_wait_windows",
        "ceiling",
        "maximum",
    )

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.ceiling = maximum
        self._direction = Direction.DOWN
        self._step = COARSE
        self._before: int | None = None
        """The ceiling before the trial that goes on."""
        self._old_rate = 0.0
        self._rates: deque[float] = deque(maxlen=FINE.windows)
        self._settled = False
        self._pause_windows = self._wait_windows = 0

    def change_maximum(self, maximum: int) -> None:
        """Begin again below another maximum."""
        self.maximum = self.ceiling = maximum
        self._end_trial()
        self._look_again(Direction.DOWN)

    def observe(self, window: Window) -> None:
        """Take a window with the limit at the ceiling; may begin, judge or end a trial."""
        if not window.in_use:
            self.interrupt()
            return
        if not self._settled:  # writes of the time before the ceiling moved are among these
            self._settled = True
            return
        self._rates.append(window.rate)
        if self._before is not None:
            self._judge(window.rate, self._before)
        elif len(self._rates) >= self._step.windows:
            self._consider(_mean(self._rates))

    def interrupt(self) -> None:
        """Something else bounds the rate now (congestion, or no work): a trial would measure that."""
        if self._before is not None:
            self.ceiling = self._before
            self._end_trial()

    def _consider(self, rate: float) -> None:
        if self._old_rate and not self._old_rate / CHANGED < rate < self._old_rate * CHANGED:
            self._look_again(Direction.UP if rate < self._old_rate else Direction.DOWN)
        self._wait_windows -= 1
        if self._wait_windows > 0:
            return
        moved = self._moved()
        if moved == self.ceiling:
            self._refused()
            moved = self._moved()
        self._old_rate = rate
        if moved != self.ceiling:
            self._before, self.ceiling = self.ceiling, moved
            self._restart_measuring()

    def _moved(self) -> int:
        if self._direction is Direction.UP:
            return min(self.maximum, max(self.ceiling + 1, int(self.ceiling * self._step.factor)))
        return max(min(MIN_CEILING, self.ceiling), int(self.ceiling / self._step.factor))

    def _judge(self, last_rate: float, before: int) -> None:
        needed = self._old_rate * (self._step.keep_lower if self._direction is Direction.DOWN else KEEP_HIGHER)
        if last_rate < self._old_rate * CLEARLY_WORSE:
            refused = True
        elif len(self._rates) < self._step.windows:
            return
        else:
            refused = _mean(self._rates) < needed
        if refused:
            self.ceiling = before
            self._refused()
            self._end_trial()
        else:  # what was measured is what the next trial is held against
            self._before = None
            self._pause_windows = 0
            self._old_rate = _mean(self._rates)
            self._consider(self._old_rate)

    def _refused(self) -> None:
        """Try the other way next time, in finer steps, and not so soon."""
        self._direction = self._direction.other
        self._step = FINE
        self._pause_windows = min(MAX_PAUSE_WINDOWS, max(FINE.windows, self._pause_windows * 2))
        self._wait_windows = self._pause_windows

    def _look_again(self, direction: Direction) -> None:
        self._direction = direction
        self._step = COARSE
        self._pause_windows = self._wait_windows = 0

    def _end_trial(self) -> None:
        self._before = None
        self._restart_measuring()

    def _restart_measuring(self) -> None:
        self._rates.clear()
        self._settled = False


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, decided once a window, below a ceiling that trials move.

    Until the first congestion or trial each success adds one (slow start: doubling per round trip); later a window
    adds one percent of the maximum. A window with throttled or timed out writes cuts the limit in proportion to their
    share, as DCTCP does (RFC 8257): all of them halve it, one in fifty takes one percent, so that a few lost requests
    do not stop a healthy flow. The limit only grows while it is in use, so an idle hour does not end in a burst.
    """

    __slots__ = (
        "_congested",
        "_latency_seconds",
        "_slow_start",
        "_succeeded",
        "_trials",
        "_window_ends_at",
        "_window_started",
        "limit",
    )

    def __init__(self, maximum: int) -> None:
        self.limit = min(maximum, START_LIMIT)
        self._trials = CeilingTrials(maximum)
        self._slow_start = True
        self._window_started = self._window_ends_at = 0.0
        self._latency_seconds = 0.0
        self._succeeded = 0
        self._congested = 0

    @property
    def maximum(self) -> int:
        """`STREAMS_MAX_IN_FLIGHT`, or what it was changed to."""
        return self._trials.maximum

    def change_maximum(self, maximum: int) -> None:
        """Bound the limit by another maximum (at least 1) from now on; a higher one is grown into when it is used."""
        self._trials.change_maximum(maximum)
        self._slow_start = self.limit < maximum
        self.limit = min(self.limit, maximum)

    def succeeded(self, latency_seconds: float, in_flight: int, now: float) -> None:
        """Count a durable write; `in_flight` includes it."""
        if self._slow_start and self.limit < self._trials.maximum and in_flight >= self.limit - 1:
            self.limit += 1
        self._latency_seconds += latency_seconds
        self._succeeded += 1
        if now >= self._window_ends_at and self._succeeded + self._congested >= MIN_SAMPLES:
            self._close_window(in_flight, now)

    def congested(self, in_flight: int, now: float) -> None:
        """Count a write that was throttled or timed out; `in_flight` includes it."""
        self._slow_start = False
        self._congested += 1
        if now >= self._window_ends_at and self._succeeded + self._congested >= min(MIN_SAMPLES, in_flight):
            self._close_window(in_flight, now)

    def _close_window(self, in_flight: int, now: float) -> None:
        in_use = in_flight >= self.limit * IN_USE
        if self._congested:
            share = self._congested / (self._congested + self._succeeded)
            self.limit = max(1, int(self.limit * (1 - share * (1 - CONGESTED_FACTOR))))
            self._trials.interrupt()
        if not self._slow_start and in_use and self._succeeded > self._congested:
            self.limit += max(1, int(self._trials.maximum * ADDITIVE_SHARE))
        if self._is_at_ceiling and not self._congested:
            self._try_ceiling(Window(self._succeeded / max(now - self._window_started, 1e-9), in_use))
        self.limit = min(self.limit, self._trials.ceiling)
        self._begin_window(now)

    @property
    def _is_at_ceiling(self) -> bool:
        return self.limit >= self._trials.ceiling

    def _try_ceiling(self, window: Window) -> None:
        before = self._trials.ceiling
        self._trials.observe(window)
        if self._trials.ceiling != before:
            self._slow_start = False
            self.limit = self._trials.ceiling

    def _begin_window(self, now: float) -> None:
        latency = self._latency_seconds / self._succeeded if self._succeeded else 0.0
        self._window_started = now
        self._window_ends_at = now + max(MIN_WINDOW_SECONDS, latency * WINDOW_LATENCIES)
        self._latency_seconds = 0.0
        self._succeeded = self._congested = 0


def _mean(rates: Iterable[float]) -> float:
    found = list(rates)
    return sum(found) / len(found)
