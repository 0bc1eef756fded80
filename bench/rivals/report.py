"""Tables and pictures of a comparison; the ratios to tuned Benthos, of the same round, are its result."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from bench.charts import Bar, Group, bar_chart
from bench.measure import Measurement
from bench.report import Table
from bench.rivals.kill import KillRun
from bench.rivals.results import RivalResults
from bench.rivals.systems import OURS, REFERENCE

_SMALL_EVENT_BYTES = 57
_BUSY_CORES = 0.7

R = TypeVar("R", Measurement, KillRun)
Value = Callable[[Measurement], float]


def rate(run: Measurement) -> float:
    """Events per second between the 10th and the 90th percentile of completions."""
    return run.steady_per_second


def cpu(run: Measurement) -> float:
    """CPU µs per event."""
    return run.cpu_us_per_event


def memory(run: Measurement) -> float:
    """Peak of resident memory, MiB."""
    return run.peak_memory_mib


def ratio(of_one: Iterable[Measurement], everyone: Iterable[Measurement], value: Value) -> float | None:
    """Median over the rounds of this system's value by that of tuned Benthos in the same round."""
    reference = {run.round: value(run) for run in everyone if run.contender == REFERENCE}
    ratios = [value(run) / reference[run.round] for run in of_one if reference.get(run.round)]
    return median(ratios) if ratios else None


def by_load(runs: Iterable[Measurement]) -> list[list[Measurement]]:
    """Runs of the same topic and latency, also those that did only a part of it."""
    return list(_grouped(runs, lambda run: (run.event_bytes, run.latency_ms)).values())


def tables(results: RivalResults) -> dict[str, list[Table]]:
    """The tables by the section of docs/rivals.md that they stand in."""
    made = {
        "rivals": [rate_table(runs) for runs in by_load(results.runs)],
        "rivals-kill": [kill_table(results.kills)] if results.kills else [],
    }
    return {section: of_section for section, of_section in made.items() if of_section}


def rate_table(runs: Sequence[Measurement]) -> Table:
    """One load, every system that did it."""
    return Table(
        f"{load_name(runs)}, {runs[0].partitions} partitions",
        (
            "System: configuration",
            "Events",
            "Events/s, steady",
            "Rate, ratio",
            "CPU µs each",
            "CPU, ratio",
            "Peak MiB",
            "Memory, ratio",
            "Connections",
        ),
        [_rate_row(of_one, runs) for of_one in _by_system(runs)],
        _disturbance(runs),
    )


def kill_table(kills: Sequence[KillRun]) -> Table:
    """What `kill -9` cost each."""
    rows = [
        (
            of_one[0].title,
            _each(run.lost for run in of_one),
            _each(run.repeated_puts for run in of_one),
            f"{median(run.restart_to_finish_seconds for run in of_one):.1f}",
        )
        for of_one in _grouped(kills, lambda run: run.system).values()
    ]
    return Table(
        f"kill -9 at half of {kills[0].events:,} events, {kills[0].latency_ms} ms per PUT",
        ("System: configuration", "Lost", "Repeated PUTs", "Restart to finish, s"),
        rows,
    )


def load_name(runs: Sequence[Measurement]) -> str:
    """How tables and pictures call a load."""
    return f"Events of {runs[0].event_bytes or _SMALL_EVENT_BYTES:,} bytes, {runs[0].latency_ms} ms per PUT"


def draw(results: RivalResults, directory: Path) -> list[Path]:
    """Rate and CPU as multiples of tuned Benthos; the CPU of those that do a share only would dwarf the others."""
    loads = by_load(results.runs)
    whole = [[run for run in runs if run.events == max(each.events for each in runs)] for runs in loads]
    pictures = {
        "bench-rivals-rate": ("Events per second, tuned Benthos = 1 (more is better)", rate, loads),
        "bench-rivals-cpu": ("CPU per event, tuned Benthos = 1 (less is better)", cpu, whole),
    }
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (title, value, shown) in pictures.items():
        paths.append(directory / f"{name}.svg")
        paths[-1].write_text(bar_chart(title, [_group(runs, value) for runs in shown]))
    return paths


def sections(results: RivalResults) -> dict[str, str]:
    """What stands between the markers of docs/rivals.md."""
    how = f"Measured {results.started[:10]}, interleaved, rounds: {results.rounds}. {results.machine.describe()}"
    skipped = [f"Not measured: {title}: {reason}." for title, reason in results.skipped.items()]
    return {
        section: "\n\n".join([*(table.for_markdown() for table in of_section), *skipped, how])
        for section, of_section in tables(results).items()
    }


def _rate_row(of_one: Sequence[Measurement], runs: Sequence[Measurement]) -> tuple[str, ...]:
    return (
        of_one[0].title,
        f"{of_one[0].events:,}",
        _with_range([rate(run) for run in of_one]),
        _shown(ratio(of_one, runs, rate)),
        f"{median(map(cpu, of_one)):,.0f}",
        _shown(ratio(of_one, runs, cpu)),
        f"{median(map(memory, of_one)):,.0f}",
        _shown(ratio(of_one, runs, memory)),
        f"{median(run.connections for run in of_one):,.0f}",
    )


def _group(runs: Sequence[Measurement], value: Value) -> Group:
    bars = []
    for of_one in _by_system(runs):
        if (multiple := ratio(of_one, runs, value)) is not None:
            short = of_one[0].title.partition(":")[0]
            bars.append(Bar(short, multiple, _shown(multiple), ours=of_one[0].contender == OURS))
    return Group(load_name(runs), tuple(bars))


def _disturbance(runs: Sequence[Measurement]) -> str:
    others = [run.others_cores for run in runs]
    server = median(run.server_cpu_us_per_event for run in runs)
    note = (
        "Ratios are to tuned Benthos in the same round. "
        f"Broker, harness and everything else used {median(others):.1f} cores (median; {max(others):.1f} at most), "
        f"the load server {server:.0f} µs per event."
    )
    return f"{note} Something else was busy: measure again." if median(others) > _BUSY_CORES else note


def _shown(multiple: float | None) -> str:
    """Two digits that mean something: 0.002 and 1.08 and 13."""
    if multiple is None:
        return "-"
    return f"{multiple:.0f}" if multiple >= 10 else f"{multiple:.2f}" if multiple >= 0.1 else f"{multiple:.2g}"


def _with_range(values: Sequence[float]) -> str:
    middle = f"{median(values):,.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.0f} to {max(values):,.0f})"


def _each(counts: Iterable[int]) -> str:
    """Every round's count: a loss must not hide behind a median."""
    return ", ".join(f"{count:,}" for count in counts)


def _by_system(runs: Iterable[Measurement]) -> list[list[Measurement]]:
    return list(_grouped(runs, lambda run: run.contender).values())


def _grouped(runs: Iterable[R], key: Callable[[R], Hashable]) -> dict[Hashable, list[R]]:
    groups: dict[Hashable, list[R]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups
