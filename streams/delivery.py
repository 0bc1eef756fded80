"""From an event to a durable object: many writes in flight, retries for as long as it takes, dead letters.

The agent hands each event to `Delivery.start`; when the sink says that it is durable, `acknowledge` is awaited, and
only then may its offset be committed. Nothing here knows about Faust or about S3.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError
from streams.limiter import AdaptiveLimit
from streams.record import Life, Record, TopicPartition
from streams.sinks import Sink
from streams.stats import Stats

logger = logging.getLogger(__name__)

T = TypeVar("T")

Acknowledge = Callable[[Record], None]
HoldPartition = Callable[[Record], str | None]
"""Holds the partition of an event; why there is nothing to hold, where that is so."""
IsWanted = Callable[[], bool]
OnFailure = Callable[[Record, Exception], None]

begin_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Begins a coroutine as a task; from Python 3.12 on at once, and not only when the event loop comes round again."""
if sys.version_info >= (3, 12):

    def begin_task(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)

else:
    begin_task = asyncio.create_task

CONGESTION_REASONS = frozenset({"throttled", "timeout"})
TRACEBACK_SECONDS = 60.0
"""A fault of ours is logged with its traceback once in so long."""
IDLE_POLL_SECONDS = 0.25


class Delivery:
    """Writes events to the sink, many at a time, each until it is durable.

    A failed write keeps its place among those in flight while it backs off (exponential, full jitter, no last
    attempt), so an outage takes no new events in, loses none, and ends by itself. An event that can never be written
    goes to the dead letters; without them (`dead_letters=False`) it stays unacknowledged and stops its partition.

    A command that must end says `give_up_seconds`: an event that failed for so long is given to `on_failure` with the
    last error, unacknowledged. A rejected event without dead letters goes there, too, if it is given.
    """

    def __init__(
        self,
        sink: Sink,
        stats: Stats,
        *,
        max_in_flight: int,
        retry_base_seconds: float,
        retry_max_seconds: float,
        dead_letters: bool,
        hold_partition: HoldPartition | None = None,
        give_up_seconds: float | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.sink = sink
        self.stats = stats
        self.limit = AdaptiveLimit(max_in_flight)
        self.in_flight = 0
        self._waiting = 0
        """Events that have been taken and wait for a place in flight."""
        self._dead_letters = dead_letters
        self._hold_partition = hold_partition
        self._on_failure = on_failure
        self._stop = stop_never if give_up_seconds is None else stop_after_delay(give_up_seconds)
        self._backoff = wait_random_exponential(multiplier=retry_base_seconds, max=retry_max_seconds)
        self._tasks: dict[asyncio.Task[None], Record] = {}
        self._queue: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._traceback_at = -TRACEBACK_SECONDS

    async def start(self, record: Record, acknowledge: Acknowledge, is_wanted: IsWanted | None = None) -> None:
        """Take an event: wait for a place in flight, begin its write, return while that goes on.

        Nothing is begun where `is_wanted()` says no once there is a place: the partition was given away meanwhile.
        """
        if self.in_flight >= self.limit.limit:
            await self._wait_for_place()
            if is_wanted is not None and not is_wanted():
                self._wake()  # the place goes to the next one
                return
        self.in_flight += 1
        self._idle.clear()
        task = begin_task(self._deliver(record, acknowledge))
        if not task.done():
            self._tasks[task] = record
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)

    async def _wait_for_place(self) -> None:
        self._waiting += 1
        try:
            while self.in_flight >= self.limit.limit:
                place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._queue.append(place)
                await place
        except asyncio.CancelledError:
            self._wake()  # the place that was given to this event goes to the next one
            raise
        finally:
            self._waiting -= 1

    async def wait_idle(
        self,
        timeout_seconds: float,
        *,
        partitions: Mapping[TopicPartition, Life] | None = None,
        even_if_failing: bool = True,
    ) -> bool:
        """Wait until nothing of these partitions (`None`: of any, nor waiting for a place) is being written.

        Of each only what is of the topic's life that is given: Kafka may have forgotten the others.

        Returns whether that came to pass in time. With `even_if_failing=False` it gives up as soon as all that is left
        is being retried: a rebalance should not wait for an outage to end.
        """
        deadline = monotonic() + timeout_seconds
        while tasks := self._writing(partitions):
            left = deadline - monotonic()
            if left <= 0 or (not even_if_failing and all(self._is_failing(self._tasks[task]) for task in tasks)):
                return False
            await asyncio.wait(tasks, timeout=min(left, IDLE_POLL_SECONDS))
        if partitions is not None:
            return True
        return await self._wait_for_waiting(deadline)

    async def _wait_for_waiting(self, deadline: float) -> bool:
        while self.in_flight or self._waiting:
            left = deadline - monotonic()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._idle.wait(), min(left, IDLE_POLL_SECONDS))
            except TimeoutError:
                continue
            await asyncio.sleep(0)  # whoever waited for a place takes it now
        return True

    def _writing(self, partitions: Mapping[TopicPartition, Life] | None) -> list[asyncio.Task[None]]:
        if partitions is None:
            return list(self._tasks)
        return [
            task
            for task, record in self._tasks.items()
            if partitions.get(TopicPartition(record.topic, record.partition)) == record.life
        ]

    def _is_failing(self, record: Record) -> bool:
        return (record.topic, record.partition, record.offset) in self.stats.waiting

    async def abandon(self, partitions: Mapping[TopicPartition, Life] | None = None) -> int:
        """Cancel the writes of these partitions in these lives (`None`: all); their number."""
        tasks = self._writing(partitions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    async def _deliver(self, record: Record, acknowledge: Acknowledge) -> None:
        began = monotonic()
        try:
            try:
                sent_bytes = await self.sink.write(record)
            except Exception as error:
                await self._deliver_after(error, record, acknowledge, began)
            else:
                now = monotonic()
                self.limit.succeeded(now - began, self.in_flight, now)
                self.stats.written(record.topic, now - began, sent_bytes)
                acknowledge(record)
        except Exception:
            logger.exception("an acknowledgement failed; its event will be delivered again")
        finally:
            self._release()

    def _release(self) -> None:
        self.in_flight -= 1
        self._wake()
        if not self.in_flight:
            self._idle.set()

    def _wake(self) -> None:
        free = self.limit.limit - self.in_flight
        while self._queue and free > 0:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    async def _deliver_after(self, error: Exception, record: Record, acknowledge: Acknowledge, began: float) -> None:
        """The rest of an event's way when its first attempt has failed."""
        try:
            sent_bytes = await self._until_durable(record, lambda: self.sink.write(record), error)
        except RecordRejectedError as rejection:
            await self._reject(rejection, record, acknowledge)
        except Exception as last:
            self._give_up(record, last)
        else:
            self.stats.written(record.topic, monotonic() - began, sent_bytes)
            acknowledge(record)

    def _give_up(self, record: Record, error: Exception) -> None:
        if self._on_failure is None:
            raise error
        self._on_failure(record, error)

    async def _reject(self, rejection: RecordRejectedError, record: Record, acknowledge: Acknowledge) -> None:
        if not self._dead_letters:
            self._refuse(rejection, record)
            return
        try:
            object_key = await self._until_durable(record, lambda: self.sink.write_dead_letter(record, rejection))
        except RecordRejectedError as second:  # not even its dead letter can be written: it must stay in Kafka
            self._refuse(second, record)
            return
        except Exception as last:
            self._give_up(record, last)
            return
        self.stats.dead_lettered(record.topic, rejection.reason, rejection.detail, record.partition, record.offset)
        logger.warning("event %s is in the dead letters at %s: %s", record.position, object_key, rejection)
        acknowledge(record)

    def _refuse(self, rejection: RecordRejectedError, record: Record) -> None:
        if self._on_failure is not None:
            self._on_failure(record, rejection)
        elif self._hold_partition is not None:
            self._hold(rejection, record, self._hold_partition)

    def _hold(self, rejection: RecordRejectedError, record: Record, hold_partition: HoldPartition) -> None:
        why_not = hold_partition(record)
        if why_not is not None:
            logger.error(
                "event %s was not written: %s. Its partition is not held: %s", record.position, rejection, why_not
            )
            return
        self.stats.held(record, rejection)
        logger.error(
            "event %s cannot be written, so its partition is held and stays uncommitted from there on: %s. "
            "Mend the cause (or set STREAMS_ON_REJECT=dead-letter) and restart the worker",
            record.position,
            rejection,
        )

    async def _until_durable(
        self, record: Record, attempt: Callable[[], Awaitable[T]], failed: Exception | None = None
    ) -> T:
        """Attempt again and again until it succeeds; `failed` counts as a first attempt.

        Raises:
            RecordRejectedError: no attempt can ever succeed.
        """

        async def once() -> T:
            nonlocal failed
            if failed is not None:
                error, failed = failed, None
                raise error
            began = monotonic()
            result = await attempt()
            now = monotonic()
            self.limit.succeeded(now - began, self.in_flight, now)
            return result

        retrying = AsyncRetrying(
            retry=retry_if_exception(_worth_another_attempt),
            wait=self._backoff,
            stop=self._stop,
            reraise=True,
            before_sleep=lambda state: self._note_failure(record, state),
        )
        try:
            return await retrying(once)
        finally:
            self.stats.no_longer_waiting(record)

    def _note_failure(self, record: Record, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = error.reason if isinstance(error, SinkUnavailableError | SinkRefusedError) else "internal"
        if reason in CONGESTION_REASONS:
            self.limit.congested(self.in_flight, monotonic())
        remedy = error.remedy if isinstance(error, SinkRefusedError) else None
        self.stats.retrying(record, reason, str(error), state.attempt_number, remedy)
        if reason == "internal":
            self._log_traceback(error, record)

    def _log_traceback(self, error: BaseException | None, record: Record) -> None:
        """What the sink should have explained; that writes fail at all is told by `SinkWatch`."""
        now = monotonic()
        if now - self._traceback_at >= TRACEBACK_SECONDS:
            self._traceback_at = now
            logger.error("a write failed unexpectedly, retrying event %s", record.position, exc_info=error)


def _worth_another_attempt(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, RecordRejectedError)
