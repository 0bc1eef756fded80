"""How many writes may be in flight: an adaptive limit between 1 and `STREAMS_MAX_IN_FLIGHT`.

Pure arithmetic on a clock that is handed in; `delivery` asks it before each write and tells it each outcome.
"""

from __future__ import annotations

from math import inf

START_LIMIT = 512
"""Enough for 3,500 PUT/s at 146 ms from the first second (Little's law); the rest is grown into when it is used."""
ADDITIVE_SHARE = 0.01
"""Growth per window after the first congestion, as a share of the maximum."""
CONGESTED_FACTOR = 0.5
SLOW_FACTOR = 0.9
SLOW_RATIO = 2.0
SLOW_MARGIN_SECONDS = 0.1
"""A window is slow when its mean latency passes twice the baseline and 100 ms more: noise stays below that."""
BASELINE_DRIFT = 1.005
"""The baseline, a minimum, rises by half a percent a window, so that a lasting change of the service becomes the new normal."""
MIN_WINDOW_SECONDS = 0.25
MIN_SAMPLES = 20


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (RFC 5681's shape), decided once a window.

    Until the first congestion each success adds one (slow start: doubling per round trip); later a window adds one
    percent of the maximum. A throttled or timed out write halves the limit, at most once a window; a slow window
    takes a tenth. The limit only grows while it is in use, so an idle hour does not end in a burst.
    """

    __slots__ = (
        "_congested",
        "_slow_start",
        "_window_ends_at",
        "_window_latency",
        "_window_samples",
        "baseline_seconds",
        "limit",
        "maximum",
    )

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = min(maximum, START_LIMIT)
        self.baseline_seconds = inf
        self._slow_start = True
        self._congested = False
        self._window_ends_at = 0.0
        self._window_latency = 0.0
        self._window_samples = 0

    def succeeded(self, latency_seconds: float, in_flight: int, now: float) -> None:
        """Count a durable write; `in_flight` includes it."""
        if self._slow_start and self.limit < self.maximum and in_flight >= self.limit - 1:
            self.limit += 1
        self._window_latency += latency_seconds
        self._window_samples += 1
        if now >= self._window_ends_at and self._window_samples >= MIN_SAMPLES:
            self._close_window(in_flight, now)

    def congested(self, now: float) -> None:
        """Count a write that was throttled or timed out."""
        self._slow_start = False
        if now >= self._window_ends_at:
            self._start_window(now)
        if not self._congested:
            self._congested = True
            self.limit = max(1, int(self.limit * CONGESTED_FACTOR))

    def _close_window(self, in_flight: int, now: float) -> None:
        latency = self._window_latency / self._window_samples
        in_use = in_flight >= self.limit * 0.8
        slow = latency > self.baseline_seconds * SLOW_RATIO + SLOW_MARGIN_SECONDS
        if slow and in_use:
            self._slow_start = False
            self.limit = max(1, int(self.limit * SLOW_FACTOR))
        elif in_use and not self._congested and not self._slow_start:
            self.limit = min(self.maximum, self.limit + max(1, int(self.maximum * ADDITIVE_SHARE)))
        self.baseline_seconds = min(latency, self.baseline_seconds * BASELINE_DRIFT)
        self._start_window(now)

    def _start_window(self, now: float) -> None:
        mean = self._window_latency / self._window_samples if self._window_samples else 0.0
        self._window_ends_at = now + max(MIN_WINDOW_SECONDS, mean)
        self._window_latency = 0.0
        self._window_samples = 0
        self._congested = False
