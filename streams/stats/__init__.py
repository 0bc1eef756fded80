"""What a worker counts and notes while it runs: totals, latencies, the last errors, and the conditions it is in."""

from streams.stats.conditions import KAFKA, Condition, Conditions, Kind
from streams.stats.counts import LATENCY_BOUNDS_SECONDS, LatencyHistogram, LedgerFailure, Stats, percentile_seconds
from streams.stats.sink_watch import SinkWatch, watched_sink

__all__ = [
    "KAFKA",
    "LATENCY_BOUNDS_SECONDS",
    "Condition",
    "Conditions",
    "Kind",
    "LatencyHistogram",
    "LedgerFailure",
    "SinkWatch",
    "Stats",
    "percentile_seconds",
    "watched_sink",
]
