"""The handbook's tables, computed from what `docs/performance.md` and `docs/restore.md` say was measured.

`python -m tests.unit.sizing` writes them into `docs/handbook.md`; `test_handbook.py` fails when they are not these.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
HANDBOOK = DOCS / "handbook.md"

UTILIZATION = 0.6
"""The share of its capacity that a worker is planned for; the rest catches up after an outage."""
MAX_IN_FLIGHT = 1000
"""STREAMS_MAX_IN_FLIGHT's default."""
CORES = 2
PREFIX_EVENTS_PER_SECOND = 3500
"""What S3 takes for each partitioned prefix, at least (AWS, "Best practices design patterns")."""
RATES = (100, 1_000, 5_000, 10_000, 50_000, 100_000)
LATENCIES_MS = (30, 73, 200)
RESTORED = (1_000_000, 100_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Measured:
    """Microseconds of CPU for one event: all of it, and what falls to the main thread, which is one core at most."""

    event_us: float
    main_thread_us: float
    restored_per_second: float


def measured() -> Measured:
    """From the pages, which `make profile` and the benchmarks write."""
    stages = (DOCS / "performance.md").read_text()
    row = re.search(r"^\| all of it \| ([\d.]+) \| ([\d.]+) \|", stages, re.MULTILINE)
    restored = re.search(r"restored ([\d,]+) events a second", (DOCS / "restore.md").read_text())
    assert row is not None
    assert restored is not None
    return Measured(float(row[1]), float(row[2]), float(restored[1].replace(",", "")))


def capacity(cost: Measured, cores: float, latency_ms: float, max_in_flight: int = MAX_IN_FLIGHT) -> float:
    """Events a second that one worker can write: the least of CPU, main thread and Little's law."""
    by_cpu = cores * 1e6 / cost.event_us
    by_main_thread = 1e6 / cost.main_thread_us
    by_latency = max_in_flight / (latency_ms / 1000)
    return min(by_cpu, by_main_thread, by_latency)


def workers(cost: Measured, rate: float, latency_ms: float) -> int:
    """How many workers a rate needs."""
    return math.ceil(rate / (UTILIZATION * capacity(cost, CORES, latency_ms)))


def partitions(cost: Measured, rate: float) -> int:
    """Twice as many as workers, so that they can double, and enough prefixes for S3."""
    most = max(workers(cost, rate, latency_ms) for latency_ms in LATENCIES_MS)
    return max(2 * most, math.ceil(rate / PREFIX_EVENTS_PER_SECOND))


def sizing_table(cost: Measured) -> str:
    """Workers by rate and latency."""
    heads = [f"workers at {latency} ms" for latency in LATENCIES_MS]
    lines = [
        f"| events/s | writes in flight at {LATENCIES_MS[1]} ms | {' | '.join(heads)} | partitions, at least |",
        f"|{' ---: |' * (3 + len(heads))}",
    ]
    for rate in RATES:
        counts = [f"{workers(cost, rate, latency):,}" for latency in LATENCIES_MS]
        in_flight = math.ceil(rate * LATENCIES_MS[1] / 1000)
        lines.append(f"| {rate:,} | {in_flight:,} | {' | '.join(counts)} | {partitions(cost, rate):,} |")
    one = [f"{capacity(cost, CORES, latency):,.0f}" for latency in LATENCIES_MS]
    lines.append(f"| *one worker can do* | | {' | '.join(one)} | |")
    lines.append("")
    lines.append(
        f"From {cost.event_us:g} µs of CPU an event, {cost.main_thread_us:g} µs of them in the main thread; {CORES} "
        f"cores a worker, {MAX_IN_FLIGHT:,} writes in flight, planned for {UTILIZATION:.0%} of capacity."
    )
    return "\n".join(lines)


def recovery_table(cost: Measured) -> str:
    """How long a restore takes with one process."""
    lines = ["| events to restore | time of one process |", "| ---: | ---: |"]
    lines += [f"| {count:,} | {_duration(count / cost.restored_per_second)} |" for count in RESTORED]
    lines += ["", f"At the measured {cost.restored_per_second:,.0f} events a second and process."]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def written(page: str) -> str:
    """A page with its tables made anew."""
    cost = measured()
    for name, table in {"sizing": sizing_table(cost), "recovery": recovery_table(cost)}.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = page.partition(begin)
        _, marker, after = rest.partition(end)
        assert marker, f"the handbook has no {begin.strip()} … {end}"
        page = f"{before}{begin}{table}\n{end}{after}"
    return page


if __name__ == "__main__":
    HANDBOOK.write_text(written(HANDBOOK.read_text()))
