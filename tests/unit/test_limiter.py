"""The adaptive limit: backs off when the sink is in trouble, grows while it is used, stays within its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.limiter import START_LIMIT, AdaptiveLimit


def run_window(limit: AdaptiveLimit, start: float, latency: float, writes: int = 400) -> float:
    """A second of successful writes at full use."""
    for index in range(writes):
        limit.succeeded(latency, limit.limit, start + index / writes)
    return start + 1.0


def test_starts_below_a_large_maximum_and_grows_into_it() -> None:
    """Each success adds one until the first congestion: the maximum is reached in about one round trip."""
    limit = AdaptiveLimit(1000)
    assert START_LIMIT == limit.limit
    run_window(limit, 0.0, 0.073, writes=600)
    assert limit.limit == 1000


def test_small_maximum_is_the_limit_from_the_start() -> None:
    """A bound below the starting limit is kept."""
    assert AdaptiveLimit(64).limit == 64


def test_idle_worker_does_not_grow() -> None:
    """Growth needs use, so a quiet hour does not end in a burst."""
    limit = AdaptiveLimit(1000)
    for index in range(1000):
        limit.succeeded(0.05, 3, index / 100)
    assert START_LIMIT == limit.limit


def test_throttling_halves_once_a_window() -> None:
    """A hundred 503 answers of one moment, and nothing else, are one signal."""
    limit = AdaptiveLimit(400)
    for _ in range(100):
        limit.congested(400, 10.0)
    assert limit.limit == 200


def test_few_lost_requests_do_not_stop_a_healthy_flow() -> None:
    """One time-out in a hundred writes is answered in proportion: the limit settles near the maximum."""
    limit, now = AdaptiveLimit(400), 0.0
    for number in range(20_000):
        now += 0.0025
        if number % 100:
            limit.succeeded(0.05, limit.limit, now)
        else:
            limit.congested(limit.limit, now)
    assert limit.limit > 350


def test_sustained_throttling_ends_at_one_write() -> None:
    """While every answer is 503 the limit goes down to the floor, and never below it."""
    limit = AdaptiveLimit(1000)
    for second in range(200):
        limit.congested(limit.limit, float(second))
    assert limit.limit == 1


def test_recovers_after_throttling() -> None:
    """Additive increase brings the limit back while all goes well."""
    limit = AdaptiveLimit(400)
    for _ in range(100):
        limit.congested(400, 0.0)
    assert limit.limit < 400
    now = 1.0
    for _ in range(120):
        now = run_window(limit, now, 0.05)
    assert limit.limit == 400


def test_rising_latency_shrinks_the_limit() -> None:
    """A window whose mean passes twice the baseline plus the margin takes a tenth."""
    limit = AdaptiveLimit(400)
    now = run_window(limit, 0.0, 0.05)
    run_window(limit, now, 0.5)
    assert limit.limit < 400


def test_lasting_change_of_latency_becomes_the_new_baseline() -> None:
    """A service that is slower for good does not pin the limit to the floor."""
    limit = AdaptiveLimit(400)
    now = run_window(limit, 0.0, 0.05)
    for _ in range(3_000):
        now = run_window(limit, now, 0.5, writes=60)
    assert limit.limit > 200


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 5), st.floats(0, 1)), max_size=300))
def test_limit_stays_within_its_bounds(outcomes: list[tuple[bool, float, float]]) -> None:
    """Whatever happens, at least one write may go and never more than the maximum."""
    limit, now = AdaptiveLimit(50), 0.0
    for succeeded, latency, step in outcomes:
        now += step
        if succeeded:
            limit.succeeded(latency, limit.limit, now)
        else:
            limit.congested(limit.limit, now)
        assert 1 <= limit.limit <= 50
