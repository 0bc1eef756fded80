"""What the runs leave behind, kept as JSON so that tables and pictures can be drawn again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Machine
from bench.scale.rules import Rule
from bench.scale.simulation import Step


@dataclass(frozen=True, slots=True)
class Point:
    """A second of a run; `lag` is what an autoscaler sees (`None`: the broker did not answer in time)."""

    seconds: float
    published: int
    durable: int
    lag: int | None
    workers: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the number of workers under load, and what came of it.

    `longest_pause` is the longest time without a single durable event from the change until everybody was at work, in
    seconds; `usual_pause` the longest when nothing changed, for comparison.
    """

    before: int
    after: int
    at: float
    ready_seconds: float
    per_second: float
    longest_pause: float
    usual_pause: float
    rebalances: int
    repeated: int


@dataclass(frozen=True, slots=True)
class StepsRun:
    """Workers added and taken away by hand, under one load."""

    load: int
    latency_ms: int
    in_flight: int
    partitions: int
    changes: list[Change]
    points: list[Point]
    published: int
    durable: int
    repeated: int
    worker_cpu_us_per_event: float
    others_cores: float


@dataclass(frozen=True, slots=True)
class LoopRun:
    """Workers added and taken away by the autoscaler's rule."""

    rule: Rule
    steps: list[Step]
    points: list[Point]
    published: int
    durable: int
    repeated: int
    changes: int
    seconds: float


@dataclass(slots=True)
class ScaleResults:
    """Both runs; one that was not made is missing."""

    machine: Machine
    started: str
    steps: StepsRun | None = None
    loop: LoopRun | None = None
    beside: str = field(default="")

    def save(self, directory: Path) -> Path:
        """Write it to a file of its own, named by the time at which it began."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"scale-{self.started.replace(':', '').replace(' ', 'T')}.json"
        path.write_text(json.dumps(asdict(self)))
        return path


def load(path: Path) -> ScaleResults:
    """Read what `save` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text())
    return ScaleResults(
        machine=Machine(**raw["machine"]),
        started=raw["started"],
        steps=None if raw["steps"] is None else _steps(raw["steps"]),
        loop=None if raw["loop"] is None else _loop(raw["loop"]),
        beside=raw["beside"],
    )


def _steps(raw: dict[str, Any]) -> StepsRun:
    changes = [Change(**one) for one in raw.pop("changes")]
    return StepsRun(changes=changes, points=[Point(**one) for one in raw.pop("points")], **raw)


def _loop(raw: dict[str, Any]) -> LoopRun:
    return LoopRun(
        rule=Rule(**raw.pop("rule")),
        steps=[Step(**one) for one in raw.pop("steps")],
        points=[Point(**one) for one in raw.pop("points")],
        **raw,
    )
