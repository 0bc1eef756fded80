"""The handbook's numbers follow from what was measured."""

from __future__ import annotations

import pytest

from tests.unit.sizing import HANDBOOK, Measured, capacity, measured, partitions, workers, written

COST = Measured(event_us=200, main_thread_us=50, restored_per_second=4000)


def test_tables_are_what_the_measurements_give() -> None:
    """After a new benchmark: `python -m tests.unit.sizing` writes them again."""
    page = HANDBOOK.read_text()
    assert written(page) == page, "run: .venv/bin/python -m tests.unit.sizing"


@pytest.mark.parametrize(
    ("cores", "latency_ms", "expected"),
    [
        (1, 10, 5_000),  # the CPU: 1 s ÷ 200 µs
        (8, 10, 20_000),  # the main thread is one core: 1 s ÷ 50 µs
        (8, 500, 2_000),  # Little's law: 1,000 in flight ÷ 0.5 s
    ],
)
def test_capacity_is_the_least_of_three_bounds(cores: float, latency_ms: float, expected: float) -> None:
    """Cores, main thread, writes in flight."""
    assert pytest.approx(expected) == capacity(COST, cores, latency_ms)


def test_workers_leave_room_to_catch_up() -> None:
    """Six thousand a second are just what one such worker with two cores is planned for; one more needs a second."""
    assert 1 == workers(COST, 6_000, 10)
    assert 2 == workers(COST, 6_001, 10)


def test_partitions_let_workers_double_and_give_s3_its_prefixes() -> None:
    """Never fewer than two a worker, nor fewer than one for 3,500 events/s."""
    assert 2 == partitions(COST, 1)
    assert 2 * workers(COST, 100_000, 200) == partitions(COST, 100_000)


def test_measured_is_read_from_the_pages() -> None:
    """The main thread's part is a part, and a restore was measured."""
    found = measured()
    assert 0 < found.main_thread_us < found.event_us
    assert found.restored_per_second > 0
