"""The last fifteen minutes of a worker, a sample each five seconds: what the charts are drawn from.

Fed by the worker's tick once a second; bounded, and cheap enough to run when nobody looks.
"""

from __future__ import annotations

from collections import deque
from time import time
from typing import Any, Final, NamedTuple

from streams.stats import percentile_seconds
from streams.status import Status

STEP_SECONDS: Final = 5.0
SPAN_SECONDS: Final = 900.0
STEPS: Final = int(SPAN_SECONDS / STEP_SECONDS)


class Sample(NamedTuple):
    """What one step saw; `None` where there was nothing to measure."""

    time: float
    """End of the step, seconds since the epoch."""
    events_per_second: float
    bytes_per_second: float
    in_flight: int
    """The most of the step's ticks."""
    limit: int
    maximum: int
    p50_seconds: float | None
    """Of the writes that became durable within the step."""
    p99_seconds: float | None
    lag: int | None


class _Counts(NamedTuple):
    at: float
    events: int
    sent_bytes: int
    latencies: list[int]


class History:
    """A ring of samples of one worker's status."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._last: _Counts | None = None
        self._most_in_flight = 0
        self.samples: deque[Sample] = deque(maxlen=STEPS)

    def tick(self, now: float) -> None:
        """Called once a second, `now` being monotonic: takes a sample when a step is over."""
        self._most_in_flight = max(self._most_in_flight, self._status.delivery.in_flight)
        if self._last is None:
            self._last = self._counts(now)
        elif now - self._last.at >= STEP_SECONDS - 0.5:  # ticks come a little late, never early
            counts = self._counts(now)
            self.samples.append(self._sample(self._last, counts))
            self._last, self._most_in_flight = counts, 0

    def _counts(self, now: float) -> _Counts:
        stats = self._status.stats
        return _Counts(now, stats.events.total(), stats.sent_bytes.total(), list(stats.latency.counts))

    def _sample(self, before: _Counts, counts: _Counts) -> Sample:
        seconds = counts.at - before.at
        written = [count - old for count, old in zip(counts.latencies, before.latencies, strict=True)]
        delivery = self._status.delivery
        return Sample(
            round(time(), 1),
            round((counts.events - before.events) / seconds, 1),
            round((counts.sent_bytes - before.sent_bytes) / seconds, 1),
            self._most_in_flight,
            delivery.limit.limit,
            delivery.limit.maximum,
            percentile_seconds(written, 0.5),
            percentile_seconds(written, 0.99),
            self._status.lag(counts.at),
        )

    def document(self) -> dict[str, Any]:
        """As `/dashboard/history` serves it: a list for each figure, oldest first."""
        columns = {name: [sample[place] for sample in self.samples] for place, name in enumerate(Sample._fields)}
        return {"step_seconds": STEP_SECONDS, "span_seconds": SPAN_SECONDS, **columns}
