"""Who is measured: a name, a command, and how many writes it may have in flight.

All read the same `STREAMS_*` and `AWS_*` variables, so that one environment serves them all.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.baselines import default_thread_count
from bench.services import S3, SQS, Service

HANDWRITTEN_IN_FLIGHT = 512
_WORKER = (sys.executable, "-m", "faust", "-A", "streams", "worker")
_FOREIGN_PREFIXES = ("STREAMS_", "AWS_", "FAUST_", "KAFKA_")


@dataclass(frozen=True, slots=True)
class Contender:
    """One program that is measured; without a `queue` it writes to S3."""

    name: str
    title: str
    command: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    queue: str = ""

    @property
    def service(self) -> Service:
        """What it writes to."""
        return SQS if self.queue else S3


def worker(client: str, max_in_flight: int | None = None, command: str | None = None) -> Contender:
    """Our worker with the S3 client `client`; without `max_in_flight` it runs with its default settings."""
    settings = {"STREAMS_S3_CLIENT": client, **_in_flight(max_in_flight)}
    return Contender(f"worker-{client}", f"Streams (S3, {client})", _worker_command(command), settings)


def sqs_worker(kind: str = "", max_in_flight: int | None = None, command: str | None = None) -> Contender:
    """Our worker with SQS: in batches to a standard queue, or `kind` "fifo", or "single" (one message per request)."""
    settings = {"STREAMS_SINK": "sqs", **_in_flight(max_in_flight)}
    if kind == "single":
        settings["STREAMS_SQS_BATCH_EVENTS"] = "1"
    if kind == "fifo":
        settings["STREAMS_SQS_GROUP_EVENTS"] = "10"
    name, title = {
        "": ("worker-sqs", "Streams (SQS)"),
        "fifo": ("worker-sqs-fifo", "Streams (SQS FIFO)"),
        "single": ("worker-sqs-single", "Streams (SQS, not batched)"),
    }[kind]
    queue = "bench.fifo" if kind == "fifo" else "bench"
    return Contender(name, title, _worker_command(command), settings, queue)


def handwritten(client: str) -> Contender:
    """The hand-written consumer with the S3 client `client`."""
    return Contender(
        f"handwritten-{client}",
        f"hand-written, aiokafka + {client}",
        (sys.executable, "-m", "bench.handwritten"),
        {"STREAMS_S3_CLIENT": client, "STREAMS_MAX_IN_FLIGHT": str(HANDWRITTEN_IN_FLIGHT)},
    )


def published_design(service: Service, mode: str, messages: int) -> Contender:
    """The published benchmark's upload loop: `sequence` or `threads`."""
    how = {
        "sequence": "one after the other (boto3)",
        "threads": f"thread pool (boto3, {default_thread_count()} threads)",
    }[mode]
    command = (sys.executable, "-m", "bench.baselines", service.name, mode, "--messages", str(messages))
    queue = "bench" if service is SQS else ""
    return Contender(f"published-{service.name}-{mode}", f"{service.title}, {how}", command, queue=queue)


def environment(
    contender: Contender, *, bootstrap_servers: str, topic: str, group: str, endpoint_url: str, data_dir: Path
) -> dict[str, str]:
    """The whole environment of a run: ours, and of the caller's only what cannot change the measurement."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    return {
        **inherited,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "STREAMS_TOPICS": topic,
        "STREAMS_CONSUMER_GROUP": group,
        "STREAMS_S3_BUCKET": "bench",
        "STREAMS_S3_ENDPOINT_URL": endpoint_url,
        "STREAMS_S3_REGION": "us-east-1",
        "STREAMS_S3_PATH_STYLE": "true",
        "STREAMS_DATA_DIR": str(data_dir),
        "STREAMS_WEB_PORT": str(_free_port()),
        "STREAMS_LOG_LEVEL": "warning",
        **(_sqs(endpoint_url, contender.queue) if contender.queue else {}),
        **contender.settings,
    }


def _sqs(endpoint_url: str, queue: str) -> dict[str, str]:
    """Only for who writes to SQS: the bucket stays set, because dead letters go there."""
    return {
        "STREAMS_SQS_ENDPOINT_URL": endpoint_url,
        "STREAMS_SQS_QUEUE_URL": f"{endpoint_url}/000000000000/{queue}",
        "STREAMS_SQS_REGION": "us-east-1",
    }


def _in_flight(writes: int | None) -> dict[str, str]:
    return {} if writes is None else {"STREAMS_MAX_IN_FLIGHT": str(writes)}


def _worker_command(command: str | None) -> tuple[str, ...]:
    return tuple(shlex.split(command)) if command else _WORKER


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
