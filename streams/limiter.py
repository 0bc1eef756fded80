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
"""What remains of the limit after a window in which every write was throttled or timed out."""
SLOW_FACTOR = 0.9
SLOW_RATIO = 1.5
SLOW_MARGIN_SECONDS = 0.025
"""A window is slow when its mean latency passes one and a half times the baseline and 25 ms more: what queues, here or
there, gains nothing from more company. Noise stays below that in a window of many writes."""
BASELINE_DRIFT = 1.001
"""The baseline, a minimum, rises by a thousandth a window (it doubles in three minutes at most), so that a lasting
change of the service becomes normal."""
MIN_WINDOW_SECONDS = 0.25
MIN_SAMPLES = 20


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, decided once a window.

    Until the first congestion each success adds one (slow start: doubling per round trip); later a window adds one
    percent of the maximum. A window with throttled or timed out writes cuts the limit in proportion to their share, as
    DCTCP does (RFC 8257): all of them halve it, one in fifty takes one percent, so that a few lost requests do not
    stop a healthy flow. A slow window takes a tenth. The limit only grows while it is in use, so an idle hour does not
    end in a burst.
    """

    __slots__ = (
        "_congested",
        "_latency_seconds",
        "_slow_start",
        "_succeeded",
        "_window_ends_at",
        "baseline_seconds",
        "limit",
        "maximum",
    )

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = min(maximum, START_LIMIT)
        self.baseline_seconds = inf
        self._slow_start = True
        self._window_ends_at = 0.0
        self._latency_seconds = 0.0
        self._succeeded = 0
        self._congested = 0

    def succeeded(self, latency_seconds: float, in_flight: int, now: float) -> None:
        """Count a durable write; `in_flight` includes it."""
        if self._slow_start and self.limit < self.maximum and in_flight >= self.limit - 1:
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
        latency = self._latency_seconds / self._succeeded if self._succeeded else 0.0
        in_use = in_flight >= self.limit * 0.8
        if self._congested:
            share = self._congested / (self._congested + self._succeeded)
            self._shrink(1 - share * (1 - CONGESTED_FACTOR))
        elif in_use and latency > self.baseline_seconds * SLOW_RATIO + SLOW_MARGIN_SECONDS:
            self._slow_start = False
            self._shrink(SLOW_FACTOR)
        if in_use and not self._slow_start and self._succeeded > self._congested:
            self.limit = min(self.maximum, self.limit + max(1, int(self.maximum * ADDITIVE_SHARE)))
        if self._succeeded:
            self.baseline_seconds = min(latency, self.baseline_seconds * BASELINE_DRIFT)
        self._window_ends_at = now + max(MIN_WINDOW_SECONDS, latency)
        self._latency_seconds = 0.0
        self._succeeded = self._congested = 0

    def _shrink(self, factor: float) -> None:
        self.limit = max(1, int(self.limit * factor))
