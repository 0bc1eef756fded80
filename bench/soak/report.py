"""The tables and the picture of a soak, and whether it was passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Table
from bench.soak.plan import FAULTS
from bench.soak.results import SETTLE_SECONDS, FaultRun, SoakResults, Verdict, WorkerSample
from bench.soak.trend import Trend, fit, floors, last_levels, quiet
from bench.timeline import Line, Mark, Panel, timeline

PROVED = "proved"
WARM_UP_SHARE = 1 / 4
"""Of the run: in the first 15 minutes of an hour caches and charts fill and allocators find their size."""
SHORTEST_MINUTES = 30.0
"""Of a shorter run nothing is said about growth."""
_OTHERS_COLOUR = 2
_OTHERS = "restarted, spare"


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that must not grow by more than `most`: an hour, or from one rotation of the faults to the next."""

    name: str
    value: Callable[[WorkerSample], float | None]
    most: float
    how: Callable[[SoakResults, str, Measure], Finding]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one worker's measure did, in words, and whether that is flat; `None`: nothing can be said yet."""

    measure: Measure
    worker: str
    growth: str
    flat: bool | None

    @property
    def judgement(self) -> str:
        """For the table."""
        return {True: "flat", False: "GROWS", None: "too short to tell"}[self.flat]


def findings(results: SoakResults) -> list[Finding]:
    """Of each measure of each steady worker."""
    return [measure.how(results, worker, measure) for measure in MEASURES for worker in results.steady_workers]


def _within(results: SoakResults, worker: str, measure: Measure) -> Finding:
    """Growth while nothing happens: each quiet time has a level of its own, the slope is that of all."""
    return _judged(results, worker, measure, fit(_quiet(results, worker, measure)))


def _line(results: SoakResults, worker: str, measure: Measure) -> Finding:
    """Growth over everything but the faults themselves: one line."""
    points = [point for run in _quiet(results, worker, measure) for point in run]
    return _judged(results, worker, measure, fit([points]))


def _judged(results: SoakResults, worker: str, measure: Measure, trend: Trend) -> Finding:
    growth = f"{trend.mean:.0f}, {trend.per_hour:+.2f} ± {trend.uncertain_per_hour:.2f} an hour"
    flat = trend.flat(measure.most) if results.minutes >= SHORTEST_MINUTES else None
    return Finding(measure, worker, growth, flat)


def _quiet(results: SoakResults, worker: str, measure: Measure) -> list[list[tuple[float, float]]]:
    warm_up_seconds = results.minutes * 60 * WARM_UP_SHARE
    return quiet(_points(results, worker, measure), list(results.disturbed()), warm_up_seconds)


def _levels(results: SoakResults, worker: str, measure: Measure) -> Finding:
    return _compared(results, measure, worker, last_levels(_points(results, worker, measure), results.rotations()))


def _floors(results: SoakResults, worker: str, measure: Measure) -> Finding:
    return _compared(results, measure, worker, floors(_points(results, worker, measure), results.rotations()))


def _compared(results: SoakResults, measure: Measure, worker: str, found: list[float]) -> Finding:
    """The last rotation beside the one before."""
    enough = len(found) > 1 and results.minutes >= SHORTEST_MINUTES
    flat = found[-1] - found[-2] <= measure.most if enough else None
    return Finding(measure, worker, " → ".join(f"{value:.0f}" for value in found), flat)


def _tasks(sample: WorkerSample) -> float | None:
    return None if sample.tasks is None else float(sample.tasks)


MEASURES = (
    Measure("Memory while nothing happens, MiB", lambda sample: sample.resident_mib, 10.0, _within),
    Measure("Memory at the end of each rotation, MiB", lambda sample: sample.resident_mib, 10.0, _levels),
    Measure("File descriptors, lowest in each rotation", lambda sample: float(sample.descriptors), 10.0, _floors),
    Measure("asyncio tasks", _tasks, 5.0, _line),
)
_DRAWN = (
    ("Resident memory, MiB", MEASURES[0]),
    ("File descriptors", MEASURES[2]),
    ("asyncio tasks", MEASURES[3]),
)


def failures(results: SoakResults) -> list[str]:
    """Why the soak is not passed; empty when it is."""
    return [*_verdict_failures(results), *_growth(results), *_never_recovered(results)]


def summary(results: SoakResults) -> Table:
    """The numbers of the whole run."""
    verdict = results.verdict
    rows = [
        (
            "Length",
            f"{results.minutes:g} minutes, {results.rate} events/s over {results.partitions} partitions with three "
            "replicas, a tenth of it each to a topic with one replica and to one that is deleted and made again",
        ),
        ("Faults", f"{len(results.faults)} of {len({fault.name for fault in results.faults})} kinds"),
        ("Requests that a fault was done to", _injected(results)),
    ]
    if verdict is not None:
        rows += [
            ("Events published (acknowledged by the broker)", f"{verdict.produced:,}"),
            ("Events that `verify` accounts for", f"{verdict.verified_events:,}"),
            ("Files of these topics on the S3 server's disk", f"{verdict.files:,}"),
            ("PUTs that the proxy saw", f"{results.puts:,}"),
            ("`faust -A streams verify`", f"{verdict.sentence} ({verdict.seconds:.0f} s)"),
            ("Events compared byte for byte", f"{verdict.compared:,}"),
            ("Topics of the short-lived name, one after the other", _lives(verdict)),
            ("Exit codes at the end (SIGTERM)", ", ".join(f"{name} {one}" for name, one in verdict.exit_codes.items())),
        ]
    return Table("The run", ("", "What happened"), rows)


