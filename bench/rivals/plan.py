"""Which system does which work, in which order.

Runs are interleaved: in a round every system runs after the other on the same topic, because the machine's speed drifts
and only neighbours compare fairly.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench import processes
from bench.errors import BenchError
from bench.measure import Measurement, measure
from bench.rivals.install import tell
from bench.rivals.kill import KillRun, kill_and_restart
from bench.rivals.results import RivalResults
from bench.rivals.systems import System
from bench.workload import Load, filled_topic

LOADS = (
    Load(20_000, 73),
    Load(20_000, 73, event_bytes=1 << 10),
    Load(50_000, 0),
    Load(50_000, 0, event_bytes=1 << 10),
)
KILL_LOAD = Load(20_000, 73)
QUICK_SHARE = 10  # --quick does a tenth of everything
_QUIET_CORES = 0.3
_QUIET_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work there is, and how long each run waits for a machine that does nothing else."""

    rounds: int
    share: int = 1
    rates: bool = True
    kills: bool = True
    quiet_seconds: float = 0.0

    def of(self, load: Load) -> Load:
        """A load, or the share of it that a quick look does."""
        return replace(load, events=load.events // self.share)


def run(chosen: Sequence[System], sizes: Sizes, bootstrap_servers: str, results: RivalResults) -> None:
    """Everything, round after round; a system that fails is told and left out of that run."""
    with ExitStack() as stack:
        topics = {load: stack.enter_context(filled_topic(bootstrap_servers, sizes.of(load))) for load in _needed(sizes)}
        for number in range(1, sizes.rounds + 1):
            for load in LOADS if sizes.rates else ():
                for system in chosen:
                    rate(system, load, sizes, topics[load], bootstrap_servers, number, results)
            for system in chosen if sizes.kills else ():
                _kill(system, sizes.of(KILL_LOAD), topics[KILL_LOAD], bootstrap_servers, number, results)


def _needed(sizes: Sizes) -> list[Load]:
    return list(dict.fromkeys([*(LOADS if sizes.rates else ()), *((KILL_LOAD,) if sizes.kills else ())]))


def rate(
    system: System, load: Load, sizes: Sizes, topic: str, bootstrap_servers: str, number: int, results: RivalResults
) -> None:
    """Measure one system with its share of a load, if it has one."""
    share = system.share(load)
    if not system.rated or share is None:
        return
    share = sizes.of(share)
    contender = system.contender(share)
    _wait_for_quiet(sizes.quiet_seconds)
    try:
        results.runs.append(measure(contender, share, topic, bootstrap_servers, number, lambda done: None))
    except BenchError as error:
        _failed(contender.title, share, error, results)
    else:
        tell(describe_run(results.runs[-1]))


def _kill(system: System, load: Load, topic: str, bootstrap_servers: str, number: int, results: RivalResults) -> None:
    if not system.killed:
        return
    contender = system.contender(load)
    try:
        results.kills.append(kill_and_restart(contender, load, topic, bootstrap_servers, number))
    except BenchError as error:
        _failed(f"{contender.title} (killed)", load, error, results)
    else:
        tell(describe_kill(results.kills[-1]))


def _wait_for_quiet(limit_seconds: float) -> None:
    """Let what the run before left behind end; after the limit the run starts all the same, and its note tells."""
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        before, began = processes.machine_busy_seconds(), time.monotonic()
        time.sleep(_QUIET_SAMPLE_SECONDS)
        if (processes.machine_busy_seconds() - before) / (time.monotonic() - began) < _QUIET_CORES:
            return


def _failed(title: str, load: Load, error: BenchError, results: RivalResults) -> None:
    results.skipped[f"{title}, {load.name}"] = str(error).splitlines()[0]
    tell(f"{title}, {load.name}: {error}")


def describe_run(run: Measurement) -> str:
    """One line while the others still run."""
    return (
        f"round {run.round}, {run.events:,} at {run.latency_ms} ms, {run.event_bytes or 57} bytes: {run.title}: "
        f"{run.steady_per_second:,.0f} events/s, {run.cpu_us_per_event:,.0f} µs each, {run.peak_memory_mib:,.0f} MiB"
        f" (others {run.others_cores:.1f} cores)"
    )


def describe_kill(run: KillRun) -> str:
    """The same for a kill."""
    return (
        f"round {run.round}, killed at {run.stored_at_kill:,} of {run.events:,}: {run.title}: {run.lost:,} lost, "
        f"{run.repeated_puts:,} repeated, finished {run.restart_to_finish_seconds:.1f} s after the restart"
    )
