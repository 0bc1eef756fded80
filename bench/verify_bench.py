"""How long `verify` takes for a million objects, and how much memory for ten: `make bench ARGS=--verify`.

The broker is real and has that many events and a commit behind them. S3 is played by a process of its own, which
answers LIST with as many made-up objects, each answer after the latency of S3's; the command is the real one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from rich.table import Table

from bench.errors import BenchError
from bench.load_server import REPOSITORY

TOPIC = "orders"
BUCKET = "bench"
PAGE_OBJECTS = 1000
LATENCY_MS = 100.0
_COMMIT_SECONDS = 60.0


@dataclass(frozen=True)
class VerifyRun:
    """What one verification took; CPU and memory are the command's own."""

    objects: int
    parallel: int
    latency_ms: float
    requests: int
    seconds: float
    cpu_seconds: float
    peak_mib: float


def measure_verify(bootstrap_servers: str, events: int, latency_ms: float, parallel: int) -> VerifyRun:
    """Verify a partition of so many events, whose objects are all there."""
    topic, group = f"{TOPIC}-{uuid.uuid4().hex[:8]}", f"verify-{uuid.uuid4().hex[:8]}"
    _publish(bootstrap_servers, topic, events)
    _commit(bootstrap_servers, group, topic, events)
    with _bucket(topic, events, latency_ms) as endpoint_url, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        return _run(
            _environment(bootstrap_servers, topic, group, endpoint_url, directory), events, latency_ms, parallel
        )


def table_of(runs: list[VerifyRun]) -> Table:
    """The runs, for the terminal."""
    table = Table(title="verify: one partition, every object there")
    for name in ("objects", "LIST latency", "parallel", "requests", "seconds", "objects/s", "CPU s", "peak memory"):
        table.add_column(name, justify="right")
    for run in runs:
        table.add_row(
            f"{run.objects:,}",
            f"{run.latency_ms:g} ms",
            str(run.parallel),
            f"{run.requests:,}",
            f"{run.seconds:.1f}",
            f"{run.objects / run.seconds:,.0f}",
            f"{run.cpu_seconds:.1f}",
            f"{run.peak_mib:.0f} MiB",
        )
    return table


def _publish(bootstrap_servers: str, topic: str, events: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 50, "compression.type": "lz4"})
    for _ in range(events):
        while True:
            try:
                producer.produce(topic, value=b"x", partition=0)
                break
            except BufferError:
                producer.poll(0.1)
    if left := producer.flush(120):
        raise BenchError(f"{left} events could not be published")


def _commit(bootstrap_servers: str, group: str, topic: str, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    commit = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])
    deadline = time.monotonic() + _COMMIT_SECONDS
    while True:  # a broker that is new makes its topic of offsets first
        answer = admin.alter_consumer_group_offsets([commit])[group].result(_COMMIT_SECONDS)
        if not any(part.error for part in answer.topic_partitions or ()):
            return
        if time.monotonic() > deadline:
            raise BenchError(f"the group's offset cannot be committed: {answer.topic_partitions}")
        time.sleep(0.2)


def _environment(bootstrap_servers: str, topic: str, group: str, endpoint_url: str, directory: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": directory,
        "PYTHONPATH": str(REPOSITORY),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "STREAMS_TOPICS": topic,
        "STREAMS_CONSUMER_GROUP": group,
        "STREAMS_S3_BUCKET": BUCKET,
        "STREAMS_S3_ENDPOINT_URL": endpoint_url,
        "STREAMS_DATA_DIR": directory,
    }


def _run(environment: dict[str, str], events: int, latency_ms: float, parallel: int) -> VerifyRun:
    command = [sys.executable, "-m", "faust", "-A", "streams", "verify", "--json", "--parallel", str(parallel)]
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, cwd=environment["HOME"])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        report = json.loads(output.read() or "{}")
    if process.returncode or report["totals"]["objects"] != events:
        raise BenchError(f"verify ended with {process.returncode}: {report.get('sentence')}")
    return VerifyRun(
        events,
        parallel,
        latency_ms,
        sum(report["requests"].values()),
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
    )


# -- a bucket that can only be listed ---------------------------------------------------------------------------------


@contextmanager
def _bucket(topic: str, objects: int, latency_ms: float) -> Iterator[str]:
    """A process that answers LIST; its address."""
    command = [sys.executable, "-m", "bench.verify_bench", topic, str(objects), str(latency_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise BenchError("the listing server ended at once: its message is above")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.communicate()


class ListingServer:
    """Answers ListObjectsV2 for one partition whose objects are all there, and with nothing for other prefixes."""

    def __init__(self, topic: str, objects: int, latency_ms: float) -> None:
        self._prefix = f"{topic}/0/"
        self._objects = objects
        self._latency_seconds = latency_ms / 1000

    async def serve(self) -> None:
        """Listen on a free port, print the address, answer until the process is ended."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        print(f"{host}:{port}", flush=True)
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                await asyncio.sleep(self._latency_seconds)
                body = self.answer(parse_qs(urlsplit(target).query, keep_blank_values=True))
                length = b"Content-Length: %d\r\n" % len(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n" + length + b"\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, query: dict[str, list[str]]) -> bytes:
        """The XML of one page."""
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        first = int(after.removeprefix(self._prefix)[:20]) + 1 if after.startswith(self._prefix) else 0
        stop = min(first + PAGE_OBJECTS, self._objects) if prefix == self._prefix else first
        keys = [f"{self._prefix}{offset:020d}.json" for offset in range(first, stop)]
        more = bool(keys) and stop < self._objects
        return "".join(
            [
                f"<ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(keys)}</KeyCount>",
                f"<MaxKeys>{PAGE_OBJECTS}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>",
                f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else "",
                *(_CONTENTS % key for key in keys),
                "</ListBucketResult>",
            ]
        ).encode()


_CONTENTS = (
    "<Contents><Key>%s</Key><LastModified>2026-11-01T12:00:00.000Z</LastModified>"
    '<ETag>"9dd4e461268c8034f5c8564e155c67a6"</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>'
)


def _serve() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.verify_bench")
    parser.add_argument("topic")
    parser.add_argument("objects", type=int)
    parser.add_argument("latency_ms", type=float)
    arguments = parser.parse_args()
    asyncio.run(ListingServer(arguments.topic, arguments.objects, arguments.latency_ms).serve())


if __name__ == "__main__":
    _serve()
