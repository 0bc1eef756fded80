"""What a soak leaves behind, kept as JSON so that table and picture can be drawn again without another hour."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.machine import Machine

SETTLE_SECONDS = 10.0
"""After a fault, when the lag is normal again, until the workers count as undisturbed."""


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """A worker's process at a moment; what it does not answer is `None`."""

    seconds: float
    worker: str
    pid: int
    resident_mib: float
    descriptors: int
    threads: int
    tasks: int | None


@dataclass(frozen=True, slots=True)
class LagSample:
    """How many events the broker had taken, and how many of them were not committed (`None`: it did not answer)."""

    seconds: float
    produced: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class FaultRun:
    """A fault as it was, in seconds after the start."""

    name: str
    words: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` said at the end, beside what the load and the disk say."""

    verdict: str
    sentence: str
    seconds: float
    verified_events: int
    compared: int
    produced: int
    files: int
    exit_codes: dict[str, int]
    lives: int = 0
    """How many topics of the short-lived name there were."""
    lives_problems: list[str] = field(default_factory=list)
    """What became of their events that must not."""


@dataclass(slots=True)
class SoakResults:
    """One run; `verdict` is missing when it did not get that far."""

    machine: Machine
    started: str
    minutes: float
    rate: int
    partitions: int
    steady_workers: list[str]
    faults: list[FaultRun] = field(default_factory=list)
    workers: list[WorkerSample] = field(default_factory=list)
    lags: list[LagSample] = field(default_factory=list)
    injected: dict[str, int] = field(default_factory=dict)
    puts: int = 0
    verdict: Verdict | None = None

    @property
    def normal_lag(self) -> int:
        """Two seconds of load: what is in flight or waits for the next commit."""
        return 2 * self.rate

    def disturbed(self) -> Iterator[tuple[float, float]]:
        """From each fault's beginning until the lag was normal again (or the next fault), and a moment more."""
        for fault in self.faults:
            recovered = self.recovered(fault)
            yield fault.began, (self.following(fault) if recovered is None else recovered) + SETTLE_SECONDS

    def following(self, fault: FaultRun) -> float:
        """When the next fault began, or the end of the run."""
        return next((one.began for one in self.faults if one.began > fault.began), math.inf)

    def lags_after(self, seconds: float, fault: FaultRun) -> list[LagSample]:
        """From that second to the next fault."""
        return [sample for sample in self.lags if seconds <= sample.seconds < self.following(fault)]

    def recovered(self, fault: FaultRun) -> float | None:
        """From when on the lag stayed normal, after the fault and before the next; `None`: it did not."""
        recovered: float | None = None
        for sample in self.lags_after(fault.ended, fault):
            if sample.lag is None or sample.lag > self.normal_lag:
                recovered = None
            elif recovered is None:
                recovered = sample.seconds
        return recovered

    def rotations(self) -> list[tuple[float, float]]:
        """From each return of the first fault to the next, those that are whole or the last."""
        begins = [fault.began for fault in self.faults if fault.name == self.faults[0].name]
        return list(pairwise([*begins, self.minutes * 60]))

    def save(self, directory: Path) -> Path:
        """Write it to a file of its own, named by the time at which it began."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"soak-{self.started.replace(':', '').replace(' ', 'T')}.json"
        path.write_text(json.dumps(asdict(self)))
        return path


def load(path: Path) -> SoakResults:
    """Read what `save` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text())
    verdict = raw.pop("verdict")
    return SoakResults(
        machine=Machine(**raw.pop("machine")),
        faults=[FaultRun(**one) for one in raw.pop("faults")],
        workers=[WorkerSample(**one) for one in raw.pop("workers")],
        lags=[LagSample(**one) for one in raw.pop("lags")],
        verdict=None if verdict is None else Verdict(**verdict),
        **raw,
    )