def trend_table(results: SoakResults) -> Table:
    """What each steady worker held, and whether it grew."""
    rows = [
        (one.measure.name, one.worker, one.growth, f"{one.measure.most:g}", one.judgement) for one in findings(results)
    ]
    return Table(
        "Workers that lived through the whole run",
        ("", "Worker", "Mean and growth, or levels", "Threshold", "Verdict"),
        rows,
        f"Growth an hour: a slope (least squares) through the quiet times after the first "
        f"{results.minutes * WARM_UP_SHARE:.0f} minutes; ± is twice its standard error, and the upper end counts. "
        f"Quiet: no fault is on, and the lag is below {results.normal_lag:,} events since {SETTLE_SECONDS:.0f} s or "
        "more. While nothing happens: each quiet time has a level of its own, and the slope is that within them. File "
        "descriptors are connections to S3 for the most part: a backlog opens hundreds, which are closed when idle.",
    )


def fault_table(results: SoakResults) -> Table:
    """Each fault: the worst lag, and how long after its end everything was caught up."""
    rows = []
    for fault in results.faults:
        recovered = results.recovered(fault)
        rows.append(
            (
                f"{_number(fault)}. {fault.words}",
                f"{fault.began / 60:.1f}",
                f"{fault.ended - fault.began:.0f}",
                _most_lag(results, fault),
                "-" if recovered is None else f"{recovered - fault.ended:.0f}",
            )
        )
    return Table(
        "Faults",
        ("", "At minute", "Lasted, s", "Highest lag, events", "Lag normal again after, s"),
        rows,
        "While the broker is away nobody knows the lag. A fault that ends with a worker's start lasts until that "
        "worker is ready. The lag is sampled every 2 s.",
    )


def picture(results: SoakResults) -> str:
    """Lag, memory, descriptors and tasks over time, the faults across them."""
    panels = [Panel("Lag: published and not committed, events", [Line("", [(s.seconds, s.lag) for s in results.lags])])]
    panels += [Panel(title, list(_lines(results, measure))) for title, measure in _DRAWN]
    marks = [Mark(str(_number(fault)), fault.began, fault.ended) for fault in results.faults]
    title = f"{results.minutes:g} minutes at {results.rate} events/s, {len(results.faults)} faults (numbers: the table)"
    return timeline(title, panels, marks)


def draw(results: SoakResults, directory: Path) -> Path:
    """Write the picture."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "soak-timeline.svg"
    path.write_text(picture(results))
    return path


def _lines(results: SoakResults, measure: Measure) -> Iterator[Line]:
    """The steady workers, and in grey the lives of the others, a line for each."""
    for pid in dict.fromkeys(s.pid for s in results.workers if s.worker not in results.steady_workers):
        points = [(s.seconds, measure.value(s)) for s in results.workers if s.pid == pid]
        yield Line(_OTHERS, points, _OTHERS_COLOUR)
    for number, worker in enumerate(results.steady_workers):
        points = [(s.seconds, measure.value(s)) for s in results.workers if s.worker == worker]
        yield Line(worker, points, number)


def _points(results: SoakResults, worker: str, measure: Measure) -> list[tuple[float, float]]:
    return [
        (sample.seconds, value)
        for sample in results.workers
        if sample.worker == worker and (value := measure.value(sample)) is not None
    ]


def _verdict_failures(results: SoakResults) -> Iterator[str]:
    verdict = results.verdict
    if verdict is None:
        yield "it did not get as far as verify"
        return
    if verdict.verdict != PROVED:
        yield f"verify says: {verdict.sentence}"
    if not verdict.produced == verdict.verified_events == verdict.files:
        yield (
            f"{verdict.produced:,} events were published, verify accounts for {verdict.verified_events:,}, "
            f"{verdict.files:,} files are on the disk"
        )
    yield from verdict.lives_problems
    for name, code in verdict.exit_codes.items():
        if code:
            yield f"{name} ended with exit code {code} when it was told to stop"


def _lives(verdict: Verdict) -> str:
    found = "; ".join(verdict.lives_problems) or "each one's objects are there, none in another one's place"
    return f"{verdict.lives}: {found}"


def _growth(results: SoakResults) -> Iterator[str]:
    for one in findings(results):
        if one.flat is False:
            yield f"{one.worker}: {one.measure.name} grows: {one.growth} (threshold {one.measure.most:g})"


def _never_recovered(results: SoakResults) -> Iterator[str]:
    """The lag must be normal again before the next fault."""
    for fault in results.faults:
        if results.recovered(fault) is None:
            yield f"the lag was not normal again before the next fault: {fault.words} at {fault.began:.0f} s"


def _most_lag(results: SoakResults, fault: FaultRun) -> str:
    lags = [sample.lag for sample in results.lags_after(fault.began, fault) if sample.lag is not None]
    return f"{max(lags):,}" if lags else "-"


def _injected(results: SoakResults) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(results.injected.items())) or "none"


def _number(fault: FaultRun) -> int:
    return next(number for number, one in enumerate(FAULTS, 1) if one.name == fault.name)
