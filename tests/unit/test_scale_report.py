"""What the scale runs say about themselves: pauses, rates, tables and pictures from known numbers."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.machine import Machine
from bench.report import Table
from bench.scale import report
from bench.scale.results import Change, LoopRun, Point, ScaleResults, StepsRun, load
from bench.scale.rules import Rule
from bench.scale.simulation import Step
from bench.scale.steps import longest_pause, per_second

MACHINE = Machine(2, "a processor", 8.0, "6.1", "3.11.7", 6, {"obstore": "0.12.1"})
POINTS = [Point(float(at), 100 * at, 90 * at, 10 * at, 1 if at < 10 else 2) for at in range(20)]
STEPS = StepsRun(
    load=100,
    latency_ms=200,
    in_flight=64,
    partitions=48,
    changes=[Change(0, 1, 0, 0, 300, 0, 0.2, 0, 0), Change(1, 2, 10, 4.2, 590, 0.55, 0.2, 1, 3)],
    points=POINTS,
    published=1900,
    durable=1900,
    repeated=3,
    worker_cpu_us_per_event=200,
    others_cores=0.3,
)
RULE = Rule(lag_threshold=50, minimum=1, maximum=2, partitions=48)
LOOP = LoopRun(RULE, [Step(0, 50), Step(10, 100)], POINTS, 1900, 1900, 0, 1, 20)


def _results() -> ScaleResults:
    return ScaleResults(MACHINE, "2026-01-02 03:04:05", STEPS, LOOP)


def test_longest_pause_is_the_longest_time_without_progress() -> None:
    """Samples that show the same count belong to one pause; a pause may still be on at the end."""
    samples = [(0.0, 1), (1.0, 2), (1.5, 2), (2.0, 2), (3.5, 5), (4.0, 6)]
    assert 2.5 == longest_pause(samples, 0, 4)
    assert 1.0 == longest_pause(samples, 0, 2)
    assert 0.5 == longest_pause(samples, 3.5, 4)


def test_longest_pause_without_a_sample_is_all_of_it() -> None:
    """Who has seen nothing must not report that there was no pause."""
    assert 3 == longest_pause([(9.0, 1)], 0, 3)


def test_rate_is_counted_between_samples() -> None:
    """Events per second between the first and the last sample of the span."""
    assert 20 == per_second([(0.0, 0), (1.0, 10), (2.0, 30), (3.0, 50)], 1, 3)


def test_steps_table_compares_with_one_worker() -> None:
    """Two workers at 590 events/s do 0.98 of one's 300 each."""
    _, both = report.steps_table(STEPS).rows
    assert ("1 → 2", "590", "0.98", "4.2", "1", "0.55", "0.20", "3") == tuple(both)


def test_loop_table_has_a_row_for_each_load() -> None:
    """With the lag while it was on, and the workers."""
    first, second = report.loop_table(LOOP).rows
    assert ("0 s to 10 s", "50", "90", "45", "1 to 1") == tuple(first)
    assert ("10 s to 20 s", "100", "190", "145", "2 to 2") == tuple(second)


def test_every_part_has_its_table() -> None:
    """By the section of the document that it stands in; what was not run is left out."""
    assert ["scale-steps", "scale-loop", "scale-simulation", "scale-paper"] == list(report.tables(_results()))
    assert ["scale-simulation", "scale-paper"] == list(report.tables(ScaleResults(MACHINE, "2026-01-02 03:04:05")))
    assert all(isinstance(table, Table) for tables in report.tables(_results()).values() for table in tables)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    """One for each part, each of them XML."""
    report.draw(_results(), tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert ["scale-loop.svg", "scale-simulation.svg", "scale-steps.svg"] == drawn
    for path in tmp_path.iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - a picture of ours


@pytest.mark.parametrize("results", [_results(), ScaleResults(MACHINE, "2026-01-02 03:04:05", loop=LOOP)])
def test_results_come_back_as_they_were_saved(results: ScaleResults, tmp_path: Path) -> None:
    """So that pictures can be drawn again later."""
    assert results == load(results.save(tmp_path))
