"""The arithmetic of the stage profile: medians thread by thread, and what each stage adds."""

from __future__ import annotations

from bench.stage_app import thread_seconds
from bench.stages import STAGES, middle, table_rows


def _cost(main: float, kafka: float = 0.0, native: float = 0.0) -> dict[str, float]:
    return {"main": main, "kafka": kafka, "librdkafka": 0.0, "native": native}


def test_a_stage_costs_what_it_adds() -> None:
    """Every row is the difference to the stage before, and the last one is the whole."""
    costs = {stage: _cost(10.0 * (number + 1), 1.0) for number, stage in enumerate(STAGES)}
    rows = table_rows(costs)
    assert [_cost(10.0, 1.0), *[_cost(10.0)] * 4, _cost(50.0, 1.0)] == [cost for _, cost in rows]
    assert [*STAGES.values(), "all of it"] == [name for name, _ in rows]


def test_rounds_are_summed_up_by_their_median() -> None:
    """One disturbed round changes nothing."""
    assert _cost(3.0, 2.0, 7.0) == middle([_cost(2.0, 2.0, 900.0), _cost(3.0, 1.0, 7.0), _cost(90.0, 2.0, 6.0)])


def test_cpu_is_told_by_kind_of_thread() -> None:
    """This test's own work shows up in the main thread and nowhere else."""
    before = thread_seconds()
    assert sum(number * number for number in range(2_000_000)) > 0
    after = thread_seconds()
    assert after["main"] - before["main"] > 0.01
    assert after["native"] - before["native"] < after["main"] - before["main"]
