"""Makes closed ledger segments durable, beside the events' way: one PUT at a time for each partition.

The consumer offers a partition's ledger after each commit; nothing waits for what happens here, neither a commit nor
a drain. A PUT that is cancelled is made again by whoever resumes from the commit, with the same bytes. Only where a
commit is full, with what no segment holds, does the next one wait for a PUT, and for a minute at most.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from streams.errors import SinkRefusedError
from streams.ledger import OpenLedger, Segment
from streams.sinks import LedgerSink
from streams.stats import LedgerFailure, Stats

MAX_WRITES = 8
"""Most PUTs of segments at once, so that many partitions that close theirs together do not crowd out the events."""
WRITE_PATIENCE_SECONDS = 60.0
"""How long commits of a partition wait for its segments while events become durable. Then the ledger has a hole."""
STANDSTILL_SECONDS = 10.0
"""When no event has become durable for so long while some wait, the sink is away as a whole: no commit is held up."""


class LedgerWriter:
    """Writes segments to a sink that can keep them."""

    def __init__(self, sink: LedgerSink, stats: Stats, *, retry_base_seconds: float, retry_max_seconds: float) -> None:
        self._sink = sink
        self._stats = stats
        self._backoff = wait_random_exponential(multiplier=retry_base_seconds, max=retry_max_seconds)
        self._places = asyncio.Semaphore(MAX_WRITES)
        self._tasks: dict[OpenLedger, asyncio.Task[None]] = {}
        self._committed: dict[OpenLedger, int] = {}
        self._held_since: dict[OpenLedger, float] = {}
        """Since when commits wait for a ledger's segments."""
        self._patient_since: dict[OpenLedger, float] = {}
        """The same, without the time in which no event became durable either."""

    def offer(self, ledger: OpenLedger, committed: int) -> None:
        """Write the segments that this commit has closed, one after another."""
        self._committed[ledger] = committed
        if ledger in self._tasks or ledger.closed(committed) is None:
            return
        task = asyncio.create_task(self._write(ledger))
        self._tasks[ledger] = task
        task.add_done_callback(partial(self._done, ledger))

    def _done(self, ledger: OpenLedger, task: asyncio.Task[None]) -> None:
        if self._tasks.get(ledger) is task:  # not one that was given up and followed by another
            del self._tasks[ledger]

    def forget(self, ledger: OpenLedger) -> None:
        """Stop writing for a partition that was revoked; its next owner goes on."""
        self._count_holes(ledger)
        self._committed.pop(ledger, None)
        self._stop(ledger)

    def tick(self, now: float) -> None:
        """Called once a second: give up what commits have waited for too long, and count what was given up.

        Commits then go on without it, and the ledger begins anew behind it.
        """
        standstill = self._stats.stands_still(now, STANDSTILL_SECONDS)
        for ledger in list(self._committed):
            if ledger.holds_back is None or ledger not in self._tasks:
                self._no_longer_held(ledger)
            else:
                self._wait_for(ledger, now, standstill)
            self._count_holes(ledger)
        self._stats.ledger_held_since = min(self._held_since.values(), default=None)

    def _wait_for(self, ledger: OpenLedger, now: float, standstill: bool) -> None:
        self._held_since.setdefault(ledger, now)
        since = self._patient_since.setdefault(ledger, now)
        if standstill:
            self._patient_since[ledger] = now
        elif now - since >= WRITE_PATIENCE_SECONDS and ledger.holds_back is not None:
            self._stop(ledger)
            ledger.give_up(ledger.holds_back)

    def _stop(self, ledger: OpenLedger) -> None:
        self._no_longer_held(ledger)
        task = self._tasks.pop(ledger, None)
        if task is not None:
            task.cancel()

    def _no_longer_held(self, ledger: OpenLedger) -> None:
        self._held_since.pop(ledger, None)
        self._patient_since.pop(ledger, None)

    def _count_holes(self, ledger: OpenLedger) -> None:
        while ledger.holes:
            self._stats.ledger_hole(ledger.topic, ledger.partition, *ledger.holes.pop(0))

    async def close(self) -> None:
        """Cancel what is being written."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, ledger: OpenLedger) -> None:
        while (segment := ledger.closed(self._committed[ledger])) is not None:
            await self._until_durable(segment)
            ledger.persisted(segment)

    async def _until_durable(self, segment: Segment) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Exception),
            wait=self._backoff,
            before_sleep=lambda state: self._note_failure(segment, state),
        )
        try:
            await retrying(self._attempt, segment)
        finally:
            self._stats.ledger_failing.pop((segment.topic, segment.partition), None)
        self._stats.ledger_segments += 1

    async def _attempt(self, segment: Segment) -> None:
        async with self._places:
            await self._sink.write_ledger(segment)

    def _note_failure(self, segment: Segment, state: RetryCallState) -> None:
        """Count it, and keep it for `SinkWatch`, which tells of it."""
        self._stats.ledger_write_errors += 1
        error = state.outcome.exception() if state.outcome else None
        remedy = error.remedy if isinstance(error, SinkRefusedError) else None
        where = (segment.topic, segment.partition)
        known = self._stats.ledger_failing.get(where)
        self._stats.ledger_failing[where] = LedgerFailure(
            f"{segment.topic}/{segment.partition}, offsets {segment.start} to {segment.stop - 1}",
            str(error).removesuffix(remedy or "").strip(),
            remedy,
            known.since if known else monotonic(),
        )
