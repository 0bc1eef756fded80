"""Tells from the counts whether the sink (S3 or SQS) and the ledger work, in the words of the conditions.

Called once a second, so that a failure costs nothing more and the end of an outage is seen, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import Final

from streams.stats.conditions import Kind
from streams.stats.counts import SilentBucket, Stats, Waiting

OUTAGE_SECONDS: Final = 2.0
"""Writes only fail for so long: shorter ones are nothing that anybody could act on."""
OUTAGE_AFTER_SOME_SECONDS: Final = 60.0
"""The same where some writes got through of late, so that it does not begin and end in turns."""
SOME_SECONDS: Final = 10.0
"""An event has failed for so long although others get through."""
LEDGER_SECONDS: Final = 2.0
HOLE_SECONDS: Final = 60.0
"""Commits wait so long for the ledger, then go without it: the worker is not ready."""


class SinkWatch:
    """Begins and ends `SINK_FAILING`, `WRITES_FAILING` and `LEDGER_HELD`."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._failing_since: float | None = None
        self._recovered_at = -inf

    def tick(self, now: float) -> None:
        """Look at the counts; `now` monotonic."""
        self._watch_all_writes(now)
        self._watch_some_writes(now)
        self._watch_ledger(now)

    def _watch_all_writes(self, now: float) -> None:
        stats, conditions = self._stats, self._stats.conditions
        if not stats.sink_failing:
            self._failing_since = None
            if conditions.get(Kind.SINK_FAILING) is not None:
                self._recovered_at = now
                conditions.end(Kind.SINK_FAILING)
            return
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience_seconds(now):
            if not stats.waiting and stats.silent_bucket is not None:
                remedy = stats.errors.remedy(stats.silent_bucket.reason)
                words = _unasked(stats.silent_bucket, remedy)
            else:
                first = min(stats.waiting.values(), key=lambda waiting: waiting.since)
                remedy = stats.errors.remedy(first.reason)
                words = (
                    f"The sink only fails at the moment, and {_events(len(stats.waiting))} for it; the first is "
                    f"{first.position}: {_why(first, remedy)}"
                )
            detail = f"{words} Nothing is lost: whatever was not taken waits in Kafka."
            conditions.begin(Kind.SINK_FAILING, detail, remedy)

    def _patience_seconds(self, now: float) -> float:
        conditions = self._stats.conditions
        of_late = now - self._recovered_at < OUTAGE_AFTER_SOME_SECONDS
        some = of_late or conditions.get(Kind.WRITES_FAILING) is not None
        return OUTAGE_AFTER_SOME_SECONDS if some else OUTAGE_SECONDS

    def _watch_some_writes(self, now: float) -> None:
        stats, conditions = self._stats, self._stats.conditions
        if conditions.get(Kind.SINK_FAILING) is not None:
            conditions.end(Kind.WRITES_FAILING)  # the other one says more
            return
        stuck = [waiting for waiting in stats.waiting.values() if self._is_stuck(waiting, now)]
        silent = stats.silent_bucket
        if not stuck and silent is not None and now - silent.since >= SOME_SECONDS:
            remedy = stats.errors.remedy(silent.reason)
            conditions.begin(Kind.WRITES_FAILING, _unasked(silent, remedy), remedy)
            return
        if not stuck:
            conditions.end(Kind.WRITES_FAILING)
            return
        first = min(stuck, key=lambda waiting: waiting.since)
        remedy = stats.errors.remedy(first.reason)
        conditions.begin(
            Kind.WRITES_FAILING,
            f"Some writes fail again and again though others got through of late, and {_events(len(stuck))} for them; "
            f"the first is {first.position}: {_why(first, remedy)}",
            remedy,
        )

    def _is_stuck(self, waiting: Waiting, now: float) -> bool:
        """Whether it goes on failing; what merely has not been tried again since an outage is not."""
        since = max(waiting.since, self._recovered_at)
        return now - since >= SOME_SECONDS and waiting.last > self._recovered_at

    def _watch_ledger(self, now: float) -> None:
        stats = self._stats
        failure = min(stats.ledger_failing.values(), key=lambda one: one.since, default=None)
        held = stats.ledger_held_since
        if held is None and (failure is None or now - failure.since < LEDGER_SECONDS):
            stats.conditions.end(Kind.LEDGER_HELD)
            return
        why = "" if failure is None else f" The first is that of {failure.segment}: {failure.detail}"
        stats.conditions.begin(
            Kind.LEDGER_HELD,
            f"The ledger cannot be written. {_consequence(held, now)}{why}",
            (failure and failure.remedy)
            or "Is s3:PutObject allowed under STREAMS_LEDGER_PREFIX? `faust -A streams doctor` tries it.",
            blocks_readiness=held is not None and now - held >= HOLE_SECONDS,
        )


def _consequence(held: float | None, now: float) -> str:
    if held is None:
        return "Events are not affected, and commits carry what it holds."
    if now - held < HOLE_SECONDS:
        return "Events are not affected, but commits wait for it."
    return "Events are not affected, but commits go without it, so it has a hole: verify what it lacks."


def _unasked(silent: SilentBucket, remedy: str) -> str:
    wait = "1 partition is" if silent.partitions == 1 else f"{silent.partitions:,} partitions are"
    why = _sentence(silent.reason, silent.detail, remedy)
    return f"The bucket cannot be asked whose events it holds, so {wait} not begun yet: {why}"


def _events(count: int) -> str:
    return "1 event waits" if count == 1 else f"{count:,} events wait"


def _why(waiting: Waiting, remedy: str) -> str:
    """The sink's own words, as a sentence, without the remedy that follows anyway."""
    return _sentence(waiting.reason, waiting.detail, remedy)


def _sentence(reason: str, detail: str, remedy: str) -> str:
    said = detail.removesuffix(remedy).strip()
    detail = said if said.startswith(reason) else f"{reason}: {said}"
    return detail if detail.endswith((".", "!", "?")) else f"{detail.rstrip(': ')}."


@asynccontextmanager
async def watched_sink(stats: Stats, interval_seconds: float = 1.0) -> AsyncIterator[None]:
    """Watch while a command writes: the worker has its own clock for it."""

    async def watch() -> None:
        watch = SinkWatch(stats)
        while True:
            watch.tick(monotonic())
            await asyncio.sleep(interval_seconds)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
