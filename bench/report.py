"""Turns measurements into tables: on the console, and between the markers of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import rich.box
import rich.table

from bench.errors import BenchError
from bench.measure import Measurement, MemoryRun
from bench.results import Results
from bench.services import SERVICES, SQS

# Seconds for 1,000 messages in the published benchmark; its machine, bucket and queue were others.
PUBLISHED_SECONDS = {
    "published-s3-sequence": 73.57,
    "published-s3-threads": 4.93,
    "published-sqs-sequence": 34.14,
    "published-sqs-threads": 2.26,
}
# What we want of ourselves: seconds for 1,000 messages at most, and events per second at least.
TARGET_SECONDS = {"worker-sqs": 0.2}
TARGET_PER_SECOND = {"worker-sqs": 5_000.0}
_FLAT_MINUTE_SECONDS = 60.0
_BUSY_CORES = 0.5
_REFERENCES = {
    "handwritten-aiobotocore": "Rate by hand-written aiobotocore",
    "handwritten-obstore": "Rate by hand-written obstore",
}
_ANSWERED_AT_ONCE = "At 0 ms each PUT is answered as soon as it is read, so hardly any are in flight at the server."

K = TypeVar("K")
Column = tuple[str, Callable[[Sequence[Measurement]], str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title; the first column is words, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def for_console(self) -> rich.table.Table:
        """As rich draws it."""
        table = rich.table.Table(
            title=self.title, caption=self.note or None, box=rich.box.SIMPLE_HEAD, title_justify="left", min_width=80
        )
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def for_markdown(self) -> str:
        """As GitHub draws it."""
        lines = [self.columns, ("---", *("---:" for _ in self.columns[1:])), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join(part for part in (f"**{self.title}**", table, self.note) if part)


def tables(results: Results) -> dict[str, list[Table]]:
    """Every table of the parts that were run, by the name of the part."""
    made = {
        "published": [published_table(results)] if results.published else [],
        "sustained": [sustained_table(runs) for runs in _by_load(results.sustained)],
        "partitions": [partitions_table(results.partitions)] if results.partitions else [],
        "memory": [memory_table(results.memory)] if results.memory else [],
    }
    return {part: of_part for part, of_part in made.items() if of_part}


def published_table(results: Results) -> Table:
    """The published table, here and as published, with the worker's rows."""
    rows = [row for runs in _by_contender(results.published).values() for row in _published_rows(runs)]
    services = _grouped(results.published, lambda run: run.service)
    return Table(
        "Messages to " + ", to ".join(f"{_title(runs)} at {_latency(runs)}" for runs in services.values()),
        ("System", "Messages", "Seconds", "ms per message", "Published, s (1,000 messages)", "Target, s"),
        rows,
        _disturbance(results.published),
    )


def sustained_table(runs: Sequence[Measurement]) -> Table:
    """One load, all contenders."""
    columns = _sustained_columns(runs)
    return Table(
        f"{_events(runs)} to {_title(runs)} at {_latency(runs)}, {runs[0].partitions} partitions",
        tuple(name for name, _ in columns),
        [tuple(cell(of_one) for _, cell in columns) for of_one in _by_contender(runs).values()],
        _disturbance(runs) + ("" if runs[0].latency_ms else " " + _ANSWERED_AT_ONCE),
    )


def partitions_table(runs: Sequence[Measurement]) -> Table:
    """The worker's cost over the number of partitions."""
    rows = [
        (
            f"{of_one[0].partitions:,}",
            _with_range(of_one, lambda run: run.steady_per_second),
            f"{_median(of_one, lambda run: run.cpu_us_per_event):,.0f}",
            f"{_median(of_one, lambda run: run.peak_memory_mib):,.0f}",
        )
        for of_one in _grouped(runs, lambda run: run.partitions).values()
    ]
    return Table(
        f"{runs[0].title}: {runs[0].events:,} events at {_latency(runs)}, by partitions",
        ("Partitions", "Events/s, steady (range)", "CPU µs per event", "Peak MiB"),
        rows,
        _disturbance(runs),
    )


def memory_table(runs: Sequence[MemoryRun]) -> Table:
    """How much memory the worker has, and whether it grows."""
    rows = [
        (
            f"{run.event_bytes:,} bytes",
            f"{run.seconds:,.0f}",
            f"{run.events:,}",
            f"{run.max_in_flight:,}",
            f"{_resident_mib(run, first_minute=True):,.0f}",
            f"{_resident_mib(run, first_minute=False):,.0f}",
            f"{run.peak_memory_mib:,.0f}",
        )
        for run in runs
    ]
    return Table(
        f"{runs[0].title}: memory under a feed that never runs dry",
        ("Events of", "Seconds", "Events", "Most in flight", "MiB, second minute", "MiB, last minute", "Peak MiB"),
        rows,
        "Medians of one sample a second. Runs of under three minutes: second and last third instead of minutes.",
    )


def write_section(document: Path, part: str, markdown: str) -> None:
    """Replace what stands between `<!-- bench:PART -->` and `<!-- /bench:PART -->`; the rest is for people to write."""
    text = document.read_text()
    opening, closing = f"<!-- bench:{part} -->", f"<!-- /bench:{part} -->"
    before, found, rest = text.partition(opening)
    _, ended, after = rest.partition(closing)
    if not (found and ended):
        raise BenchError(f"{document.name} has no section {opening} … {closing} to write to")
    document.write_text(f"{before}{opening}\n{markdown.strip()}\n{closing}{after}")


