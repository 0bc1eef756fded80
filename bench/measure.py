"""Runs one contender against a load server of its own and reads the clocks.

The times are the server's: arrival of the first write's headers to the answer of the last. CPU is that of the
contender's process alone, from the first write that was seen to the last. A write is a PUT to S3 or a send to SQS.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.contenders import Contender, environment
from bench.errors import BenchError
from bench.load_server import REPOSITORY, LoadServer, ServerCounts, load_server
from bench.services import S3
from bench.workload import Feeder, Load

POLL_SECONDS = 0.05
_FIRST_PUT_POLL_SECONDS = 0.01  # so that start-up is told well from work
_STALLED_SECONDS = 60.0
_STOP_SECONDS = 40.0
_LOG_LINES = 25

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The numbers of one run that wrote every event."""

    contender: str
    title: str
    events: int
    latency_ms: int
    partitions: int
    event_bytes: int
    round: int
    first_to_last_seconds: float
    start_to_last_seconds: float
    steady_per_second: float
    cpu_us_per_event: float
    peak_memory_mib: float
    repeated_puts: int
    connections: int
    max_in_flight: int
    server_cpu_us_per_event: float
    others_cores: float
    service: str = S3.name
    requests: int = 0
    keys: int = 0

    @property
    def per_second(self) -> float:
        """Events per second between the first write and the last, ramps included."""
        return self.events / self.first_to_last_seconds

    @property
    def events_per_request(self) -> float:
        """More than one where the contender sends batches."""
        return (self.events + self.repeated_puts) / (self.requests or self.events)


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Resident memory and finished events at a moment of a memory run."""

    seconds: float
    resident_mib: float
    events: int


@dataclass(frozen=True, slots=True)
class MemoryRun:
    """A long run that is fed all the time, and how its memory went."""

    contender: str
    title: str
    event_bytes: int
    latency_ms: int
    seconds: float
    events: int
    max_in_flight: int
    peak_memory_mib: float
    samples: tuple[MemorySample, ...]


class Run:
    """A contender at work; use `running` to make one."""

    def __init__(self, contender: Contender, process: subprocess.Popen[bytes], log: Path) -> None:
        self._contender = contender
        self._process = process
        self._log = log
        self._peak_mib = 0.0
        self.started_ns = time.time_ns()

    def cpu_seconds(self) -> float:
        """CPU time so far; also keeps the peak memory, which is gone once the process has ended."""
        self.resident_mib()
        return processes.cpu_seconds(self._process.pid)

    def resident_mib(self) -> float:
        """Resident memory now, 0 once the process has ended."""
        memory = processes.memory(self._process.pid)
        if memory is None:
            return 0.0
        self._peak_mib = max(self._peak_mib, memory.peak_mib)
        return memory.resident_mib

    @property
    def peak_memory_mib(self) -> float:
        """The most memory it was seen to have had (the kernel's high-water mark)."""
        return self._peak_mib

    def check(self, counts: ServerCounts, wanted: int | None, last_progress: float) -> None:
        """Stop the benchmark when this run can no longer end well."""
        if self._ended() and (wanted is None or counts.keys < wanted):
            self._process.wait()
            raise self._failure(f"ended with exit code {self._process.returncode} after {counts.keys} events")
        if counts.refused:
            raise self._failure(f"sent {counts.refused} requests that {self._contender.service.title} would refuse")
        if time.monotonic() - last_progress > _STALLED_SECONDS:
            raise self._failure(f"wrote nothing for {_STALLED_SECONDS:.0f} s, after {counts.keys} events")

    def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise self._failure(f"did not stop within {_STOP_SECONDS:.0f} s of SIGTERM") from None

    def _ended(self) -> bool:
        """Whether it has ended, told without reaping it: its CPU time must stay readable."""
        return Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"

    def _failure(self, what: str) -> BenchError:
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        return BenchError(f"{self._contender.title} {what}. The end of its output:\n{tail}")


@contextmanager
def running(contender: Contender, topic: str, bootstrap_servers: str, server: LoadServer) -> Iterator[Run]:
    """Start a contender in a new consumer group; it is stopped when the block ends, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        log = Path(directory) / "output.log"
        data_dir = Path(directory) / "data"
        data_dir.mkdir()
        variables = environment(
            contender,
            bootstrap_servers=bootstrap_servers,
            topic=topic,
            group=f"bench-{uuid.uuid4().hex[:12]}",
            endpoint_url=server.url,
            data_dir=data_dir,
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                contender.command, env=variables, cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True
            )
            run = Run(contender, process, log)
            try:
                yield run
            except BaseException:
                process.kill()
                process.wait()
                raise
            run.stop()


def measure(
    contender: Contender, load: Load, topic: str, bootstrap_servers: str, round_number: int, progress: Progress
) -> Measurement:
    """Run the contender until every event of the load is an object, and say what it took."""
    with load_server(load.latency_ms) as server, running(contender, topic, bootstrap_servers, server) as run:
        counts = _until(run, server, lambda seen: seen.keys > 0, load.events, progress, _FIRST_PUT_POLL_SECONDS)
        cpu_before, keys_before = run.cpu_seconds(), counts.keys
        server_cpu_before = processes.cpu_seconds(server.pid)
        busy_before, began = processes.machine_busy_seconds(), time.monotonic()
        counts = _until(run, server, lambda seen: seen.keys >= load.events, load.events, progress, POLL_SECONDS)
        cpu = run.cpu_seconds() - cpu_before
        server_cpu = processes.cpu_seconds(server.pid) - server_cpu_before
        busy, elapsed = processes.machine_busy_seconds() - busy_before, time.monotonic() - began
        measured_events = max(1, load.events - keys_before)
        return Measurement(
            contender=contender.name,
            title=contender.title,
            events=load.events,
            latency_ms=load.latency_ms,
            partitions=load.partitions,
            event_bytes=load.event_bytes,
            round=round_number,
            first_to_last_seconds=(counts.last_put_ns - counts.first_put_ns) / 1e9,
            start_to_last_seconds=(counts.last_put_ns - run.started_ns) / 1e9,
            steady_per_second=counts.steady_per_second,
            cpu_us_per_event=cpu / measured_events * 1e6,
            peak_memory_mib=run.peak_memory_mib,
            repeated_puts=counts.puts - counts.keys,
            connections=counts.connections,
            max_in_flight=counts.max_in_flight,
            server_cpu_us_per_event=server_cpu / measured_events * 1e6,
            others_cores=max(0.0, busy - cpu - server_cpu) / elapsed,
            service=contender.service.name,
            requests=counts.requests,
            keys=load.keys,
        )


def watch_memory(
    contender: Contender,
    load: Load,
    topic: str,
    bootstrap_servers: str,
    *,
    seconds: float,
    backlog: int,
    progress: Progress,
) -> MemoryRun:
    """Feed the contender for `seconds`, always `backlog` events ahead of it, and sample its memory once a second."""
    samples: list[MemorySample] = []
    feeder = Feeder(bootstrap_servers, topic, load.partitions, load.event_bytes)
    with load_server(load.latency_ms) as server, running(contender, topic, bootstrap_servers, server) as run:
        began = last_progress = time.monotonic()
        counts = server.counts()
        while (elapsed := time.monotonic() - began) < seconds:
            seen, counts = counts.keys, server.counts()
            if counts.keys > seen:
                last_progress = time.monotonic()
            run.check(counts, None, last_progress)
            feeder.publish(max(0, backlog - (feeder.published - counts.keys)))
            if elapsed >= len(samples):
                samples.append(MemorySample(round(elapsed, 2), round(run.resident_mib(), 1), counts.keys))
                progress(int(elapsed))
            time.sleep(POLL_SECONDS)
        peak_mib = run.peak_memory_mib
        feeder.flush()
    return MemoryRun(
        contender=contender.name,
        title=contender.title,
        event_bytes=load.event_bytes,
        latency_ms=load.latency_ms,
        seconds=seconds,
        events=counts.keys,
        max_in_flight=counts.max_in_flight,
        peak_memory_mib=peak_mib,
        samples=tuple(samples),
    )


def _until(
    run: Run,
    server: LoadServer,
    reached: Callable[[ServerCounts], bool],
    wanted: int,
    progress: Progress,
    poll_seconds: float,
) -> ServerCounts:
    """Poll the server until `reached` holds; polling is rare enough not to disturb what is measured."""
    last_keys, last_progress = -1, time.monotonic()
    while True:
        counts = server.counts()
        if counts.keys != last_keys:
            last_keys, last_progress = counts.keys, time.monotonic()
            progress(counts.keys)
        if reached(counts):
            return counts
        run.check(counts, wanted, last_progress)
        time.sleep(poll_seconds)
