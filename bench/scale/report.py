"""Tables and pictures of the scale runs, of the simulation, and of the sizes on paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.report import Table
from bench.scale.paper import Assumptions, Size, size
from bench.scale.results import LoopRun, Point, ScaleResults, StepsRun
from bench.scale.scenarios import Simulated, big_load, big_load_in_words
from bench.scale.simulation import Group, Moment, load_at, simulate
from bench.timeline import Line, Mark, Panel, timeline

_RATE_WINDOW = 3
_DRAWN = (0.5, 10.0)
_DRAWN_COLOURS = (0, 1, 4, 5)
_DRAWN_EVERY = 10
PAPER_RATES = (1_000, 10_000, 100_000, 1_000_000)


def tables(results: ScaleResults) -> dict[str, list[Table]]:
    """Every table, by the section of docs/scale.md that it stands in."""
    made = {
        "scale-steps": [steps_table(results.steps)] if results.steps else [],
        "scale-loop": [loop_table(results.loop)] if results.loop else [],
        "scale-simulation": [simulation_table(big_load())],
        "scale-paper": [paper_table([size(rate) for rate in PAPER_RATES])],
    }
    return {section: of_section for section, of_section in made.items() if of_section}


def draw(results: ScaleResults, directory: Path) -> None:
    """Every picture of what was run; the others stay as they are."""
    pictures = {"scale-simulation": simulation_picture(big_load())}
    if results.steps:
        pictures["scale-steps"] = steps_picture(results.steps)
    if results.loop:
        pictures["scale-loop"] = loop_picture(results.loop, results.steps)
    directory.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (directory / f"{name}.svg").write_text(picture)


def steps_table(run: StepsRun) -> Table:
    """Rate by number of workers, and what each change cost."""
    one = next(change.per_second for change in run.changes if change.after == 1)
    rows = [
        (
            f"{change.before} → {change.after}" if change.before else f"{change.after}",
            f"{change.per_second:,.0f}",
            f"{change.per_second / change.after / one:.2f}",
            f"{change.ready_seconds:.1f}" if change.before else "-",
            f"{change.rebalances}" if change.before else "-",
            f"{change.longest_pause:.2f}" if change.before else "-",
            f"{change.usual_pause:.2f}",
            f"{change.repeated}" if change.before else "-",
        )
        for change in run.changes
    ]
    bound = run.in_flight * 1000 // run.latency_ms
    note = (
        f"{run.partitions} partitions, {run.load:,} events/s published all the time, {run.latency_ms} ms per PUT, at "
        f"most {run.in_flight} writes in flight per worker ({bound} events/s by Little's law). Published "
        f"{run.published:,}, durable {run.durable:,}, written again {run.repeated:,}. A pause is a time without one "
        "durable event anywhere: the longest from the change until everybody was at work, and the longest while "
        f"nothing changed. CPU of the workers {run.worker_cpu_us_per_event:.0f} µs per event, everything else on the "
        f"machine {run.others_cores:.1f} cores."
    )
    columns = (
        "Workers",
        "Events/s",
        "Per worker, of one alone",
        "Change took, s",
        "Rebalances",
        "Longest pause, s",
        "Usual pause, s",
        "Written again",
    )
    return Table("Scale-out and scale-in under load", columns, rows, note)


def loop_table(run: LoopRun) -> Table:
    """How well the rule followed each step of the load."""
    rows = []
    ends = [*(step.at for step in run.steps[1:]), run.seconds]
    for step, end in zip(run.steps, ends, strict=True):
        during = [point for point in run.points if step.at <= point.seconds < end]
        lags = [point.lag for point in during if point.lag is not None]
        rows.append(
            (
                f"{step.at:.0f} s to {end:.0f} s",
                f"{step.events_per_second:,.0f}",
                f"{max(lags, default=0):,}",
                f"{median(lags):,.0f}" if lags else "-",
                f"{min(point.workers for point in during)} to {max(point.workers for point in during)}",
            )
        )
    rule = run.rule
    note = (
        f"Lag threshold {rule.lag_threshold:,} events per worker, {rule.minimum} to {rule.maximum} workers, a decision "
        f"every {rule.sync_seconds:g} s, scale-down after {rule.scale_down_stabilization_seconds:g} s. {run.changes} "
        f"changes. Published {run.published:,}, durable {run.durable:,}, written again {run.repeated:,}."
    )
    columns = ("Time", "Load, events/s", "Highest lag, events", "Median lag", "Workers")
    return Table("The autoscaler in the loop", columns, rows, note)


def simulation_table(runs: Sequence[Simulated]) -> Table:
    """One row for each threshold."""
    rows = [
        (
            f"{run.rule.lag_threshold:,} ({run.threshold_seconds:g} s of a worker's work)",
            f"{run.rule.scale_down_stabilization_seconds:,.0f}",
            f"{run.outcome.most_lag / 1e6:.1f}",
            f"{run.outcome.oldest_seconds:.0f}",
            "-" if run.outcome.caught_up_seconds is None else f"{run.outcome.caught_up_seconds / 60:.1f}",
            f"{run.outcome.most_workers}",
            f"{run.outcome.changes}",
        )
        for run in runs
    ]
    columns = (
        "Lag threshold, events per worker",
        "Scale-down after, s",
        "Highest lag, million",
        "Oldest event, s",
        "Caught up after, min",
        "Most workers",
        "Changes",
    )
    return Table("Simulated: five times the load within a second", columns, rows, big_load_in_words())


def paper_table(sizes: Sequence[Size]) -> Table:
    """A column for each rate."""
    rows = [
        ("Partitions (at least)", *(f"{one.partitions:,}" for one in sizes)),
        ("S3 prefixes at 3,500 PUT/s", *(f"{one.prefixes:,}" for one in sizes)),
        ("Workers", *(f"{one.workers:,}" for one in sizes)),
        ("vCPUs", *(f"{one.vcpus:,}" for one in sizes)),
        ("Writes in flight (73 ms)", *(f"{one.in_flight:,}" for one in sizes)),
        ("Connections to S3 per worker", *(f"{one.connections_per_worker:,}" for one in sizes)),
        ("From Kafka, MB/s", *(f"{one.from_kafka_mb_per_second:,.0f}" for one in sizes)),
        ("To S3, Gbit/s", *(f"{one.to_s3_gbit_per_second:,.2f}" for one in sizes)),
        ("Objects a day, million", *(f"{one.objects_per_day / 1e6:,.0f}" for one in sizes)),
        ("PUTs, $ a day", *(f"{one.put_usd_per_day:,.0f}" for one in sizes)),
        ("Compute, $ a day", *(f"{one.compute_usd_per_day:,.0f}" for one in sizes)),
        ("Storage of one day's events, $ a month", *(f"{one.storage_usd_per_month_per_day:,.0f}" for one in sizes)),
    ]
    given = Assumptions()
    note = (
        f"Events of {given.event_bytes:,} bytes. Computed by `bench/scale/paper.py`, not measured at these rates: "
        f"{given.cpu_us_per_event:.0f} µs of CPU per event, {given.main_thread_us_per_event:.0f} of them on the main "
        f"thread (docs/performance.md), {given.utilization:.0%} of a core used; ${given.put_usd_per_1000} per 1,000 "
        f"PUTs, ${given.storage_usd_per_gb_month} per GB and month, about ${given.vcpu_usd_per_hour} per vCPU and hour."
    )
    return Table("On paper", ("Events/s", *(f"{one.events_per_second:,}" for one in sizes)), rows, note)


def steps_picture(run: StepsRun) -> str:
    """Workers, rate and lag, each change marked."""
    marks = [Mark(f"{change.before} → {change.after}", change.at) for change in run.changes if change.before]
    panels = [
        Panel("Workers", [Line("", [(point.seconds, point.workers) for point in run.points], steps=True)]),
        Panel(
            "Events per second",
            [Line("published", _rates(run.points, "published"), 2), Line("durable", _rates(run.points, "durable"), 0)],
        ),
        Panel("Lag, events", [Line("", [(point.seconds, point.lag) for point in run.points])]),
    ]
    title = (
        f"Scale-out and scale-in under {run.load:,} events/s, {run.latency_ms} ms per PUT, {run.in_flight} in flight"
    )
    return timeline(title, panels, marks)


def loop_picture(run: LoopRun, steps: StepsRun | None) -> str:
    """Load, workers and lag; beside the lag and workers what the simulation says, where its numbers are measured."""
    workers = [Line("real", [(point.seconds, point.workers) for point in run.points], steps=True)]
    lag = [Line("real", [(point.seconds, point.lag) for point in run.points])]
    if steps is not None:
        moments = simulated_loop(run, steps)
        workers.insert(0, Line("simulated", [(one.seconds, one.workers) for one in moments], 2, steps=True))
        lag.insert(0, Line("simulated", [(one.seconds, one.lag) for one in moments], 2))
    load = [(point.seconds, load_at(run.steps, point.seconds)) for point in run.points if point.seconds < run.seconds]
    rates = Panel(
        "Events per second",
        [Line("published", load, 2, steps=True), Line("durable", _rates(run.points, "durable"), 0)],
    )
    title = f"The autoscaler in the loop: lag threshold {run.rule.lag_threshold:,} events per worker"
    return timeline(title, [rates, Panel("Workers", workers), Panel("Lag, events", lag)])


def simulated_loop(run: LoopRun, steps: StepsRun) -> list[Moment]:
    """The same load and rule, with one worker's rate, its start and the pause of a rebalance as they were measured."""
    changes = [change for change in steps.changes if change.after > change.before > 0]
    group = Group(
        events_per_second=steps.changes[-1].per_second / steps.changes[-1].after,
        start_seconds=sum(change.ready_seconds for change in changes) / len(changes),
        rebalance_seconds=max(change.longest_pause for change in changes),
        commit_seconds=0.5 + steps.latency_ms / 1000,
    )
    return simulate(run.steps, group, run.rule, run.seconds)