def _published_rows(runs: Sequence[Measurement]) -> list[tuple[str, ...]]:
    """One row for a published system, two for ours: the work alone, and with the start of the process."""
    name, title, events = runs[0].contender, runs[0].title, runs[0].events
    first_to_last = _median(runs, lambda run: run.first_to_last_seconds)
    if as_published := PUBLISHED_SECONDS.get(name):
        return [_published_row(title, events, first_to_last, f"{as_published:.2f}")]
    start_to_last = _median(runs, lambda run: run.start_to_last_seconds)
    target = _target(first_to_last * 1000 / events, TARGET_SECONDS.get(name), at_most=True)
    return [
        _published_row(f"{title}, first {_write(runs)} to last", events, first_to_last, target=target),
        _published_row(f"{title}, start to finish", events, start_to_last),
    ]


def _published_row(
    title: str, messages: int, seconds: float, as_published: str = "-", target: str = "-"
) -> tuple[str, ...]:
    return title, f"{messages:,}", f"{seconds:.2f}", f"{seconds / messages * 1000:.2f}", as_published, target


def _sustained_columns(runs: Sequence[Measurement]) -> list[Column]:
    """Those that say something about these runs, and how each of their cells is made."""
    names = {run.contender for run in runs}
    columns: list[Column] = [
        ("System", lambda of_one: of_one[0].title),
        ("Events/s, steady (range)", lambda of_one: _with_range(of_one, lambda run: run.steady_per_second)),
        (f"Events/s, first to last {_write(runs)}", _median_of(lambda run: run.per_second)),
        ("CPU µs per event", _median_of(lambda run: run.cpu_us_per_event)),
        ("Peak MiB", _median_of(lambda run: run.peak_memory_mib)),
        ("Most in flight", _median_of(lambda run: run.max_in_flight)),
    ]
    if runs[0].service == SQS.name:
        columns.append(
            ("Events per request", lambda of_one: f"{_median(of_one, lambda run: run.events_per_request):.1f}")
        )
    columns += [(heading, _ratio_to(name, runs)) for name, heading in _REFERENCES.items() if name in names]
    if names & TARGET_PER_SECOND.keys():
        columns.append(("Target, events/s", _rate_target))
    return columns


def _rate_target(runs: Sequence[Measurement]) -> str:
    """Measured from the first write to the last: the target has no ramps taken off."""
    wanted = TARGET_PER_SECOND.get(runs[0].contender)
    return _target(_median(runs, lambda run: run.per_second), wanted, at_most=False)


def _target(value: float, wanted: float | None, *, at_most: bool) -> str:
    if wanted is None:
        return "-"
    met = value <= wanted if at_most else value >= wanted
    return f"{'≤' if at_most else '≥'} {wanted:,g}, {'met' if met else 'missed'}"


def _events(runs: Sequence[Measurement]) -> str:
    of_keys = f" of {runs[0].keys:,} keys" if runs[0].keys else ""
    return f"{runs[0].events:,} events{of_keys}"


def _title(runs: Sequence[Measurement]) -> str:
    return SERVICES[runs[0].service].title


def _write(runs: Sequence[Measurement]) -> str:
    return SERVICES[runs[0].service].write


def _latency(runs: Sequence[Measurement]) -> str:
    return f"{runs[0].latency_ms} ms per {_write(runs)}"


def _disturbance(runs: Sequence[Measurement]) -> str:
    """What else used the cores: mostly the broker. Much more than usual means that the numbers are worth less."""
    others = [run.others_cores for run in runs]
    server = median(run.server_cpu_us_per_event for run in runs)
    note = (
        f"Broker, harness and everything else used {median(others):.1f} cores (median; {max(others):.1f} at most), "
        f"the load server {server:.0f} µs per event."
    )
    return f"{note} Something else was busy: measure again." if min(others) > _BUSY_CORES else note


def _resident_mib(run: MemoryRun, *, first_minute: bool) -> float:
    window = min(_FLAT_MINUTE_SECONDS, run.seconds / 3)
    start = window if first_minute else run.seconds - window
    return median(sample.resident_mib for sample in run.samples if start <= sample.seconds <= start + window)


def _ratio_to(reference: str, everyone: Iterable[Measurement]) -> Callable[[Sequence[Measurement]], str]:
    """Median over the rounds of a contender's steady rate by that of the reference in the same round."""
    rates = {run.round: run.steady_per_second for run in everyone if run.contender == reference}

    def ratio(runs: Sequence[Measurement]) -> str:
        ratios = [run.steady_per_second / rates[run.round] for run in runs if rates.get(run.round)]
        return f"{median(ratios):.2f}" if ratios else "-"

    return ratio


def _median_of(value: Callable[[Measurement], float]) -> Callable[[Sequence[Measurement]], str]:
    return lambda runs: f"{_median(runs, value):,.0f}"


def _median(runs: Iterable[Measurement], value: Callable[[Measurement], float]) -> float:
    return median(value(run) for run in runs)


def _with_range(runs: Sequence[Measurement], value: Callable[[Measurement], float]) -> str:
    values = [value(run) for run in runs]
    middle = f"{median(values):,.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.0f} to {max(values):,.0f})"


def _grouped(runs: Iterable[Measurement], key: Callable[[Measurement], K]) -> dict[K, list[Measurement]]:
    groups: dict[K, list[Measurement]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _by_contender(runs: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    return _grouped(runs, lambda run: run.contender)


def _by_load(runs: Iterable[Measurement]) -> list[list[Measurement]]:
    return list(_grouped(runs, lambda run: (run.service, run.events, run.latency_ms)).values())
