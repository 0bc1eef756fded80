"""Kafka Connect, standalone, with the stand-in sink: writes its two files of properties and becomes the Java process.

It replaces itself (`exec`), so that CPU and memory of the process are Java's alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.rivals.install import CONNECT_JARS

TASKS = 4
IN_FLIGHT_PER_TASK = 128
HEAP_MIB = 512


def main() -> None:
    """Start Connect on the topic and bucket in the environment."""
    directory = Path(os.environ["STREAMS_DATA_DIR"])
    files = [
        _write(directory / "worker.properties", _worker(directory)),
        _write(directory / "sink.properties", _sink()),
    ]
    command = ["java", f"-Xmx{HEAP_MIB}m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", _class_path()]
    os.execvp("java", [*command, "org.apache.kafka.connect.cli.ConnectStandalone", *files])  # noqa: S606 - no shell wanted


def _class_path() -> str:
    return f"{CONNECT_JARS / 'classes'}:{CONNECT_JARS / '*'}"


def _worker(directory: Path) -> dict[str, str]:
    bytes_as_they_are = "org.apache.kafka.connect.converters.ByteArrayConverter"
    return {
        "bootstrap.servers": os.environ["STREAMS_KAFKA_BOOTSTRAP_SERVERS"],
        "key.converter": bytes_as_they_are,
        "value.converter": bytes_as_they_are,
        "offset.storage.file.filename": str(directory / "offsets"),
        "offset.flush.interval.ms": "1000",
        "listeners": "http://127.0.0.1:0",
        "connector.client.config.override.policy": "All",
        "plugin.discovery": "only_scan",
    }


def _sink() -> dict[str, str]:
    group = os.environ["STREAMS_CONSUMER_GROUP"]
    return {
        "name": group,
        "connector.class": "streams.bench.S3SinkConnector",
        "tasks.max": str(TASKS),
        "topics": os.environ["STREAMS_TOPICS"],
        "consumer.override.group.id": group,
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.max.poll.records": "2000",
        "s3.bucket": os.environ["STREAMS_S3_BUCKET"],
        "s3.endpoint": os.environ["STREAMS_S3_ENDPOINT_URL"],
        "s3.region": os.environ["STREAMS_S3_REGION"],
        "s3.in.flight": str(IN_FLIGHT_PER_TASK),
    }


def _write(path: Path, properties: dict[str, str]) -> str:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    return str(path)


if __name__ == "__main__":
    main()