def simulation_picture(runs: Sequence[Simulated]) -> str:
    """Lag and workers over time, a line for some of the rules."""
    shown = [run for run in runs if run.threshold_seconds in _DRAWN]
    lag, workers = [], []
    for number, run in enumerate(shown):
        label = f"{run.rule.lag_threshold:,}, {run.rule.scale_down_stabilization_seconds:,.0f} s"
        moments = run.moments[::_DRAWN_EVERY]
        lag.append(Line(label, [(one.seconds, one.lag / 1e6) for one in moments], _DRAWN_COLOURS[number]))
        points = [(one.seconds, one.workers) for one in moments]
        workers.append(Line(label, points, _DRAWN_COLOURS[number], steps=True))
    load = Line("", [(one.seconds, one.load / 1000) for one in runs[0].moments[::_DRAWN_EVERY]], 2, steps=True)
    panels = [Panel("Load, thousand events/s", [load]), Panel("Workers", workers), Panel("Lag, million events", lag)]
    return timeline("Simulated: five times the load, by lag threshold and time to scale-down", panels)


def _rates(points: Sequence[Point], name: str) -> list[tuple[float, float | None]]:
    """Per second, over a few seconds each."""
    pairs = zip(points, points[_RATE_WINDOW:], strict=False)
    return [
        (after.seconds, (getattr(after, name) - getattr(before, name)) / (after.seconds - before.seconds))
        for before, after in pairs
    ]
