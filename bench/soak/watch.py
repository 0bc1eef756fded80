"""Samples the workers and the lag from threads of its own, whatever is broken at the moment."""

from __future__ import annotations

import os
import re
from http.client import HTTPException
from pathlib import Path

from confluent_kafka import KafkaException

from bench import processes
from bench.sampler import Sampler
from bench.soak.results import LagSample, WorkerSample
from bench.soak.site import Site
from tests.services.worker import WorkerProcess

_WORKERS_EVERY_SECONDS = 5.0
_LAG_EVERY_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
_TASKS = re.compile(r"^streams_asyncio_tasks (\S+)$", re.MULTILINE)
_THREADS = re.compile(r"^Threads:\s+(\d+)$", re.MULTILINE)


class Watch(Sampler):
    """Use it as a context manager around the load."""

    def __init__(self, site: Site) -> None:
        super().__init__({self._sample_workers: _WORKERS_EVERY_SECONDS, self.sample_lag: _LAG_EVERY_SECONDS})
        self._site = site
        self.workers: list[WorkerSample] = []
        self.lags: list[LagSample] = []

    def sample_lag(self) -> None:
        """Also for whoever has waited for the lag to end."""
        produced = self._site.produced
        try:
            lag = max(0, produced - self._site.committed())
        except (KafkaException, TimeoutError):
            lag = None
        self.lags.append(LagSample(self.seconds, produced, lag))

    def _sample_workers(self) -> None:
        for worker in self._site.workers:
            if worker.running and (sample := self._sample(worker)) is not None:
                self.workers.append(sample)

    def _sample(self, worker: WorkerProcess) -> WorkerSample | None:
        """`None` for a process that has ended in this moment."""
        pid = worker.pid
        try:
            memory = processes.memory(pid)
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            threads = _THREADS.search(Path(f"/proc/{pid}/status").read_text())
        except OSError:
            return None
        if memory is None or threads is None:
            return None
        return WorkerSample(
            seconds=self.seconds,
            worker=worker.name,
            pid=pid,
            resident_mib=round(memory.resident_mib, 2),
            descriptors=descriptors,
            threads=int(threads[1]),
            tasks=_tasks(worker),
        )


def _tasks(worker: WorkerProcess) -> int | None:
    """The worker's own count, `None` while it does not answer."""
    try:
        _, page = worker.get("/metrics", _ANSWER_SECONDS)
    except (OSError, ValueError, HTTPException):
        return None
    found = _TASKS.search(page)
    return None if found is None else int(float(found[1]))
