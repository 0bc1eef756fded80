"""Whether something grows: slopes through the quiet parts of a worker's life, and levels to compare. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_HOUR_SECONDS = 3600.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Trend:
    """A least-squares slope; `uncertain_per_hour` is twice its standard error."""

    samples: int
    mean: float
    per_hour: float
    uncertain_per_hour: float

    def flat(self, most_per_hour: float) -> bool:
        """Whether the growth stays below the threshold, even at the upper end of its uncertainty.

        What shrinks is no leak.
        """
        return self.samples > 2 and self.per_hour + self.uncertain_per_hour <= most_per_hour


def fit(runs: Sequence[Points]) -> Trend:
    """One slope through all runs of (seconds, value), each run with a level of its own.

    What a fault leaves behind lifts the next run as a whole and is no slope; what grows while nothing happens is.
    """
    runs = [run for run in runs if len(run) > 1]
    count = sum(len(run) for run in runs)
    mean = sum(value for run in runs for _, value in run) / count if count else 0.0
    centred = [point for run in runs for point in _centred(run)]
    spread = sum(at**2 for at, _ in centred)
    freedom = count - len(runs) - 1
    if freedom < 1 or spread == 0:
        return Trend(count, mean, 0.0, math.inf)
    slope = sum(at * value for at, value in centred) / spread
    residual = sum((value - slope * at) ** 2 for at, value in centred)
    error = math.sqrt(residual / freedom / spread)
    return Trend(count, mean, slope * _HOUR_SECONDS, 2 * error * _HOUR_SECONDS)


def _centred(run: Points) -> list[tuple[float, float]]:
    middle = sum(at for at, _ in run) / len(run)
    mean = sum(value for _, value in run) / len(run)
    return [(at - middle, value - mean) for at, value in run]


def floors(points: Points, spans: Sequence[tuple[float, float]]) -> list[float]:
    """The lowest value in each span (from, to); of a span without points nothing.

    For what rises with each burst of work and falls back by itself, as pooled connections do: a leak raises the floor.
    """
    inside = ([value for at, value in points if start <= at < end] for start, end in spans)
    return [min(values) for values in inside if values]


def last_levels(points: Points, spans: Sequence[tuple[float, float]]) -> list[float]:
    """The last value in each span (from, to): what is left when all faults of a rotation are over."""
    inside = ([value for at, value in points if start <= at < end] for start, end in spans)
    return [values[-1] for values in inside if values]


def quiet(
    points: Iterable[tuple[float, float]], disturbed: Sequence[tuple[float, float]], warm_up_seconds: float
) -> list[list[tuple[float, float]]]:
    """The points after the warm-up that lie in none of the disturbed spans (from, to), a list for each time between."""
    runs: dict[int, list[tuple[float, float]]] = {}
    for at, value in points:
        if at >= warm_up_seconds and not any(start <= at <= end for start, end in disturbed):
            runs.setdefault(sum(end < at for _, end in disturbed), []).append((at, value))
    return list(runs.values())
