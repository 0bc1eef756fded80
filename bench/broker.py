"""The Kafka broker of a benchmark: one of its own, or one that is named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError


@contextmanager
def kafka(bootstrap_servers: str | None) -> Iterator[str]:
    """The address of a broker: the given one, or that of a real broker which lives as long as the block.

    The broker is the one of the integration tests; it is imported late, so that a named one needs no Java.
    """
    if bootstrap_servers is not None:
        yield bootstrap_servers
        return
    from tests.services.install import KAFKA
    from tests.services.kafka import KafkaBroker

    if problem := KAFKA.problem():
        raise BenchError(problem)
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as directory, KafkaBroker(Path(directory)) as broker:
        yield broker.bootstrap_servers
