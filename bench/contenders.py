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

HANDWRITTEN_IN_FLIGHT = 512
_FOREIGN_PREFIXES = ("STREAMS_", "AWS_", "FAUST_", "KAFKA_")


@dataclass(frozen=True, slots=True)
class Contender:
    """One program that is measured."""

    name: str
    title: str
    command: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)


def worker(client: str, max_in_flight: int | None = None, command: str | None = None) -> Contender:
    """Our worker with the S3 client `client`; without `max_in_flight` it runs with its default settings."""
    settings = {"STREAMS_S3_CLIENT": client}
    if max_in_flight is not None:
        settings["STREAMS_MAX_IN_FLIGHT"] = str(max_in_flight)
    default = (sys.executable, "-m", "faust", "-A", "streams", "worker")
    return Contender(
        f"worker-{client}", f"Streams ({client})", tuple(shlex.split(command)) if command else default, settings
    )


def handwritten(client: str) -> Contender:
    """The hand-written consumer with the S3 client `client`."""
    return Contender(
        f"handwritten-{client}",
        f"hand-written, aiokafka + {client}",
        (sys.executable, "-m", "bench.handwritten"),
        {"STREAMS_S3_CLIENT": client, "STREAMS_MAX_IN_FLIGHT": str(HANDWRITTEN_IN_FLIGHT)},
    )


def published_design(mode: str, messages: int) -> Contender:
    """The published benchmark's upload loop: `sequence` or `threads`."""
    return Contender(
        f"published-{mode}", mode, (sys.executable, "-m", "bench.baselines", mode, "--messages", str(messages))
    )


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
        **contender.settings,
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
