"""Why the consumer is ours: in the same scenario stock Faust's bookkeeping loses events and ours does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import MakeTopic, Produce
from tests.services.install import ROOT
from tests.services.kafka import KafkaBroker
from tests.services.ports import free_port
from tests.services.process import ServerProcess
from tests.services.waiting import wait_until

EVENTS = 40
STUCK = (0, 17)


class BookkeepingRun:
    """A worker of `apps.bookkeeping`, and the files that its sink has written."""

    def __init__(self, bookkeeping: str, broker: KafkaBroker, topic: str, group: str, directory: Path) -> None:
        self.directory = directory
        self._process = ServerProcess(bookkeeping, directory / "worker.log")
        self._environment = {
            "PATH": "",
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "STREAMS_TEST_BOOKKEEPING": bookkeeping,
            "STREAMS_TEST_DIRECTORY": str(directory),
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "STREAMS_TOPICS": topic,
            "STREAMS_CONSUMER_GROUP": group,
            "STREAMS_S3_BUCKET": "not-used",
            "STREAMS_COMMIT_INTERVAL_SECONDS": "0.3",
            "STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
            "STREAMS_WEB_PORT": str(free_port()),
            "STREAMS_DATA_DIR": str(directory / "data"),
        }

    def start(self) -> None:
        self._process.start(
            [sys.executable, "-m", "faust", "-A", "tests.integration.apps.bookkeeping", "worker"],
            self._environment,
            self.directory,
        )

    def kill(self) -> None:
        self._process.kill()

    def log(self) -> str:
        return self._process.log_tail(40)

    def written(self) -> set[int]:
        return {int(path.name.removeprefix("offset-")) for path in self.directory.glob("offset-*")}


@pytest.mark.fault
@pytest.mark.parametrize(("bookkeeping", "lost"), [("stock", set(STUCK)), ("streams", set())])
def test_killed_with_writes_in_flight(
    bookkeeping: str,
    lost: set[int],
    make_topic: MakeTopic,
    produce: Produce,
    broker: KafkaBroker,
    group: str,
    tmp_path: Path,
) -> None:
    """Two writes hang, all others finish, a commit goes by, `kill -9`, restart: who still writes the two?

    Stock Faust has committed past them (`faust/transport/consumer.py`, `_new_offset`); the low watermark has not.
    """
    topic = make_topic(1)
    produce(topic, [str(number).encode() for number in range(EVENTS)], partition=0)
    for offset in STUCK:
        (tmp_path / f"block-{offset}").touch()
    run = BookkeepingRun(bookkeeping, broker, topic, group, tmp_path)
    everything = set(range(EVENTS))
    try:
        run.start()
        wait_until(lambda: run.written() == everything - set(STUCK), 60, run.log)
        stuck_at = 0 if bookkeeping == "streams" else EVENTS
        wait_until(lambda: broker.committed_offsets(group).get((topic, 0)) == stuck_at or None, 30, run.log)
        run.kill()
        for offset in STUCK:
            (tmp_path / f"block-{offset}").unlink()
        run.start()
        produce(topic, [b"afterwards"], partition=0)  # proof that the second worker reads on
        wait_until(lambda: EVENTS in run.written(), 60, run.log)
        wait_until(lambda: broker.committed_offsets(group).get((topic, 0)) == EVENTS + 1, 30, run.log)
        assert everything - run.written() == lost
    finally:
        run.kill()
