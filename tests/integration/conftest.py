"""Real workers for the integration and fault tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import show_on_failure
from tests.services.kafka import KafkaBroker
from tests.services.s3 import S3Server
from tests.services.worker import WorkerProcess


class StartWorker(Protocol):
    def __call__(
        self, topics: str, settings: Mapping[str, str] | None = None, *, wait: bool = True, app: str = "streams"
    ) -> WorkerProcess:
        """Start a worker of the test's `group` that archives `topics` to the test's `bucket`.

        `settings` adds to its environment or replaces what is there (`STREAMS_S3_ENDPOINT_URL` for a proxy, say);
        without `wait` it is returned before it is ready. `app` may be one of `tests.integration.apps`.
        """


@pytest.fixture
def start_worker(
    broker: KafkaBroker,
    s3_server: S3Server,
    bucket: str,
    group: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[StartWorker]:
    """Starts workers, kills those that are left at the end, and shows their logs when the test has failed."""
    workers: list[WorkerProcess] = []

    def start(
        topics: str, settings: Mapping[str, str] | None = None, *, wait: bool = True, app: str = "streams"
    ) -> WorkerProcess:
        name = f"worker-{len(workers) + 1}"
        environment = {
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "STREAMS_TOPICS": topics,
            "STREAMS_CONSUMER_GROUP": group,
            "STREAMS_S3_BUCKET": bucket,
            "STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url,
            "STREAMS_S3_PATH_STYLE": "true",
            **s3_server.environment(),
            **(settings or {}),
        }
        worker = WorkerProcess(tmp_path / name, environment, name, app)
        workers.append(worker)
        worker.start()
        if wait:
            worker.wait_ready()
        return worker

    try:
        yield start
    finally:
        for worker in workers:
            worker.kill()
            show_on_failure(request, worker.log)
