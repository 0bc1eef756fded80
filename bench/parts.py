"""What each part of the benchmark runs: contenders, loads and rounds.

Runs of one part are interleaved (A B C A B C): the machine's speed drifts, and only neighbours compare fairly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench.contenders import Contender, handwritten, published_design, sqs_worker, worker
from bench.measure import Measurement, MemoryRun, Progress, measure, watch_memory
from bench.services import S3, SQS, Service
from bench.workload import Load, filled_topic, topic

PUBLISHED_LATENCY_MS = 73
PUBLISHED_SQS_LATENCY_MS = 34
PUBLISHED_MESSAGES = 1_000
SQS_KEYS = 1_000  # the message groups of the FIFO queue; a multiple of the partitions, so that each key has one

# Takes what is about to run and how much of it there is; gives a function to call with how much is done.
Announce = Callable[[str, int], Progress]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work each part does."""

    rounds: int = 3
    sequence_messages: int = PUBLISHED_MESSAGES
    sustained: tuple[tuple[int, int], ...] = ((20_000, 73), (50_000, 0))
    sqs_sustained_events: int = 20_000
    partitions_events: int = 20_000
    small_memory_seconds: float = 600.0
    large_memory_seconds: float = 60.0

    def with_rounds(self, rounds: int) -> Sizes:
        """The same amount of work, another number of times."""
        return replace(self, rounds=rounds)


QUICK = Sizes(
    rounds=1,
    sequence_messages=50,
    sustained=((3_000, 73), (5_000, 0)),
    sqs_sustained_events=3_000,
    partitions_events=3_000,
    small_memory_seconds=20.0,
    large_memory_seconds=10.0,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part needs to know."""

    bootstrap_servers: str
    sizes: Sizes
    announce: Announce
    max_in_flight: int | None = None
    worker_command: str | None = None
    only: Sequence[str] = ()

    def worker(self, client: str, max_in_flight: int | None = None) -> Contender:
        """Our worker as the command line wants it."""
        return worker(client, max_in_flight or self.max_in_flight, self.worker_command)

    def sqs_workers(self, *kinds: str) -> list[Contender]:
        """Our worker with SQS as the command line wants it."""
        return [sqs_worker(kind, self.max_in_flight, self.worker_command) for kind in kinds]

    def chosen(self, contenders: Sequence[Contender]) -> list[Contender]:
        """Those of them that the command line wants."""
        return [contender for contender in contenders if not self.only or contender.name in self.only]

    def run(self, contender: Contender, load: Load, topic_name: str, round_number: int) -> Measurement:
        """Measure one contender once, and show that it is being done."""
        progress = self.announce(f"{contender.title}: {load.name}, round {round_number}", load.events)
        return measure(contender, load, topic_name, self.bootstrap_servers, round_number, progress)

    def interleaved(self, contenders: Sequence[Contender], loads: Sequence[Load]) -> list[Measurement]:
        """Every contender with every load, round after round; all rounds read the same topics."""
        if not contenders:
            return []
        with ExitStack() as stack:
            topics = {load: stack.enter_context(filled_topic(self.bootstrap_servers, load)) for load in loads}
            return [
                self.run(contender, load, topics[load], round_number)
                for round_number in range(1, self.sizes.rounds + 1)
                for load in loads
                for contender in contenders
            ]


def published(bench: Bench) -> list[Measurement]:
    """The published benchmark's four rows, as published, and the worker from Kafka with the same messages."""
    return [
        *_published(bench, S3, PUBLISHED_LATENCY_MS, [bench.worker("obstore"), bench.worker("aiobotocore")]),
        *_published(bench, SQS, PUBLISHED_SQS_LATENCY_MS, bench.sqs_workers("", "fifo", "single")),
    ]


def _published(bench: Bench, service: Service, latency_ms: int, ours: Sequence[Contender]) -> list[Measurement]:
    load = Load(PUBLISHED_MESSAGES, latency_ms)
    sequence = Load(bench.sizes.sequence_messages, latency_ms)
    once = bench.chosen([published_design(service, "sequence", sequence.events)])
    threads = bench.chosen([published_design(service, "threads", load.events)])
    rounds = range(1, bench.sizes.rounds + 1)
    return [
        *(bench.run(contender, sequence, "", 1) for contender in once),
        *(bench.run(contender, load, "", number) for number in rounds for contender in threads),
        *bench.interleaved(bench.chosen(ours), [load]),
    ]


def sustained(bench: Bench) -> list[Measurement]:
    """Both S3 clients of the worker against both of the hand-written consumer; then the worker with SQS."""
    contenders = [
        bench.worker("obstore"),
        handwritten("obstore"),
        bench.worker("aiobotocore"),
        handwritten("aiobotocore"),
    ]
    sqs_load = Load(bench.sizes.sqs_sustained_events, PUBLISHED_SQS_LATENCY_MS, keys=SQS_KEYS)
    with_sqs = bench.sqs_workers("", "fifo")
    return [
        *bench.interleaved(bench.chosen(contenders), [Load(*size) for size in bench.sizes.sustained]),
        *bench.interleaved(bench.chosen(with_sqs), [sqs_load]),
    ]


def partitions(bench: Bench, counts: Sequence[int]) -> list[Measurement]:
    """The worker over more and more partitions: the cost per event should stay flat."""
    loads = [Load(bench.sizes.partitions_events, PUBLISHED_LATENCY_MS, partitions=count) for count in counts]
    return bench.interleaved([bench.worker("obstore")], loads)


def memory(bench: Bench) -> list[MemoryRun]:
    """The worker with all its writes in flight for minutes: 1 KB events, then events of 1 MB.

    The latencies are long so that the bounds are reached at a rate which the machine can keep up: 1,000 writes in
    flight of 1 KB at 2,000 events/s, and 64 MiB in flight of 1 MB at some 30 events/s.
    """
    small = Load(events=0, latency_ms=500, event_bytes=1 << 10)
    large = Load(events=0, latency_ms=2_000, event_bytes=1 << 20)
    return [
        _watch(bench, small, bench.sizes.small_memory_seconds, backlog=8_000),
        _watch(bench, large, bench.sizes.large_memory_seconds, backlog=200),
    ]


def _watch(bench: Bench, load: Load, seconds: float, backlog: int) -> MemoryRun:
    contender = bench.worker("obstore", max_in_flight=1_000)
    progress = bench.announce(f"{contender.title}: memory with events of {load.event_bytes:,} bytes", int(seconds))
    # Kept short on disk; the backlog that the worker has not read yet is far smaller than what is kept.
    config = {"max.message.bytes": str(4 << 20), "retention.bytes": str(128 << 20), "segment.bytes": str(32 << 20)}
    with topic(bench.bootstrap_servers, load.partitions, config) as name:
        return watch_memory(
            contender, load, name, bench.bootstrap_servers, seconds=seconds, backlog=backlog, progress=progress
        )
