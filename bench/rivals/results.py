"""The raw numbers of one comparison, kept as JSON so that tables and pictures can be drawn again without running it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Machine
from bench.measure import Measurement
from bench.rivals.kill import KillRun


@dataclass(slots=True)
class RivalResults:
    """All runs, and by the title of a system why it has none, or not all."""

    machine: Machine
    started: str
    rounds: int
    runs: list[Measurement] = field(default_factory=list)
    kills: list[KillRun] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def save(self, directory: Path) -> Path:
        """Write them to a file of their own, named by the time at which the comparison began."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"rivals-{self.started.replace(':', '').replace(' ', 'T')}.json"
        path.write_text(json.dumps(asdict(self), indent=1))
        return path


def load(path: Path) -> RivalResults:
    """Read what `save` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text())
    return RivalResults(
        machine=Machine(**raw["machine"]),
        started=raw["started"],
        rounds=raw["rounds"],
        runs=[Measurement(**run) for run in raw["runs"]],
        kills=[KillRun(**run) for run in raw["kills"]],
        skipped=raw["skipped"],
    )
