"""The events of the benchmark, and the Kafka topics that hold them.

Small events are those of the published benchmark; larger ones are the same with padding.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.errors import BenchError

_BROKER_TIMEOUT_SECONDS = 60.0
_LARGEST_EVENT_BYTES = 4 << 20
_ERRORS_ONLY = 3  # of syslog: librdkafka otherwise writes between the progress lines


@dataclass(frozen=True, slots=True)
class Load:
    """One amount of work: how many events, how large, over how many partitions, at which latency per write.

    `event_bytes` 0 means the published messages as they are (57 to 67 bytes), `keys` 0 that they have no key, as
    published.
    """

    events: int
    latency_ms: int
    partitions: int = 4
    event_bytes: int = 0
    keys: int = 0

    @property
    def name(self) -> str:
        """How tables and charts call it."""
        return f"{self.events:,} at {self.latency_ms} ms"


def event(number: int, event_bytes: int = 0) -> bytes:
    """The published benchmark's message `number`, padded to `event_bytes` when that is more."""
    message = {"message_id": number, "message_content": f"This is message {number}"}
    body = json.dumps(message).encode()
    if event_bytes <= len(body):
        return body
    frame_bytes = len(json.dumps({**message, "padding": ""}).encode())
    return json.dumps({**message, "padding": "x" * max(0, event_bytes - frame_bytes)}).encode()


@contextmanager
def topic(bootstrap_servers: str, partitions: int, config: dict[str, str] | None = None) -> Iterator[str]:
    """Make a topic with a new name, and delete it afterwards: brokers may be shared, disks are finite."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": _ERRORS_ONLY})
    _finish(admin.create_topics([NewTopic(name, partitions, 1, config=config or {})]))
    try:
        _wait_for_leaders(admin, name, partitions)
        yield name
    finally:
        _finish(admin.delete_topics([name]))


class Feeder:
    """Publishes numbered events to a topic, spread evenly over its partitions."""

    def __init__(
        self, bootstrap_servers: str, topic_name: str, partitions: int, event_bytes: int = 0, keys: int = 0
    ) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": _ERRORS_ONLY,
                "linger.ms": 20,
                "queue.buffering.max.messages": 1_000_000,
                "message.max.bytes": _LARGEST_EVENT_BYTES,
            }
        )
        self._topic_name = topic_name
        self._partitions = partitions
        self._event_bytes = event_bytes
        self._keys = keys
        self.published = 0

    def publish(self, count: int) -> None:
        """Hand `count` more events to the producer; its own threads send them."""
        for number in range(self.published, self.published + count):
            self._producer.produce(
                self._topic_name,
                event(number, self._event_bytes),
                key=f"key-{number % self._keys}" if self._keys else None,
                partition=number % self._partitions,
            )
            if number % 1000 == 0:
                self._producer.poll(0)
        self.published += count
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has everything."""
        if self._producer.flush(_BROKER_TIMEOUT_SECONDS) > 0:
            raise BenchError(f"the broker did not take the events within {_BROKER_TIMEOUT_SECONDS:.0f} s")


@contextmanager
def filled_topic(bootstrap_servers: str, load: Load) -> Iterator[str]:
    """A topic that holds exactly the load's events; every contender reads it from its beginning."""
    with topic(bootstrap_servers, load.partitions) as name:
        feeder = Feeder(bootstrap_servers, name, load.partitions, load.event_bytes, load.keys)
        feeder.publish(load.events)
        feeder.flush()
        yield name


def _finish(answers: Mapping[str, Future[Any]]) -> None:
    for name, answer in answers.items():
        try:
            answer.result(_BROKER_TIMEOUT_SECONDS)
        except Exception as error:
            raise BenchError(f"the broker refused to make or delete topic {name}: {error}") from error


def _wait_for_leaders(admin: AdminClient, name: str, partitions: int) -> None:
    """A topic that has just been made is not readable until each partition has a leader."""
    end = time.monotonic() + _BROKER_TIMEOUT_SECONDS
    while time.monotonic() < end:
        known = admin.list_topics(name, timeout=_BROKER_TIMEOUT_SECONDS).topics[name].partitions
        if len(known) == partitions and all(partition.leader >= 0 for partition in known.values()):
            return
        time.sleep(0.05)
    raise BenchError(f"topic {name} has partitions without a leader after {_BROKER_TIMEOUT_SECONDS:.0f} s")
