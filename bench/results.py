"""The raw numbers of one benchmark, kept as JSON so that tables and charts can be drawn again without running it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Machine
from bench.measure import Measurement, MemoryRun, MemorySample


@dataclass(slots=True)
class Results:
    """All parts that were run; a part that was not is empty."""

    machine: Machine
    started: str
    rounds: int
    published: list[Measurement] = field(default_factory=list)
    sustained: list[Measurement] = field(default_factory=list)
    partitions: list[Measurement] = field(default_factory=list)
    memory: list[MemoryRun] = field(default_factory=list)

    def save(self, directory: Path) -> Path:
        """Write them to a file of their own, named by the time at which the benchmark began."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.started.replace(':', '').replace(' ', 'T')}.json"
        path.write_text(json.dumps(asdict(self), indent=1))
        return path


def load(path: Path) -> Results:
    """Read what `save` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text())
    return Results(
        machine=Machine(**raw["machine"]),
        started=raw["started"],
        rounds=raw["rounds"],
        published=[Measurement(**run) for run in raw["published"]],
        sustained=[Measurement(**run) for run in raw["sustained"]],
        partitions=[Measurement(**run) for run in raw["partitions"]],
        memory=[_memory_run(run) for run in raw["memory"]],
    )


def _memory_run(raw: dict[str, Any]) -> MemoryRun:
    samples = tuple(MemorySample(**sample) for sample in raw.pop("samples"))
    return MemoryRun(samples=samples, **raw)
