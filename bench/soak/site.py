"""Everything that a soak runs against: three real brokers, a real S3 server behind the fault proxy, and the workers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.errors import BenchError
from bench.soak.asking import ask_until
from bench.soak.load import SteadyLoad
from bench.soak.short_lived import ShortLived
from tests.services.command import Command, Finished
from tests.services.install import KAFKA, S3
from tests.services.kafka import KafkaBroker
from tests.services.kafka_cluster import NODES, KafkaCluster
from tests.services.s3 import S3Server
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

BUCKET = "soak"
STEADY = ("steady-1", "steady-2")
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0
_VERIFY_SECONDS = 1800.0
_ANSWER_SECONDS = 5.0
_COORDINATOR_SECONDS = 60.0
_EVENT_BYTES = 8192
_SETTINGS = {
    # A dead worker's partitions move on after ten seconds, a PUT without an answer is tried again after ten.
    "STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "10",
    "STREAMS_S3_REQUEST_TIMEOUT_SECONDS": "10",
    "STREAMS_S3_PATH_STYLE": "true",
    # A topic that is made again is archived beside its predecessor; held, it would keep workers from being ready.
    "STREAMS_ON_NEW_TOPIC": "new-life",
}
_SHARE_OF_OTHER_LOADS = 10
"""The topic with one replica and the short-lived one get a tenth of the rate each."""


@dataclass
class Site:
    """The running whole; `steady` workers are never touched, `restarted` and `spare` are what faults happen to."""

    directory: Path
    kafka: KafkaCluster
    s3: S3Server
    proxy: S3FaultProxy
    group: str
    loads: list[SteadyLoad]
    """Of a topic with three replicas, and of one whose partitions have no leader while their only broker is away."""
    short_lived: ShortLived
    offsets: Consumer
    """Never joins the group; asks for its offsets. An admin client that is ended while a broker owes it an answer about
    a group aborts the process (librdkafka 2.16: `eonce->refcnt > 0`)."""
    steady: list[WorkerProcess] = field(default_factory=list)
    restarted: WorkerProcess | None = None
    spare: WorkerProcess | None = None

    @property
    def workers(self) -> list[WorkerProcess]:
        """All that have ever been started."""
        return [*self.steady, *(worker for worker in (self.restarted, self.spare) if worker is not None)]

    @property
    def topics(self) -> list[str]:
        """Those that live as long as the soak, and that `verify` proves."""
        return [load.topic for load in self.loads]

    @property
    def produced(self) -> int:
        """Events of these topics that the brokers have taken."""
        return sum(load.produced for load in self.loads)

    def committed(self) -> int:
        """The sum of the committed offsets of these topics: every partition begins at 0 and has no gaps.

        Raises:
            KafkaException: the coordinator is away, or does not know a partition's offset at the moment.
        """
        found = self.offsets.committed(self._places(), timeout=_ANSWER_SECONDS)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return sum(place.offset for place in found if place.offset >= 0)

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(load.topic, number) for load in self.loads for number in range(load.partitions)]

    def coordinator(self) -> KafkaBroker:
        """The broker that the workers' group talks to."""
        return ask_until(
            lambda: self.kafka.coordinator(self.group),
            _COORDINATOR_SECONDS,
            lambda: f"no broker says who coordinates {self.group}",
        )

    def start_loads(self) -> None:
        """The short-lived topic has its load since it was made."""
        for load in self.loads:
            load.start()

    def stop_loads(self) -> None:
        """Return when the last event is acknowledged."""
        self.short_lived.stop()
        for load in self.loads:
            load.stop()

    def settings(self, endpoint_url: str, topics: Sequence[str]) -> dict[str, str]:
        """The environment of a worker or a command."""
        return {
            **_SETTINGS,
            **self.s3.environment(),
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": self.kafka.addresses("PLAINTEXT"),
            "STREAMS_TOPICS": ",".join(topics),
            "STREAMS_CONSUMER_GROUP": self.group,
            "STREAMS_S3_BUCKET": BUCKET,
            "STREAMS_S3_ENDPOINT_URL": endpoint_url,
        }

    def worker(self, name: str) -> WorkerProcess:
        """A worker of that name, not started."""
        settings = self.settings(self.proxy.endpoint_url, [*self.topics, self.short_lived.name])
        return WorkerProcess(self.directory / name, settings, name)

    def start_workers(self) -> None:
        """The steady ones and the one that faults happen to; returns when the group has settled."""
        self.steady = [self.worker(name) for name in STEADY]
        self.restarted = self.worker("restarted")
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.wait_ready(_READY_SECONDS)

    def check(self) -> None:
        """Stop the soak when the load has failed or a worker that nobody touched has ended."""
        for load in self.loads:
            load.check()
        self.short_lived.check()
        for worker in self.steady:
            if not worker.running:
                code = worker.wait(1)
                raise BenchError(f"{worker.name} has ended with exit code {code}\n{worker.log_tail()}")

    def drain(self, timeout_seconds: float) -> None:
        """Wait until everything that was published is committed."""
        left = self.produced

        def nothing_left() -> bool:
            nonlocal left
            left = self.produced - self.committed()
            return left <= 0

        ask_until(
            nothing_left, timeout_seconds, lambda: f"{left:,} of {self.produced:,} published events are not committed"
        )
        wait_until(
            lambda: self.short_lived.missing() <= 0,
            timeout_seconds,
            lambda: f"{self.short_lived.missing():,} events of {self.short_lived.name} are not written",
            interval_seconds=0.5,
        )

    def stop_workers(self) -> dict[str, int]:
        """SIGTERM to all that run; their exit codes by name."""
        running = [worker for worker in self.workers if worker.running]
        for worker in running:
            worker.terminate()
        return {worker.name: worker.wait(_STOP_SECONDS) for worker in running}

    def verify(self, sample: int) -> Finished:
        """`faust -A streams verify`, straight to the S3 server, with the bytes of `sample` events compared."""
        arguments = ["--json", "--content", str(sample), "--seed", "1"]
        settings = self.settings(self.s3.endpoint_url, self.topics)
        command = Command("verify", *arguments, settings=settings, directory=self.directory / "verify")
        return command.wait(_VERIFY_SECONDS)

    def files(self) -> int:
        """The objects of the topics on the S3 server's disk, counted past S3, verify and Kafka."""
        roots = [_objects(self.s3) / topic for topic in self.topics]
        return sum(len(files) for root in roots for _, _, files in os.walk(root))


