"""Everything that a soak runs against: a real broker, a real S3 server behind the fault proxy, and the workers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError
from bench.soak.load import SteadyLoad
from tests.services.command import Command, Finished
from tests.services.install import KAFKA, S3
from tests.services.kafka import KafkaBroker
from tests.services.s3 import S3Server
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

BUCKET = "soak"
STEADY = ("steady-1", "steady-2")
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0
_VERIFY_SECONDS = 1800.0
_EVENT_BYTES = 8192
_SETTINGS = {
    # A dead worker's partitions move on after ten seconds, a PUT without an answer is tried again after ten.
    "STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "10",
    "STREAMS_S3_REQUEST_TIMEOUT_SECONDS": "10",
    "STREAMS_S3_PATH_STYLE": "true",
}


@dataclass
class Site:
    """The running whole; `steady` workers are never touched, `restarted` and `spare` are what faults happen to."""

    directory: Path
    broker: KafkaBroker
    s3: S3Server
    proxy: S3FaultProxy
    topic: str
    group: str
    load: SteadyLoad
    steady: list[WorkerProcess] = field(default_factory=list)
    restarted: WorkerProcess | None = None
    spare: WorkerProcess | None = None

    @property
    def workers(self) -> list[WorkerProcess]:
        """All that have ever been started."""
        return [*self.steady, *(worker for worker in (self.restarted, self.spare) if worker is not None)]

    def committed(self) -> int:
        """The sum of the committed offsets: every partition begins at 0 and has no gaps."""
        return sum(self.broker.committed_offsets(self.group).values())

    def settings(self, endpoint_url: str) -> dict[str, str]:
        """The environment of a worker or a command."""
        return {
            **_SETTINGS,
            **self.s3.environment(),
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "STREAMS_TOPICS": self.topic,
            "STREAMS_CONSUMER_GROUP": self.group,
            "STREAMS_S3_BUCKET": BUCKET,
            "STREAMS_S3_ENDPOINT_URL": endpoint_url,
        }

    def worker(self, name: str) -> WorkerProcess:
        """A worker of that name, not started."""
        return WorkerProcess(self.directory / name, self.settings(self.proxy.endpoint_url), name)

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
        self.load.check()
        for worker in self.steady:
            if not worker.running:
                code = worker.wait(1)
                raise BenchError(f"{worker.name} has ended with exit code {code}\n{worker.log_tail()}")

    def drain(self, timeout_seconds: float) -> None:
        """Wait until everything that was published is committed."""
        wait_until(
            lambda: self.committed() >= self.load.produced,
            timeout_seconds,
            lambda: f"{self.committed():,} of {self.load.produced:,} events are committed",
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
        command = Command(
            "verify", *arguments, settings=self.settings(self.s3.endpoint_url), directory=self.directory / "verify"
        )
        return command.wait(_VERIFY_SECONDS)

    def files(self) -> int:
        """The objects of the topic on the S3 server's disk, counted past S3, verify and Kafka."""
        root = self.s3.directory / "objects" / BUCKET / self.topic
        return sum(len(files) for _, _, files in os.walk(root))


def check_room(directory: Path, events: int) -> None:
    """Each event is a file of its own on the S3 server's disk, and a little in Kafka's log."""
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize < events * _EVENT_BYTES:
        raise BenchError(f"{directory} has less than {events * _EVENT_BYTES / 1e9:.1f} GB free for {events:,} events")
    if room.f_files and room.f_favail < events * 2:
        raise BenchError(f"{directory} has less than {events * 2:,} inodes free for {events:,} events")


@contextmanager
def site(directory: Path, partitions: int, rate: int, events: int) -> Iterator[Site]:
    """Servers and a topic in `directory`; everything is ended with the block."""
    for part in (KAFKA, S3):
        if problem := part.problem():
            raise BenchError(problem)
    check_room(directory, events)
    with ExitStack() as stack:
        broker = stack.enter_context(KafkaBroker(directory / "kafka"))
        s3 = stack.enter_context(S3Server(directory / "s3"))
        proxy = stack.enter_context(S3FaultProxy(s3.endpoint_url))
        s3.create_bucket(BUCKET)
        topic = f"soak-{uuid.uuid4().hex[:8]}"
        broker.create_topic(topic, partitions)
        made = Site(directory, broker, s3, proxy, topic, topic, SteadyLoad(broker.bootstrap_servers, topic, rate))
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.kill()
