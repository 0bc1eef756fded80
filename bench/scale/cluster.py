"""Real workers in one group, a load whose rate can be changed, and a thread that notes what becomes durable.

S3 is the load server of the benchmark at an exact latency. A worker may have so few writes in flight that the latency
is its bound and not the CPU: eight workers can then write eight times as much on two cores.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import KafkaException

from bench import processes
from bench.errors import BenchError
from bench.load_server import LoadServer, load_server
from bench.sampler import Sampler
from bench.scale.results import Point
from bench.workload import Feeder
from tests.services.install import KAFKA
from tests.services.kafka import KafkaBroker
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

PARTITIONS = 48
LATENCY_MS = 200
IN_FLIGHT = 64
_READY_SECONDS = 90.0
_STOP_SECONDS = 60.0
_DRAIN_SECONDS = 180.0
_LOOK_SECONDS = 0.04
_LOAD_TICK_SECONDS = 0.05
_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "STREAMS_MAX_IN_FLIGHT": str(IN_FLIGHT),
    "STREAMS_S3_BUCKET": "bench",
    "STREAMS_S3_PATH_STYLE": "true",
}


class Load:
    """Publishes at `rate` events a second from a thread of its own, evenly over the partitions; set `rate` any time."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.rate = 0.0
        self._feeder = Feeder(bootstrap_servers, topic, PARTITIONS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    @property
    def published(self) -> int:
        return self._feeder.published

    def stop(self) -> None:
        """Return when the broker has everything."""
        self._stop.set()
        self._thread.join(60)
        self._feeder.flush()

    def _run(self) -> None:
        owed, last = 0.0, time.monotonic()
        while not self._stop.wait(_LOAD_TICK_SECONDS):
            now = time.monotonic()
            owed, last = owed + self.rate * (now - last), now
            self._feeder.publish(int(owed))
            owed -= int(owed)


class Cluster:
    """The workers of one group; use `cluster` to make one."""

    def __init__(self, directory: Path, broker: KafkaBroker, server: LoadServer) -> None:
        self._directory = directory
        self._broker = broker
        self._server = server
        self.topic = f"scale-{uuid.uuid4().hex[:8]}"
        broker.create_topic(self.topic, PARTITIONS)
        self.load = Load(broker.bootstrap_servers, self.topic)
        self.workers: list[WorkerProcess] = []
        self._leaving: list[WorkerProcess] = []
        self._made = 0
        self._cpu_of_ended = 0.0

    def start_more(self, count: int) -> list[WorkerProcess]:
        """Start so many at once; returns before they are ready."""
        more = [self._worker() for _ in range(count)]
        for worker in more:
            worker.start()
        self.workers += more
        return more

    def stop_some(self, count: int) -> list[WorkerProcess]:
        """SIGTERM to those that came last; returns before they have ended."""
        leaving = [self.workers.pop() for _ in range(count)]
        for worker in leaving:
            self._cpu_of_ended += processes.cpu_seconds(worker.pid)
            worker.terminate()
        self._leaving += leaving
        return leaving

    def wait_ready(self, workers: list[WorkerProcess]) -> None:
        for worker in workers:
            worker.wait_ready(_READY_SECONDS)

    def wait_settled(self) -> None:
        """Until every worker that runs has its share of the partitions, and nobody else has any."""
        wait_until(
            lambda: self._assigned() == PARTITIONS,
            _READY_SECONDS,
            lambda: f"{self._assigned()} of {PARTITIONS} partitions are assigned to {len(self.workers)} workers",
        )

    def wait_left(self) -> None:
        """Every worker that was told to stop has ended, with exit code 0."""
        for worker in self._leaving:
            code = worker.wait(_STOP_SECONDS)
            if code:
                raise BenchError(f"{worker.name} ended with exit code {code}\n{worker.log_tail()}")
        self._leaving.clear()

    def committed(self) -> int:
        """The sum of the committed offsets."""
        return sum(self._broker.committed_offsets(self.topic).values())

    def drain(self) -> None:
        """Wait until everything that was published is committed."""
        wait_until(
            lambda: self.committed() >= self.load.published,
            _DRAIN_SECONDS,
            lambda: f"{self.committed():,} of {self.load.published:,} events are committed",
        )

    def rebalances(self) -> int:
        """The most that any worker has seen since it started."""
        return max(int(worker.stats()["totals"]["rebalances"]) for worker in self.workers)

    def cpu_seconds(self) -> float:
        """CPU time of all workers, of those that have ended up to when they were told to."""
        return self._cpu_of_ended + sum(processes.cpu_seconds(worker.pid) for worker in self.workers)

    def watch(self) -> Watch:
        return Watch(self, self._server)

    def kill(self) -> None:
        for worker in (*self.workers, *self._leaving):
            worker.kill()

    def _worker(self) -> WorkerProcess:
        self._made += 1
        settings = {
            **_SETTINGS,
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": self._broker.bootstrap_servers,
            "STREAMS_TOPICS": self.topic,
            "STREAMS_CONSUMER_GROUP": self.topic,
            "STREAMS_S3_ENDPOINT_URL": self._server.url,
        }
        return WorkerProcess(self._directory / f"worker-{self._made}", settings, f"worker-{self._made}")

    def _assigned(self) -> int:
        """0 unless everybody has some."""
        counts = []
        for worker in self.workers:
            try:
                document = worker.stats()
            except (OSError, AssertionError):
                return 0
            counts.append(len(document["partitions"]) if document["state"] == "running" else 0)
        return sum(counts) if all(counts) else 0


class Watch(Sampler):
    """Notes many times a second how much is durable, and once a second the lag; use it as a context manager."""

    def __init__(self, cluster: Cluster, server: LoadServer) -> None:
        super().__init__({self._look: _LOOK_SECONDS, self._note: 1.0})
        self._cluster = cluster
        self._server = server
        self.durable: list[tuple[float, int]] = []
        self.puts = 0
        self.lag: int | None = None
        self.points: list[Point] = []
        self._look()

    def pause(self, seconds: float) -> None:
        """Wait, and see meanwhile that watching goes on and no worker has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.25))

    def check(self) -> None:
        super().check()
        for worker in self._cluster.workers:
            if not worker.running:
                raise BenchError(f"{worker.name} has ended\n{worker.log_tail()}")

    def _look(self) -> None:
        counts = self._server.counts()
        self.puts = counts.puts
        self.durable.append((self.seconds, counts.keys))

    def _note(self) -> None:
        published = self._cluster.load.published
        try:
            self.lag = max(0, published - self._cluster.committed())
        except (KafkaException, TimeoutError):
            self.lag = None
        point = Point(self.seconds, published, self.durable[-1][1], self.lag, len(self._cluster.workers))
        self.points.append(point)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A broker, a load server and a topic, without workers yet; everything is ended with the block."""
    if problem := KAFKA.problem():
        raise BenchError(problem)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        broker = stack.enter_context(KafkaBroker(directory / "kafka"))
        made = Cluster(directory, broker, stack.enter_context(load_server(LATENCY_MS)))
        stack.callback(made.kill)
        yield made