def _objects(s3: S3Server) -> Path:
    return s3.directory / "objects" / BUCKET


def check_room(directory: Path, events: int) -> None:
    """Each event is a file of its own on the S3 server's disk, and a little in Kafka's log."""
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize < events * _EVENT_BYTES:
        raise BenchError(f"{directory} has less than {events * _EVENT_BYTES / 1e9:.1f} GB free for {events:,} events")
    if room.f_files and room.f_favail < events * 2:
        raise BenchError(f"{directory} has less than {events * 2:,} inodes free for {events:,} events")


@contextmanager
def site(directory: Path, partitions: int, rate: int, events: int) -> Iterator[Site]:
    """Servers and topics in `directory`; everything is ended with the block."""
    for part in (KAFKA, S3):
        if problem := part.problem():
            raise BenchError(problem)
    check_room(directory, events + 2 * events // _SHARE_OF_OTHER_LOADS)
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaCluster(directory / "kafka", secure=False))
        s3 = stack.enter_context(S3Server(directory / "s3"))
        proxy = stack.enter_context(S3FaultProxy(s3.endpoint_url))
        s3.create_bucket(BUCKET)
        made = _site(directory, kafka, s3, proxy, partitions, rate)
        stack.callback(made.short_lived.stop)
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.kill()


def _site(directory: Path, kafka: KafkaCluster, s3: S3Server, proxy: S3FaultProxy, partitions: int, rate: int) -> Site:
    name = f"soak-{uuid.uuid4().hex[:8]}"
    less = max(1, rate // _SHARE_OF_OTHER_LOADS)
    kafka.create_topic(name, partitions)
    kafka.create_topic(f"{name}-one-replica", NODES, replicas=1)
    servers = kafka.addresses("PLAINTEXT")
    loads = [
        SteadyLoad(servers, name, partitions, rate),
        SteadyLoad(servers, f"{name}-one-replica", NODES, less),
    ]
    short_lived = ShortLived(kafka, f"{name}-short-lived", NODES, less, _objects(s3))
    short_lived.begin()
    offsets = Consumer({"bootstrap.servers": servers, "group.id": name, "enable.auto.commit": False, "log_level": 0})
    return Site(directory, kafka, s3, proxy, name, loads, short_lived, offsets)
