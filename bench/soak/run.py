"""One soak from beginning to end: servers, load, faults in their turn, and the proof."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError
from bench.soak.faults import inject
from bench.soak.plan import Planned
from bench.soak.results import FaultRun, SoakResults, Verdict
from bench.soak.site import Site, site
from bench.soak.watch import Watch

_LOOK_SECONDS = 1.0
_DRAIN_SECONDS = 300.0

Tell = Callable[[str], None]


def soak(results: SoakResults, planned: list[Planned], directory: Path, sample: int, tell: Tell) -> None:
    """Fill in the results; what was seen before a failure is in them, too.

    Raises `BenchError` or `AssertionError` (a server or worker that did not do what it was told in time).
    """
    events = int(results.minutes * 60 * results.rate)
    with site(directory, results.partitions, results.rate, events) as place:
        tell(f"servers are up in {directory}; starting {len(results.steady_workers) + 1} workers")
        place.start_workers()
        with Watch(place) as watch:
            results.workers, results.lags = watch.workers, watch.lags
            place.start_loads()
            try:
                earliest = 0.0
                for one in planned:
                    _until(max(one.at, earliest), place, watch)
                    results.faults.append(_fault(one, place, watch, tell))
                    earliest = watch.seconds + one.recovery_seconds
                _until(max(results.minutes * 60, earliest), place, watch)
            finally:
                results.injected, results.puts = dict(place.proxy.injected), place.proxy.requests["PUT"]
            place.stop_loads()
            place.drain(_DRAIN_SECONDS)
            watch.sample_lag()
        tell(f"{place.produced:,} events published and committed; stopping the workers")
        results.verdict = _verdict(place, sample, tell)


def _fault(one: Planned, place: Site, watch: Watch, tell: Tell) -> FaultRun:
    began = watch.seconds
    lag = watch.lags[-1].lag if watch.lags else None
    tell(f"{began:6.0f} s  {place.produced:>9,} events, lag {'?' if lag is None else lag}: {one.fault.words}")
    inject(place, one.fault, lambda seconds: _until(watch.seconds + seconds, place, watch))
    return FaultRun(one.fault.name, one.fault.words, began, watch.seconds)


def _until(at: float, place: Site, watch: Watch) -> None:
    """Wait for that second and see meanwhile that nothing fails that should not."""
    while (left := at - watch.seconds) > 0:
        place.check()
        watch.check()
        time.sleep(min(left, _LOOK_SECONDS))


def _verdict(place: Site, sample: int, tell: Tell) -> Verdict:
    exit_codes = place.stop_workers()
    tell(f"exit codes {exit_codes}; verifying")
    began = time.monotonic()
    finished = place.verify(sample)
    if finished.code not in (0, 1):
        raise BenchError(f"verify ended with exit code {finished.code}\n{finished.stderr}")
    report = finished.json()
    return Verdict(
        verdict=report["verdict"],
        sentence=report["sentence"],
        seconds=round(time.monotonic() - began, 1),
        verified_events=report["totals"]["events"],
        compared=report["totals"]["compared"],
        produced=place.produced,
        files=place.files(),
        exit_codes=exit_codes,
        lives=len(place.short_lived.lives),
        lives_problems=list(place.short_lived.problems()),
    )
