"""What a rate would take, on paper: measured costs, documented limits and list prices multiplied. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

SECONDS_A_DAY = 86_400
S3_PUTS_PER_PREFIX = 3500
"""Amazon S3 User Guide, "Best practices design patterns: optimizing Amazon S3 performance"."""
_BITS = 8
_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a worker and an event are; each of them can be measured."""

    cpu_us_per_event: float = 190.0
    """Of the whole process, docs/performance.md; without TLS."""
    main_thread_us_per_event: float = 60.0
    """What cannot be spread over cores: the bound of one worker, docs/performance.md."""
    utilization: float = 0.6
    """The share of a core that is planned for: the rest catches up, and pays for TLS."""
    put_seconds: float = 0.073
    """The published latency of a PUT."""
    event_bytes: int = 1000
    overhead_bytes: int = 900
    """HTTP request and answer, signature and metadata of one PUT; an estimate, TLS records and packets not counted."""
    most_per_partition: int = S3_PUTS_PER_PREFIX
    """So that no topic/partition/ prefix asks for more than S3 gives one."""
    put_usd_per_1000: float = 0.005
    storage_usd_per_gb_month: float = 0.023
    vcpu_usd_per_hour: float = 0.04
    """About what a vCPU of a general-purpose instance costs on demand."""


@dataclass(frozen=True, slots=True)
class Size:
    """A rate, and what it takes; dollars at list prices of us-east-1."""

    events_per_second: int
    partitions: int
    prefixes: int
    workers: int
    vcpus: int
    in_flight: int
    connections_per_worker: int
    to_s3_gbit_per_second: float
    from_kafka_mb_per_second: float
    objects_per_day: int
    put_usd_per_day: float
    compute_usd_per_day: float
    storage_usd_per_month_per_day: float


def size(events_per_second: int, assumed: Assumptions | None = None) -> Size:
    """Little's law for writes in flight, the measured CPU for workers, S3's documented rate for prefixes."""
    given = assumed or Assumptions()
    per_worker = given.utilization * _MEGA / given.main_thread_us_per_event
    workers = math.ceil(events_per_second / per_worker)
    in_flight = math.ceil(events_per_second * given.put_seconds)
    prefixes = math.ceil(events_per_second / S3_PUTS_PER_PREFIX)
    # Twice as many as workers at the least: one more or less then changes everybody's share a little.
    partitions = max(math.ceil(events_per_second / given.most_per_partition), 2 * workers)
    vcpus = math.ceil(events_per_second * given.cpu_us_per_event / _MEGA / given.utilization)
    objects = events_per_second * SECONDS_A_DAY
    return Size(
        events_per_second=events_per_second,
        partitions=partitions,
        prefixes=prefixes,
        workers=workers,
        vcpus=vcpus,
        in_flight=in_flight,
        connections_per_worker=math.ceil(in_flight / workers),
        to_s3_gbit_per_second=events_per_second * (given.event_bytes + given.overhead_bytes) * _BITS / 1e9,
        from_kafka_mb_per_second=events_per_second * given.event_bytes / _MEGA,
        objects_per_day=objects,
        put_usd_per_day=objects / 1000 * given.put_usd_per_1000,
        compute_usd_per_day=vcpus * given.vcpu_usd_per_hour * 24,
        storage_usd_per_month_per_day=objects * given.event_bytes / 1e9 * given.storage_usd_per_gb_month,
    )
