"""A topic that is deleted and made again under load, and what must become of the events of each of its lives.

`verify` proves the life that a topic is in and no earlier one, so this topic is looked at apart: on the S3 server's
disk no object of a life may hold an event of another one, none may vanish, and the last life must be there whole.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from bench.errors import BenchError
from bench.soak.asking import ask_until
from tests.services.kafka_cluster import NODES, KafkaCluster

TAG_CHARACTERS = 8
"""Of the topic's id: what the worker puts behind the name of a later life."""
_TICK_SECONDS = 0.1
_ADMIN_SECONDS = 60.0
"""For everything that is asked of the brokers, repetitions included: another fault may have just ended."""
_ANSWER_SECONDS = 10.0


@dataclass(slots=True)
class Life:
    """One topic of the name; `acknowledged` events of it are known to have been in Kafka."""

    number: int
    folder: str
    topic_id: str
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
        self._failure: Exception | None = None

    def begin(self) -> None:
        """A new life: the topic is made, and events come until it is deleted or `stop` is called."""
        ask_until(self._made, _ADMIN_SECONDS, lambda: f"{self.name} could not be made")
        topic_id = ask_until(self._new_id, _ADMIN_SECONDS, lambda: f"no broker knows the new {self.name}")
        number = len(self.lives) + 1
        folder = self.name if number == 1 else f"{self.name}@{topic_id[:TAG_CHARACTERS]}"
        self.lives.append(Life(number, folder, topic_id))
        self._stop.clear()
        self._deleted = False
        self._thread = threading.Thread(target=self._publish, args=(self.lives[-1],), name="short-lived", daemon=True)
        self._thread.start()

    def delete(self) -> None:
        """Delete the topic while events are published to it; returns when the brokers know it no more."""
        self.lives[-1].files_when_deleted = len(list(self._files(self.lives[-1])))
        ask_until(self._gone, _ADMIN_SECONDS, lambda: f"{self.name} could not be deleted")
        ask_until(self._forgotten, _ADMIN_SECONDS, lambda: f"{self.name} is still there")
        self._deleted = True
        self.stop()

    def check(self) -> None:
        """Raise what has ended the load."""
        if self._failure is not None:
            raise BenchError(f"the load of {self.name} failed: {self._failure!r}") from self._failure

    def stop(self) -> None:
        """No further events; returns when each one's fate is known."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * _ADMIN_SECONDS)
        self.check()

    def missing(self) -> int:
        """How many events of the last life are not in the bucket yet."""
        return self.lives[-1].acknowledged - len(list(self._files(self.lives[-1])))

    def problems(self) -> Iterator[str]:
        """What has become of the lives that must not; call it when everything is written."""
        for life in self.lives:
            files = list(self._files(life))
            if not life.acknowledged:
                yield f"{life.folder}: Kafka took no event for it, so it shows nothing"
            foreign = sum(json.loads(path.read_bytes())["life"] != life.number for path in files)
            if foreign:
                yield f"{life.folder}: {foreign:,} objects hold events of another topic of that name"
            if len(files) < life.files_when_deleted:
                yield f"{life.folder}: {life.files_when_deleted - len(files):,} objects of a deleted topic are gone"
        if self.missing() > 0:
            yield f"{self.lives[-1].folder}: {self.missing():,} events of the last topic of that name are not there"

    def _files(self, life: Life) -> Iterator[Path]:
        return (path for path in (self._objects / life.folder).rglob("*") if path.is_file())

    def _new_admin(self) -> AdminClient:
        """One for each question: one that waits for a controller that is away does not look for another.

        Keep it until the answer is there, which ends with it.
        """
        return AdminClient({"bootstrap.servers": self._kafka.addresses("PLAINTEXT"), "log_level": 0})

    def _made(self) -> bool:
        """Make the topic; also when an earlier request has made it whose answer did not arrive."""
        topic = NewTopic(self.name, self._partitions, NODES)
        admin = self._new_admin()
        asked = admin.create_topics([topic], request_timeout=_ANSWER_SECONDS)
        return _is_done(asked[self.name], KafkaError.TOPIC_ALREADY_EXISTS)

    def _gone(self) -> bool:
        """Delete the topic; also when an earlier request has deleted it whose answer did not arrive."""
        admin = self._new_admin()
        asked = admin.delete_topics([self.name], request_timeout=_ANSWER_SECONDS)
        return _is_done(asked[self.name], KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _forgotten(self) -> bool:
        return self.name not in self._new_admin().list_topics(timeout=_ANSWER_SECONDS).topics

    def _new_id(self) -> str:
        """Empty from a broker that has not heard that the former topic is gone."""
        admin = self._new_admin()
        asked = admin.describe_topics(TopicCollection([self.name]), request_timeout=_ANSWER_SECONDS)
        topic_id = str(asked[self.name].result(_ADMIN_SECONDS).topic_id).translate(str.maketrans("+/", "-_"))
        return "" if topic_id in [life.topic_id for life in self.lives] else topic_id

    def _publish(self, life: Life) -> None:
        try:
            self._publish_until_told(life)
        except Exception as error:  # for `check`: a thread that ends unseen would be a topic without load
            self._failure = error

    def _publish_until_told(self, life: Life) -> None:
        """At the rate, until told otherwise; an event that Kafka does not take is nobody's."""

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
                with contextlib.suppress(KafkaException):  # the topic is being deleted, or not known everywhere yet
                    producer.produce(self.name, value, on_delivery=delivered)
            producer.poll(0)
        if self._deleted:
            producer.purge()  # else what was meant for this topic would end up in the next one of its name
        producer.flush(_ADMIN_SECONDS)


def _is_done(answer: Future[None], already: int) -> bool:
    """Wait for the answer; `already` is what a broker refuses with where there is nothing left to do."""
    try:
        answer.result(_ADMIN_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != already:
            raise
    return True
