"""Sizes on paper: the arithmetic of what a rate would take."""

from __future__ import annotations

import pytest

from bench.scale.paper import Assumptions, size


def test_a_million_events_a_second() -> None:
    """The numbers that docs/scale.md quotes: PUTs dominate everything else by far."""
    million = size(1_000_000)
    assert 432_000 == pytest.approx(million.put_usd_per_day)
    assert 286 == million.prefixes == million.partitions
    assert 73_000 == million.in_flight
    assert 86_400_000_000 == million.objects_per_day
    assert million.put_usd_per_day > 100 * million.compute_usd_per_day


def test_workers_follow_the_main_thread_and_vcpus_the_whole_cost() -> None:
    """60 µs of one thread at 60 % are 10,000 events/s a worker; 190 µs of CPU are 3.2 vCPUs for them."""
    found = size(10_000)
    assert 1 == found.workers
    assert 4 == found.vcpus


@pytest.mark.parametrize("rate", [1, 3500, 3501, 50_000, 1_000_000])
def test_there_are_always_partitions_for_twice_the_workers(rate: int) -> None:
    """And no partition's prefix is asked for more than S3 gives one."""
    found = size(rate)
    assert found.partitions >= 2 * found.workers
    assert rate / found.partitions <= 3500


def test_twice_the_latency_takes_twice_the_writes_in_flight() -> None:
    """Little's law, and nothing else changes."""
    slow, usual = size(10_000, Assumptions(put_seconds=0.146)), size(10_000)
    assert 2 * usual.in_flight == slow.in_flight
    assert usual.workers == slow.workers
