"""`/metrics`: the statistics in Prometheus' format, made when it scrapes, so that an event pays nothing for them.

Names: `streams_<name>_<unit>[_total]`. Labels are bounded: topic, partition, and reasons from fixed sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.stats import LATENCY_BOUNDS_SECONDS, Kind
from streams.status import PartitionStatus, Status

PARTITION_LABELS = ["topic", "partition"]


class StatusCollector(Collector):
    """Turns the status into metric families at each scrape."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._writes()
        yield from self._partitions()
        yield from self._conditions()
        yield from self._costs()
        yield _tasks()

    def _counters(self) -> Iterator[Metric]:
        stats = self._status.stats
        events = CounterMetricFamily("streams_durable_events", "Events whose object is durable.", labels=["topic"])
        sent = CounterMetricFamily("streams_sent_bytes", "Bytes of object bodies written.", labels=["topic"])
        for topic in stats.events:
            events.add_metric([topic], stats.events[topic])
            sent.add_metric([topic], stats.sent_bytes[topic])
        dead = CounterMetricFamily(
            "streams_dead_letters", "Events that could not be written as configured.", labels=["topic", "error_type"]
        )
        for (topic, reason), count in stats.dead_letters.items():
            dead.add_metric([topic, reason], count)
        retries = CounterMetricFamily(
            "streams_write_errors", "Failed writes, each of them retried.", labels=["error_type", "stage"]
        )
        for reason, count in stats.retries.items():
            retries.add_metric([reason, "write"], count)
        lost = CounterMetricFamily(
            "streams_lost_to_retention_events",
            "Events that left Kafka's retention before they were written (an upper bound).",
            labels=["topic"],
        )
        for topic, count in stats.lost_to_retention.items():
            lost.add_metric([topic], count)
        rebalances = CounterMetricFamily("streams_rebalances", "Rebalances of the consumer group.")
        rebalances.add_metric([], stats.rebalances)
        segments = CounterMetricFamily("streams_ledger_segments", "Segments of the ledger that are durable.")
        segments.add_metric([], stats.ledger_segments)
        ledger_errors = CounterMetricFamily("streams_ledger_write_errors", "Failed writes of segments, each retried.")
        ledger_errors.add_metric([], stats.ledger_write_errors)
        holes = CounterMetricFamily(
            "streams_ledger_holes",
            "Ranges of offsets of which the ledger keeps no record, for it could not be written for too long.",
        )
        holes.add_metric([], stats.ledger_holes)
        held = GaugeMetricFamily(
            "streams_ledger_commits_held_seconds",
            "How long commits of a partition have waited for its ledger; 0 where none does.",
            stats.ledger_held_seconds(monotonic()),
        )
        yield from (events, sent, dead, retries, lost, rebalances, segments, ledger_errors, holes, held)

    def _writes(self) -> Iterator[Metric]:
        status = self._status
        delivery, histogram = status.delivery, status.stats.latency
        yield GaugeMetricFamily("streams_writes_in_flight", "Writes begun and not durable yet.", delivery.in_flight)
        yield GaugeMetricFamily(
            "streams_writes_in_flight_limit", "What the adaptive limit allows now.", delivery.limit.limit
        )
        yield GaugeMetricFamily("streams_writes_in_flight_maximum", "STREAMS_MAX_IN_FLIGHT.", delivery.limit.maximum)
        yield GaugeMetricFamily(
            "streams_writes_waiting_for_retry", "Writes that failed and back off.", len(status.stats.waiting)
        )
        yield GaugeMetricFamily("streams_sink_failing", "1 while the sink only fails.", int(status.stats.sink_failing))
        consumer = status.consumer
        yield GaugeMetricFamily(
            "streams_buffer_bytes", "Bytes of events taken and not durable.", consumer.buffered_bytes if consumer else 0
        )
        latency = HistogramMetricFamily("streams_write_latency_seconds", "From the first attempt to durable.")
        seen, buckets = 0, []
        for bound, count in zip(LATENCY_BOUNDS_SECONDS, histogram.counts, strict=False):
            seen += count
            buckets.append((str(bound), float(seen)))
        buckets.append(("+Inf", float(sum(histogram.counts))))
        latency.add_metric([], buckets, histogram.sum_seconds)
        yield latency

    def _costs(self) -> Iterator[Metric]:
        costs, now = self._status.costs, monotonic()
        billed = CounterMetricFamily(
            "streams_billed_requests",
            "Requests that AWS bills, retries among them; sqs: one for each 64 KiB of a request.",
            labels=["kind"],
        )
        used = costs.total()
        billed.add_metric(["s3_put"], used.s3_puts)
        billed.add_metric(["sqs"], used.sqs_requests)
        dollars = GaugeMetricFamily(
            "streams_cost_usd_per_day",
            "The rate of the last minute in US dollars. requests: what a day of it costs; storage: what keeping the "
            "objects of one day of it costs a month.",
            labels=["kind"],
        )
        dollars.add_metric(["requests"], costs.requests_usd_per_day(now))
        dollars.add_metric(["storage"], costs.storage_usd_per_month_per_day(now))
        yield from (billed, dollars)

    def _partitions(self) -> Iterator[Metric]:
        families = {
            "position": "The next offset to be taken from Kafka.",
            "watermark": "The lowest offset that is not durable.",
            "committed": "The offset that Kafka has accepted last.",
            "end": "The offset behind the last readable event; no sample: unknown, or not told for 30 s.",
        }
        gauges = {
            name: GaugeMetricFamily(f"streams_partition_{name}_offset", text, labels=PARTITION_LABELS)
            for name, text in families.items()
        }
        lag = GaugeMetricFamily(
            "streams_partition_lag_events", "Events not durable yet; no sample: unknown.", labels=PARTITION_LABELS
        )
        age = GaugeMetricFamily(
            "streams_partition_oldest_pending_seconds", "Age of the oldest unfinished event.", labels=PARTITION_LABELS
        )
        held = GaugeMetricFamily(
            "streams_partition_held", "1 where a rejected event stops the partition.", labels=PARTITION_LABELS
        )
        loss = GaugeMetricFamily(
            "streams_partition_time_to_loss_seconds",
            "Until the oldest event that is not durable leaves Kafka's retention, at the earliest; +Inf: nothing is "
            "at risk, no sample: unknown.",
            labels=PARTITION_LABELS,
        )
        partitions = self._status.partitions(monotonic())
        for partition in partitions:
            labels = [partition.topic, str(partition.partition)]
            for name, gauge in gauges.items():
                value = getattr(partition, name)
                if value is not None and (name != "end" or partition.end_is_known):
                    gauge.add_metric(labels, value)
            if partition.lag is not None:
                lag.add_metric(labels, partition.lag)
            if partition.time_to_loss_seconds is not None:
                loss.add_metric(labels, partition.time_to_loss_seconds)
            age.add_metric(labels, _age_seconds(partition))
            held.add_metric(labels, 0 if partition.held is None else 1)
        unknown = GaugeMetricFamily(
            "streams_lag_unknown_partitions",
            "Assigned partitions whose lag is unknown: not begun yet, or the broker has not told their end for 30 s.",
            sum(partition.lag is None for partition in partitions),
        )
        yield from (*gauges.values(), lag, unknown, age, held, loss)

    def _conditions(self) -> Iterator[Metric]:
        conditions, now = self._status.stats.conditions, monotonic()
        active = GaugeMetricFamily(
            "streams_condition_active",
            "How often something is not as it should be at the moment (topics, partitions, or 1); 0: it is not so.",
            labels=["condition"],
        )
        seconds = GaugeMetricFamily(
            "streams_condition_seconds", "How long the oldest of these has been so.", labels=["condition"]
        )
        begun = CounterMetricFamily("streams_conditions_begun", "How often it has begun.", labels=["condition"])
        for kind in Kind:
            found = conditions.of(kind)
            active.add_metric([kind.value], len(found))
            seconds.add_metric([kind.value], now - found[0].since if found else 0.0)
            begun.add_metric([kind.value], conditions.begun[kind])
        yield from (active, seconds, begun)


def _tasks() -> Metric:
    """Tasks of the loop that serves the scrape; without a value where none runs (the generated documentation)."""
    family = GaugeMetricFamily("streams_asyncio_tasks", "Unfinished tasks of the event loop: a leak would show here.")
    try:
        family.add_metric([], len(asyncio.all_tasks()))
    except RuntimeError:
        return family
    return family


def _age_seconds(partition: PartitionStatus) -> float:
    return 0.0 if partition.oldest is None else float(partition.oldest["age_seconds"])


class Metrics:
    """The registry of one worker; `render` is what `/metrics` serves."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, status: Status) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(StatusCollector(status))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def collect(self) -> list[Metric]:
        """All families as they are now."""
        return list(self._registry.collect())

    def render(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self._registry)
