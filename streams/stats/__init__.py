"""What a worker counts and notes while it runs: totals, latencies, the last errors, and the conditions it is in."""

from streams.stats.conditions import Condition, Conditions, Kind
from streams.stats.counts import LATENCY_BOUNDS_SECONDS, LatencyHistogram, Stats, percentile_seconds

__all__ = [
    "LATENCY_BOUNDS_SECONDS",
    "Condition",
    "Conditions",
    "Kind",
    "LatencyHistogram",
    "Stats",
    "percentile_seconds",
]
