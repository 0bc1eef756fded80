"""Whether something grows: a leak must be seen, noise and faults must not be taken for one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.soak.trend import fit, floors, last_levels, quiet

HOUR = [float(second) for second in range(0, 3600, 5)]


def test_a_leak_is_seen_through_noise() -> None:
    """20 MiB an hour under ±5 MiB of noise are no flat line, and the slope is right to within its uncertainty."""
    noise = random.Random(1)
    found = fit([[(at, 100 + 20 * at / 3600 + noise.uniform(-5, 5)) for at in HOUR]])
    assert not found.flat(10)
    assert 20 == pytest.approx(found.per_hour, abs=found.uncertain_per_hour)


def test_noise_alone_is_flat() -> None:
    """±5 MiB around 100 for an hour."""
    noise = random.Random(2)
    found = fit([[(at, 100 + noise.uniform(-5, 5)) for at in HOUR]])
    assert found.flat(10)
    assert 100 == pytest.approx(found.mean, abs=1)


def test_the_upper_end_of_the_uncertainty_counts() -> None:
    """A few wild samples prove nothing, so they do not pass."""
    found = fit([[(0, 100), (5, 160), (10, 90), (15, 150)]])
    assert not found.flat(10)


def test_what_shrinks_is_flat() -> None:
    """Memory that is given back is no leak."""
    assert fit([[(at, 200 - at / 100) for at in HOUR]]).flat(1)


@pytest.mark.parametrize("points", [[], [(1.0, 5.0)], [(1.0, 5.0), (2.0, 5.0)], [(1.0, 5.0)] * 9])
def test_too_few_samples_prove_nothing(points: list[tuple[float, float]]) -> None:
    """Fewer than three, or all of one moment: no line, no verdict of flat."""
    assert not fit([points]).flat(1000)
    assert not fit([]).flat(1000)


@given(st.floats(-100, 100), st.floats(-1e4, 1e4))
def test_a_straight_line_is_found_as_it_is(per_hour: float, start: float) -> None:
    """Without noise the slope is exact."""
    found = fit([[(at, start + per_hour * at / 3600) for at in HOUR]])
    assert per_hour == pytest.approx(found.per_hour, abs=1e-6)


def test_a_step_between_quiet_times_is_no_slope() -> None:
    """What a fault leaves behind lifts the level; the time after it is as flat as the time before."""
    low, high = [(at, 100.0) for at in HOUR[:300]], [(at, 130.0) for at in HOUR[300:]]
    assert 0 == fit([low, high]).per_hour
    assert not fit([low + high]).flat(10)


def test_a_leak_is_seen_across_steps() -> None:
    """20 MiB an hour within each quiet time are found whatever their levels."""
    runs = [[(at, level + 20 * at / 3600) for at in HOUR[n * 100 : n * 100 + 60]] for n, level in enumerate((9, 70, 3))]
    assert 20 == pytest.approx(fit(runs).per_hour)


def test_quiet_leaves_out_warm_up_and_faults() -> None:
    """What happens while something is broken, or before caches are full, is no trend; each time between is a run."""
    points = [(float(at), 1.0) for at in range(10)]
    runs = quiet(points, [(5, 7)], 3)
    assert [[3.0, 4.0], [8.0, 9.0]] == [[at for at, _ in run] for run in runs]


def test_floors_are_the_lowest_of_each_span() -> None:
    """What lies between spans does not count, and a span without a sample has no floor."""
    points = [(0.0, 9.0), (1.0, 3.0), (2.0, 1.0), (5.0, 7.0)]
    assert [3.0, 7.0] == floors(points, [(0, 2), (3, 4), (4, 6)])


def test_last_levels_are_what_is_left_of_each_span() -> None:
    """The last value before the next rotation begins."""
    assert [3.0, 7.0] == last_levels([(0.0, 9.0), (1.0, 3.0), (2.0, 1.0), (5.0, 7.0)], [(0, 2), (2.5, 4), (4, 6)])
