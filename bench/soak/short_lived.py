"""A topic that is deleted and made again under load, and what must become of the events of each of its lives.

`verify` proves the life that a topic is in and no earlier one, so this topic is looked at apart: on the S3 server's
disk no object of a life may hold an event of another one, none may vanish, and the last life must be there whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer, TopicCollection

from tests.services.kafka_cluster import KafkaCluster
from tests.services.waiting import wait_until

TAG_CHARACTERS = 8
"""Of the topic's id: what the worker puts behind the name of a later life."""
_TICK_SECONDS = 0.1
_ADMIN_SECONDS = 60.0


@dataclass(slots=True)
class Life:
    """One topic of the name; `acknowledged` events of it are known to have been in Kafka."""

    number: int
    folder: str
    acknowledged: int = 0
    files_when_deleted: int = 0


class ShortLived:
    """Makes the topic, publishes to it and deletes it; its lives are in `lives`, the first one first."""

    def __init__(self, kafka: KafkaCluster, name: str, partitions: int, rate: int, objects: Path) -> None:
        """`objects` is the bucket's directory on the S3 server's disk."""
        self.name = name
        self.lives: list[Life] = []
        self._kafka = kafka
        self._partitions = partitions
        self._rate = rate
        self._objects = objects
        self._stop = threading.Event()
        self._deleted = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """A new life: the topic is made, and events come until it is deleted or `stop` is called."""
        self._kafka.create_topic(self.name, self._partitions)
        number = len(self.lives) + 1
        self.lives.append(
            Life(number, self.name if number == 1 else f"{self.name}@{self._topic_id()[:TAG_CHARACTERS]}")
        )
        self._stop.clear()
        self._deleted = False
        self._thread = threading.Thread(target=self._publish, args=(self.lives[-1],), name="short-lived", daemon=True)
        self._thread.start()

    def delete(self) -> None:
        """Delete the topic while events are published to it; returns when the brokers know it no more."""
        admin = self._kafka.any.admin
        self.lives[-1].files_when_deleted = len(list(self._files(self.lives[-1])))
        admin.delete_topics([self.name])[self.name].result(_ADMIN_SECONDS)
        wait_until(
            lambda: self.name not in admin.list_topics(timeout=10).topics,
            _ADMIN_SECONDS,
            f"{self.name} is still there",
        )
        self._deleted = True
        self.stop()

    def stop(self) -> None:
        """No further events; returns when each one's fate is known."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_ADMIN_SECONDS)

    def missing(self) -> int:
        """How many events of the last life are not in the bucket yet."""
        return self.lives[-1].acknowledged - len(list(self._files(self.lives[-1])))

    def problems(self) -> Iterator[str]:
        """What has become of the lives that must not; call it when everything is written."""
        for life in self.lives:
            files = list(self._files(life))
            foreign = sum(json.loads(path.read_bytes())["life"] != life.number for path in files)
            if foreign:
                yield f"{life.folder}: {foreign:,} objects hold events of another topic of that name"
            if len(files) < life.files_when_deleted:
                yield f"{life.folder}: {life.files_when_deleted - len(files):,} objects of a deleted topic are gone"
        if self.missing() > 0:
            yield f"{self.lives[-1].folder}: {self.missing():,} events of the last topic of that name are not there"

    def _files(self, life: Life) -> Iterator[Path]:
        return (path for path in (self._objects / life.folder).rglob("*") if path.is_file())

    def _topic_id(self) -> str:
        found = self._kafka.any.admin.describe_topics(TopicCollection([self.name]))
        return str(found[self.name].result(_ADMIN_SECONDS).topic_id).translate(str.maketrans("+/", "-_"))

    def _publish(self, life: Life) -> None:
        """At the rate, until told otherwise; an event that a deleted topic does not take is nobody's."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            life.acknowledged += error is None

        producer = Producer(
            {
                "bootstrap.servers": self._kafka.addresses("PLAINTEXT"),
                "enable.idempotence": True,
                "message.timeout.ms": 120_000,
                "log_level": 0,
            }
        )
        value = json.dumps({"life": life.number}).encode()
        while not self._stop.wait(_TICK_SECONDS):
            for _ in range(max(1, int(self._rate * _TICK_SECONDS))):
                producer.produce(self.name, value, on_delivery=delivered)
            producer.poll(0)
        if self._deleted:
            producer.purge()  # else what was meant for this topic would end up in the next one of its name
        producer.flush(_ADMIN_SECONDS)
