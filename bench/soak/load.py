"""A steady load: events at an even pace from a thread of its own; what a broker that was away missed comes after."""

from __future__ import annotations

import json
import threading
import time

from bench.errors import BenchError
from tests.services.producer import EventProducer

_TICK_SECONDS = 0.1
# Longer than any outage of the broker: an event that the producer gave up would be a hole in the count.
_BROKER_TIMEOUT_SECONDS = 240.0


class SteadyLoad:
    """Publishes `rate` events a second from `start` to `stop`; `produced` counts those that the broker has taken."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int, rate: int) -> None:
        self._producer = EventProducer(bootstrap_servers, {"acks": "all"})
        self.topic = topic
        self.partitions = partitions
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failure: Exception | None = None
        self.produced = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the last event is acknowledged."""
        self._stop.set()
        self._thread.join(_BROKER_TIMEOUT_SECONDS)
        self.check()
        if self._thread.is_alive():
            raise BenchError("the load did not end: the broker does not take its last events")

    def check(self) -> None:
        """Raise what has ended the load."""
        if self._failure is not None:
            raise BenchError(f"the load failed: {self._failure}") from self._failure

    def _run(self) -> None:
        began = time.monotonic()
        try:
            while not self._stop.wait(_TICK_SECONDS):
                due = int((time.monotonic() - began) * self._rate)
                numbers = range(self.produced, due)
                self._producer.produce(
                    self.topic, [_event(number) for number in numbers], timeout_seconds=_BROKER_TIMEOUT_SECONDS
                )
                self.produced = max(due, self.produced)
        except Exception as error:  # for `check`: a thread that ends unseen would be a soak without load
            self._failure = error


def _event(number: int) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
    """The published benchmark's message, with a key (which spreads it over the partitions) and a header."""
    value = json.dumps({"message_id": number, "message_content": f"This is message {number}"}).encode()
    return b"key-%d" % (number % 10_007), value, (("run", b"soak"),)
