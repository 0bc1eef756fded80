"""Takes the pictures of docs/dashboard.md anew: `python -m tests.dashboard_pictures` (a quarter of an hour).

A real worker archives three topics into a real S3 server behind a proxy that is as slow as S3 and has a few of its
troubles. The pictures are of its page after so many minutes.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.services.archive import Content
from tests.services.browser import PHONE, chromium, visit
from tests.services.install import ROOT
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer
from tests.services.s3 import S3Server
from tests.services.s3_faults import ENTITY_TOO_LARGE, SERVICE_UNAVAILABLE, SLOW_DOWN, Delay, Fault, S3Request
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

IMAGES = ROOT / "docs" / "images"
TOPICS = {"orders": 4, "payments": 2, "shipments": 2}
BUCKET = "my-event-archive"
EVENTS_PER_SECOND = 120
MAX_BYTES = 250_000
WINDOW = {"width": 1120, "height": 1480}
PICTURES: dict[str, dict[str, Any]] = {
    "dashboard-light.png": {"viewport": WINDOW, "color_scheme": "light"},
    "dashboard-phone.png": {"viewport": {**PHONE, "height": 1500}, "color_scheme": "light"},
    "dashboard-dark.png": {"viewport": WINDOW, "color_scheme": "dark"},
}


class Weather:
    """What S3 does, by the seconds since the beginning: slow as it is, throttling for a while, away for a while."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds
        self.away = False

    def share(self) -> float:
        """How much of the time is over."""
        return (time.monotonic() - self._began) / self._seconds

    def __call__(self, request: S3Request) -> Fault | None:
        share, chance = self.share(), random.random()
        if request.method != "PUT":
            return None
        if 0.30 < share < 0.36 and chance < 0.2:
            return SLOW_DOWN
        if 0.62 < share < 0.66 or self.away:
            return SERVICE_UNAVAILABLE
        if request.key.startswith("events/") and request.number % 4001 == 17:
            return ENTITY_TOO_LARGE
        return Delay(random.lognormvariate(math.log(0.07), 0.35))


@contextmanager
def running_worker(directory: Path, seconds: float) -> Iterator[tuple[WorkerProcess, KafkaBroker, Weather]]:
    """Broker, S3, proxy and worker."""
    with (
        KafkaBroker(directory / "kafka") as broker,
        S3Server(directory / "s3") as s3,
        S3FaultProxy(s3.endpoint_url) as proxy,
    ):
        s3.create_bucket(BUCKET)
        for topic, partitions in TOPICS.items():
            broker.create_topic(topic, partitions, {"retention.ms": "604800000"})
        weather = Weather(seconds)
        proxy.rule = weather
        settings = {
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "STREAMS_KAFKA_CLIENT_ID": "streams-0",
            "STREAMS_CONSUMER_GROUP": "streams-archive",
            "STREAMS_TOPICS": ",".join(TOPICS),
            "STREAMS_S3_BUCKET": BUCKET,
            "STREAMS_S3_PREFIX": "events/",
            "STREAMS_S3_ENDPOINT_URL": proxy.endpoint_url,
            "STREAMS_MAX_IN_FLIGHT": "200",
            "STREAMS_RETRY_MAX_SECONDS": "5",
            **s3.environment(),
        }
        worker = WorkerProcess(directory / "worker", settings)
        worker.start()
        try:
            worker.wait_ready()
            yield worker, broker, weather
        finally:
            worker.kill()


def publish(broker: KafkaBroker, weather: Weather, over: threading.Event) -> None:
    """Events at a rate that goes up and down."""
    producer = EventProducer(broker.bootstrap_servers)
    number = 0
    while not over.wait(0.1):
        wave = 1 + 0.35 * math.sin(weather.share() * 9) + random.uniform(-0.08, 0.08)
        for topic, share in (("orders", 0.6), ("payments", 0.3), ("shipments", 0.1)):
            count = int(EVENTS_PER_SECOND * 0.1 * wave * share + random.random())
            producer.produce(topic, [event(number + n) for n in range(count)])
            number += count


def event(number: int) -> Content:
    """Half a kilobyte of JSON with a key."""
    return b"%d" % number, b'{"id": %d, "text": "%s"}' % (number, b"x" * 400), ()


def is_in_state(worker: WorkerProcess, state: str) -> bool:
    """Whether the worker says so itself."""
    return bool(worker.stats()["state"] == state)


def take(worker: WorkerProcess, weather: Weather, directory: Path) -> None:
    """The pictures, each below `MAX_BYTES`; the last one of an outage."""
    with chromium() as browser:
        for name, options in PICTURES.items():
            weather.away = "dark" in name
            wanted = "holding" if weather.away else "running"
            wait_until(partial(is_in_state, worker, wanted), 60, worker.log_tail)
            address = f"http://127.0.0.1:{worker.web_port}/"
            with visit(browser, address, **options) as seen:
                seen.page.screenshot(path=directory / name)
            size = (directory / name).stat().st_size
            print(f"{name}: {size:,} bytes")
            if size > MAX_BYTES:
                sys.exit(f"{name} is larger than {MAX_BYTES:,} bytes")


def main() -> None:
    """Run for so many minutes, then take the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=15)
    options.add_argument("--output", type=Path, default=IMAGES)
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the servers end with it
    chosen.output.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="dashboard-pictures-"))
    over = threading.Event()
    try:
        with running_worker(directory, chosen.minutes * 60) as (worker, broker, weather):
            publisher = threading.Thread(target=publish, args=(broker, weather, over), daemon=True)
            publisher.start()
            while weather.share() < 1:
                time.sleep(0.5)
            take(worker, weather, chosen.output)
            over.set()
            publisher.join()
    finally:
        over.set()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
