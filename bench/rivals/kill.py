"""Ends a system with `kill -9` in the middle of its work, starts it again, and counts what was lost and what repeated.

A PUT that waits for its answer when its client dies is not stored: the load server drops it, so that a commit which
ran ahead of the writes shows as a loss.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from bench.contenders import Contender, environment
from bench.errors import BenchError
from bench.load_server import REPOSITORY, LoadServer, ServerCounts, load_server
from bench.measure import Run
from bench.workload import Load

_POLL_SECONDS = 0.01
# A group waits for the session of the dead member to end: 45 s by default in the Java and Go clients.
_GIVE_UP_SECONDS = 120.0
_COMMIT_SECONDS = 20.0
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class KillRun:
    """What one `kill -9` cost."""

    system: str
    title: str
    events: int
    latency_ms: int
    round: int
    stored_at_kill: int
    lost: int
    repeated_puts: int
    restart_to_finish_seconds: float


@dataclass(frozen=True, slots=True)
class _Crash:
    """One system on one topic, in a group that outlives its process."""

    contender: Contender
    variables: dict[str, str]
    log: Path
    server: LoadServer
    events: int

    @contextmanager
    def life(self) -> Iterator[subprocess.Popen[bytes]]:
        """One process of the system; whatever is left of it is killed at the end of the block."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self.contender.command,
                env=self.variables,
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def until(self, process: subprocess.Popen[bytes], wanted: int) -> ServerCounts:
        """Wait until so many events are stored, or until nothing more comes: what is missing then is lost."""
        keys, last_progress = -1, time.monotonic()
        while True:
            counts = self.server.counts()
            if counts.keys != keys:
                keys, last_progress = counts.keys, time.monotonic()
            if counts.keys >= wanted or time.monotonic() - last_progress > _GIVE_UP_SECONDS:
                return counts
            if process.poll() is not None:
                tail = self.log.read_text(errors="replace")[-2_000:]
                raise BenchError(f"{self.contender.title} ended with {process.returncode} by itself:\n{tail}")
            time.sleep(_POLL_SECONDS)


def kill_and_restart(
    contender: Contender, load: Load, topic: str, bootstrap_servers: str, round_number: int
) -> KillRun:
    """Kill it when half of the events are stored, start it again in the same group, wait for the end."""
    group = f"bench-{uuid.uuid4().hex[:12]}"
    with load_server(load.latency_ms) as server, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        variables = environment(
            contender,
            bootstrap_servers=bootstrap_servers,
            topic=topic,
            group=group,
            endpoint_url=server.url,
            data_dir=Path(directory),
        )
        crash = _Crash(contender, variables, Path(directory) / "output.log", server, load.events)
        with crash.life() as process:
            stored_at_kill = crash.until(process, load.events // 2).keys
            if stored_at_kill < load.events // 2:
                raise BenchError(
                    f"{contender.title} stored {stored_at_kill:,} events and then no more, before its kill"
                )
        restarted_ns = time.time_ns()
        with crash.life() as process:
            finished = crash.until(process, load.events)
            _wait_for(lambda: _committed(bootstrap_servers, group, topic) >= load.events)
            Run(contender, process, crash.log).stop()
        counts = server.counts()
    return KillRun(
        system=contender.name,
        title=contender.title,
        events=load.events,
        latency_ms=load.latency_ms,
        round=round_number,
        stored_at_kill=stored_at_kill,
        lost=load.events - counts.keys,
        repeated_puts=counts.puts - counts.keys,
        restart_to_finish_seconds=(finished.last_put_ns - restarted_ns) / 1e9,
    )


def _wait_for(reached: Callable[[], bool]) -> None:
    """Repeats may go on when every key is there; they are over when everything is committed."""
    end = time.monotonic() + _COMMIT_SECONDS
    while time.monotonic() < end and not reached():
        time.sleep(0.2)


def _committed(bootstrap_servers: str, group: str, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": _ERRORS_ONLY})
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
    return sum(max(0, part.offset) for part in answer.topic_partitions or () if part.topic == topic)
