"""The worker, cut off after one of its stages: `faust -A bench.stage_app worker`, with BENCH_STAGE naming the last one.

All of it is the worker's own code; only the sink (and, for `stream`, the delivery) is replaced by something that counts
and does nothing else. When BENCH_EVENTS events have come through, it prints what each of its threads has used between
the first tenth and the last event, and ends.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.application import create_app
from streams.errors import RecordRejectedError
from streams.record import Record
from streams.settings import load_settings
from streams.sinks.s3 import S3Sink

EVENTS = int(os.environ.get("BENCH_EVENTS", "0"))
STAGE = os.environ.get("BENCH_STAGE", "put")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Meter:
    """Counts events; between a tenth of them and all of them it measures the CPU time of each thread."""

    def __init__(self, events: int) -> None:
        self._left = events
        self._begin_at = events - events // 10
        self._before: dict[str, float] = {}
        self._measured = self._begin_at

    def count(self) -> None:
        """One more event has come through."""
        self._left -= 1
        if self._left == self._begin_at:
            self._before = thread_seconds()
        elif self._left == 0:
            after = thread_seconds()
            used = {name: after[name] - self._before.get(name, 0.0) for name in after}
            print(json.dumps({name: seconds / self._measured * 1e6 for name, seconds in used.items()}), flush=True)
            os._exit(0)


def thread_seconds() -> dict[str, float]:
    """CPU seconds by kind of thread: `main`, `kafka` (Python's others: the poller), `librdkafka`, `native` (others)."""
    main, others = threading.main_thread().native_id, {thread.native_id for thread in threading.enumerate()}
    found = dict.fromkeys(("main", "kafka", "librdkafka", "native"), 0.0)
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "schedstat").read_text().split()
        number, name = int(task.name), (task / "comm").read_text()
        native = "librdkafka" if name.startswith("rdk:") else "native"
        kind = "main" if number == main else "kafka" if number in others else native
        found[kind] += int(fields[0]) / 1e9
    return found


class CountingSink:
    """Does with an event what the stage names, and counts it."""

    def __init__(self, sink: S3Sink, meter: Meter, stage: str) -> None:
        self._sink = sink
        self._meter = meter
        self.write: Callable[[Record], Any] = {
            "deliver": self._accept,
            "render": self._render,
            "put": self._put,
        }.get(stage, self._accept)

    async def start(self) -> None:
        await self._sink.start()

    async def close(self) -> None:
        await self._sink.close()

    async def _accept(self, record: Record) -> int:
        self._meter.count()
        return 0

    async def _render(self, record: Record) -> int:
        request, _ = self._sink.requests(record)
        self._meter.count()
        return len(request.body)

    async def _put(self, record: Record) -> int:
        sent_bytes = await self._sink.write(record)
        self._meter.count()
        return sent_bytes

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        raise rejection

    async def write_ledger(self, segment: Any) -> str:
        return await self._sink.write_ledger(segment)


def _app() -> Any:
    settings, meter = load_settings(), Meter(EVENTS)
    app = create_app(settings, CountingSink(S3Sink.from_settings(settings), meter, STAGE))
    if STAGE == "stream":

        async def acknowledge_at_once(
            record: Record, acknowledge: Callable[[Record], None], is_wanted: Callable[[], bool] | None = None
        ) -> None:
            acknowledge(record)
            meter.count()

        app.delivery.start = acknowledge_at_once  # type: ignore[method-assign] # the delivery is what is left out
    return app


if EVENTS and STAGE != "fetch":
    app = _app()
