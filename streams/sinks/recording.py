"""A sink that keeps events in memory and fails as it is told: for tests of whatever uses a sink, ours and yours."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque

from streams.errors import RecordRejectedError
from streams.ledger import Segment
from streams.record import Record

EVERY_EVENT = "*"


class RecordingSink:
    """Keeps the sink contract without any service; events are named by `Record.position`, all of them by `"*"`.

    `written` holds the events in the order in which they became durable, `dead_letters` those that were rejected with
    their rejection, `segments` those of the ledger, `attempts` the calls of `write` by position, `in_flight` and
    `most_in_flight` how many overlapped.
    """

    def __init__(self) -> None:
        self.written: list[Record] = []
        self.dead_letters: list[tuple[Record, RecordRejectedError]] = []
        self.segments: list[Segment] = []
        self.attempts: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.started = False
        self.closed = False
        self._failures: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._dead_letter_failures: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._ledger_failures: deque[Exception] = deque()
        self._rejections: dict[str, RecordRejectedError] = {}
        self._delays_seconds: dict[str, float] = {}
        self._gates: dict[str, asyncio.Event] = {}

    # -- instructions -------------------------------------------------------------------------------------------------

    def fail(self, position: str, error: Exception, times: int = 1) -> None:
        """Let the next `times` writes of the event raise `error`."""
        self._failures[position].extend([error] * times)

    def fail_dead_letter(self, position: str, error: Exception, times: int = 1) -> None:
        """Let the next `times` dead letters of the event raise `error`."""
        self._dead_letter_failures[position].extend([error] * times)

    def fail_ledger(self, error: Exception, times: int = 1) -> None:
        """Let the next `times` writes of ledger segments raise `error`."""
        self._ledger_failures.extend([error] * times)

    def reject(self, position: str, reason: str = "invalid_request", detail: str = "rejected by instruction") -> None:
        """Let every write of the event be rejected."""
        self._rejections[position] = RecordRejectedError(reason, detail)

    def delay(self, position: str, seconds: float) -> None:
        """Let every write of the event take this long."""
        self._delays_seconds[position] = seconds

    def hang(self, position: str) -> None:
        """Let writes of the event wait until `release`."""
        self._gates.setdefault(position, asyncio.Event())

    def release(self, position: str) -> None:
        """Let the writes that hang go on, and later ones through."""
        gate = self._gates.pop(position, None)
        if gate is not None:
            gate.set()

    # -- what became of it --------------------------------------------------------------------------------------------

    @property
    def positions(self) -> list[str]:
        """Positions of the events that are durable, in that order; an event that was written twice is there twice."""
        return [record.position for record in self.written]

    @property
    def dead_letter_positions(self) -> list[str]:
        return [record.position for record, _ in self.dead_letters]

    # -- the contract -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self.started = True

    async def close(self) -> None:
        self.closed = True

    async def write(self, record: Record) -> int:
        self.attempts[record.position] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._wait(record.position)
            self._raise_next(self._failures, record.position)
            self._raise_rejection(record.position)
            self.written.append(record)
            return len(record.value or b"")
        finally:
            self.in_flight -= 1

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        self._raise_next(self._dead_letter_failures, record.position)
        self.dead_letters.append((record, rejection))
        return f"dead-letter/{record.topic}/{record.partition}/{record.offset:020d}.json"

    async def write_ledger(self, segment: Segment) -> str:
        if self._ledger_failures:
            raise self._ledger_failures.popleft()
        self.segments.append(segment)
        return f"ledger/{segment.topic}/{segment.partition}/{segment.start:020d}-{segment.stop:020d}.json"

    async def _wait(self, position: str) -> None:
        for name in (position, EVERY_EVENT):
            if name in self._delays_seconds:
                await asyncio.sleep(self._delays_seconds[name])
            if name in self._gates:
                await self._gates[name].wait()

    def _raise_next(self, failures: defaultdict[str, deque[Exception]], position: str) -> None:
        for name in (position, EVERY_EVENT):
            if failures[name]:
                raise failures[name].popleft()

    def _raise_rejection(self, position: str) -> None:
        for name in (position, EVERY_EVENT):
            if name in self._rejections:
                rejection = self._rejections[name]
                raise RecordRejectedError(rejection.reason, rejection.detail)
