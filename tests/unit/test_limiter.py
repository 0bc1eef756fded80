"""The adaptive limit: backs off when the sink is in trouble, grows while it is used, stays within its bounds."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.limiter import COARSE, MIN_CEILING, START_LIMIT, AdaptiveLimit, CeilingTrials, Window


def test_starts_below_a_large_maximum_and_grows_into_it() -> None:
    """Each success adds one until the first congestion: the maximum is reached in about one round trip."""
    limit = AdaptiveLimit(1000)
    assert START_LIMIT == limit.limit
    for index in range(600):
        limit.succeeded(0.073, limit.limit, index / 6000)
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


def test_sustained_throttling_ends_at_one_write() -> None:
    """While every answer is 503 the limit goes down to the floor, and never below it."""
    limit = AdaptiveLimit(1000)
    for second in range(200):
        limit.congested(limit.limit, float(second))
    assert limit.limit == 1


@dataclass
class Service:
    """A sink that answers after `latency_seconds`, and so many writes a second at the most; the rest queues."""

    latency_seconds: float
    writes_per_second: float
    cost_of_company: float = 0.0
    """How much of its rate it loses for a thousand writes in flight (contention)."""
    failed_share: float = 0.0
    """How many of the requests time out or are throttled."""

    def rate(self, in_flight: int) -> float:
        bound = self.writes_per_second / (1 + self.cost_of_company * in_flight / 1000)
        return min(in_flight / self.latency_seconds, bound)


class Load:
    """A worker that always has more to write than the limit allows, on a clock of its own."""

    STEP_SECONDS = 0.02
    NOISE = 0.05
    """Spread of the rate from step to step; single latencies spread by a third, as S3's do."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self.limit = limit
        self.now = 0.0
        self._random = random.Random(7)

    def run(self, service: Service, seconds: float) -> float:
        """Writes a second that came to be durable."""
        written = 0
        end = self.now + seconds
        while self.now < end:
            in_flight = self.limit.limit
            rate = service.rate(in_flight)
            count = round(rate * self.STEP_SECONDS * self._random.gauss(1, self.NOISE))
            for index in range(count):
                moment = self.now + self.STEP_SECONDS * index / count
                if self._random.random() < service.failed_share:
                    self.limit.congested(self.limit.limit, moment)
                    continue
                written += 1
                latency = in_flight / rate * self._random.lognormvariate(0, 0.3)
                self.limit.succeeded(latency, self.limit.limit, moment)
            self.now += self.STEP_SECONDS
        return written / seconds


@pytest.mark.parametrize("failed_share", [0.001, 0.01])
def test_few_lost_requests_do_not_stop_a_healthy_flow(failed_share: float) -> None:
    """Some time-outs among many successes are answered in proportion: the limit settles near the maximum."""
    load = Load(AdaptiveLimit(400))
    service = Service(latency_seconds=0.073, writes_per_second=1e6, failed_share=failed_share)
    load.run(service, 20)
    assert load.run(service, 40) > 0.85 * service.rate(400)


def test_recovers_after_throttling() -> None:
    """Additive increase brings the limit back while all goes well."""
    load = Load(AdaptiveLimit(400))
    for _ in range(100):
        load.limit.congested(400, 0.0)
    assert load.limit.limit < 400
    load.run(Service(latency_seconds=0.05, writes_per_second=1e6), 30)
    assert load.limit.limit == 400


def test_queueing_shrinks_the_limit_to_what_earns_its_place() -> None:
    """Where the sink or the machine is the bound, the limit goes down to what keeps the rate, and stays there."""
    load = Load(AdaptiveLimit(1000))
    busy = Service(latency_seconds=0.0005, writes_per_second=7000, cost_of_company=0.25)
    load.run(busy, 8)
    assert load.limit.limit < 100
    assert load.run(busy, 20) > 0.97 * busy.rate(MIN_CEILING)
    assert load.limit.limit < 100


@pytest.mark.parametrize("latency_seconds", [0.02, 0.073, 0.2, 1.0])
def test_latency_alone_never_shrinks_the_limit(latency_seconds: float) -> None:
    """Where every write in flight earns its share, trials cost next to nothing and the limit is the maximum again."""
    load = Load(AdaptiveLimit(1000))
    far = Service(latency_seconds, writes_per_second=1e6)
    load.run(far, 30)
    assert load.run(far, 60) > 0.96 * far.rate(1000)
    assert load.limit.limit >= 750


def test_limit_finds_what_a_bounded_service_needs() -> None:
    """7,000 a second at 73 ms need 511 in flight (Little's law): neither half of that nor all that is allowed."""
    load = Load(AdaptiveLimit(2000))
    service = Service(latency_seconds=0.073, writes_per_second=7000)
    load.run(service, 20)
    assert load.run(service, 60) > 0.97 * 7000
    assert 400 < load.limit.limit < 900


def test_rising_latency_brings_the_limit_back_within_seconds() -> None:
    """A limit that was low because it could be is no brake when the service becomes slow."""
    load = Load(AdaptiveLimit(1000))
    load.run(Service(0.0005, 7000, cost_of_company=0.25), 20)
    slow = Service(0.073, 7000, cost_of_company=0.25)
    load.run(slow, 5)
    assert load.run(slow, 10) > 0.9 * slow.rate(512)


def test_noise_does_not_carry_the_limit_away() -> None:
    """With a rate that jumps by a fifth from step to step, a minute of trials loses less than a twentieth."""
    load = Load(AdaptiveLimit(1000))
    load.NOISE = 0.2
    service = Service(latency_seconds=0.073, writes_per_second=9000)
    load.run(service, 10)
    assert load.run(service, 60) > 0.95 * 9000


def test_trials_wait_while_the_limit_is_not_in_use() -> None:
    """A worker without a backlog learns nothing from its rate, so its limit stays."""
    limit = AdaptiveLimit(1000)
    for index in range(20_000):
        limit.succeeded(0.02, 10, index / 500)
    assert START_LIMIT == limit.limit


def test_work_that_runs_out_during_a_trial_ends_it_without_a_verdict() -> None:
    """A rate that falls because there is less to do says nothing about the ceiling under trial."""
    trials = CeilingTrials(1000)
    for _ in range(1 + COARSE.windows):
        trials.observe(Window(5000.0, in_use=True))
    assert trials.ceiling == 500
    trials.observe(Window(100.0, in_use=False))
    assert trials.ceiling == 1000


def test_another_maximum_bounds_the_limit_at_once() -> None:
    """An operator's lower maximum holds from the next write on; a higher one is grown into."""
    load = Load(AdaptiveLimit(1000))
    far = Service(latency_seconds=0.5, writes_per_second=1e6)
    load.run(far, 5)
    load.limit.change_maximum(100)
    assert load.limit.limit == 100
    load.run(far, 20)
    assert load.limit.limit <= 100
    load.limit.change_maximum(400)
    load.run(far, 40)
    assert 300 <= load.limit.limit <= 400


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 5), st.floats(0, 1)), max_size=1000))
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
