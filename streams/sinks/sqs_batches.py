"""Gathers messages into requests: full ones go at once, others when they have lingered; for FIFO queues in order.

`Batches.send` is what one write waits for. Many requests are in flight at a time; what bounds them is the number of
writes that `delivery` has begun. Nothing here knows SQS's protocol: a function that sends a batch is handed in.

Order in a FIFO queue: of each message group at most one request is in flight, its entries in order, and what follows
waits for its answer. A message that failed is waited for, until its next attempt has come back, before a later one of
its partition and group is sent; only those in its own request may have passed it.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Final

from streams.errors import RecordRejectedError, StreamsError
from streams.sinks.credentials import again
from streams.sinks.sqs_message import Message

Outcome = StreamsError | None
SendBatch = Callable[[Sequence[Message]], Awaitable[Sequence[Outcome]]]
"""Sends messages in one request; the outcome of each, `None` for success. Raises `StreamsError` for all of them."""

RETURN_MARGIN_SECONDS: Final = 5.0


@dataclass(slots=True, eq=False)
class _Waiting:
    """One write's message and the answer that the write waits for."""

    message: Message
    answer: asyncio.Future[None]

    @property
    def place(self) -> tuple[str, int, int]:
        return self.message.place

    def settle(self, outcome: Outcome) -> None:
        if self.answer.done():  # its write was cancelled
            return
        if outcome is None:
            self.answer.set_result(None)
        else:
            self.answer.set_exception(again(outcome))


@dataclass(slots=True)
class _Group:
    """A FIFO message group: what waits for its turn, and which failed messages have not come back."""

    busy: bool = False
    waiting: list[_Waiting] = field(default_factory=list)
    missing: dict[tuple[str, int, int], asyncio.TimerHandle] = field(default_factory=dict)

    def is_passed_by(self, place: tuple[str, int, int]) -> bool:
        """Whether sending this one now would pass one of its partition that failed."""
        topic, partition, offset = place
        return any(gone[:2] == (topic, partition) and gone[2] < offset for gone in self.missing)

    @property
    def idle(self) -> bool:
        return not (self.busy or self.waiting or self.missing)


class Batches:
    """Requests in the making and in flight, on one event loop.

    Args:
        send_batch: sends one request.
        max_events: most messages in a request.
        max_bytes: most bytes in a request, as `Message.size_bytes` counts them.
        linger_seconds: how long a request waits for more.
        return_seconds: longest time after which a failed write is tried again.
    """

    def __init__(
        self, send_batch: SendBatch, *, max_events: int, max_bytes: int, linger_seconds: float, return_seconds: float
    ) -> None:
        self._send_batch = send_batch
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._linger_seconds = linger_seconds
        self._return_seconds = return_seconds + RETURN_MARGIN_SECONDS
        self._open: list[_Waiting] = []
        self._open_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._groups: dict[str, _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, message: Message) -> None:
        """Returns when the message is in the queue; raises what its own entry, or its request, was answered."""
        waiting = _Waiting(message, asyncio.get_running_loop().create_future())
        if message.group is None:
            self._add(waiting)
        else:
            self._take_turn(message.group, waiting)
        await waiting.answer

    def expect(self, message: Message) -> None:
        """Say that a message in this one's place is about to come: what follows it in its group waits for it."""
        if message.group is not None:
            self._miss(message.group, message.place)

    async def close(self) -> None:
        """Stop; nothing waits for an answer any more."""
        self._stop_timer()
        for group in self._groups.values():
            for timer in group.missing.values():
                timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _add(self, waiting: _Waiting) -> None:
        """Put a message into the open request, which is sent when it is full."""
        size_bytes = waiting.message.size_bytes
        if self._open and self._open_bytes + size_bytes > self._max_bytes:
            self._dispatch()
        self._open.append(waiting)
        self._open_bytes += size_bytes
        if len(self._open) >= self._max_events or self._open_bytes >= self._max_bytes:
            self._dispatch()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_seconds, self._dispatch)

    def _dispatch(self) -> None:
        """Send the open request, without those whose writes were cancelled."""
        self._stop_timer()
        batch = [waiting for waiting in self._open if not waiting.answer.done()]
        self._open, self._open_bytes = [], 0
        if not batch:
            return
        for waiting in batch:
            if waiting.message.group is not None:
                self._groups.setdefault(waiting.message.group, _Group()).busy = True
        task = asyncio.create_task(self._deliver(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _deliver(self, batch: list[_Waiting]) -> None:
        """Send a request and tell each write its own outcome."""
        try:
            outcomes = await self._outcomes([waiting.message for waiting in batch])
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            outcomes = [StreamsError("the sink failed")] * len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            self._note(waiting, outcome)
            waiting.settle(outcome)
        for group in {waiting.message.group for waiting in batch} - {None}:
            self._finish(str(group))

    async def _outcomes(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        try:
            return await self._send_batch(messages)
        except RecordRejectedError as rejection:
            if len(messages) == 1:
                return [rejection]
            # Of whom it speaks is only told to each alone; nobody is rejected for a neighbour's sake.
            return [(await self._outcomes([message]))[0] for message in messages]
        except StreamsError as error:
            return [error] * len(messages)

    # -- message groups of a FIFO queue -------------------------------------------------------------------------------

    def _take_turn(self, name: str, waiting: _Waiting) -> None:
        group = self._groups.setdefault(name, _Group())
        if timer := group.missing.pop(waiting.place, None):
            timer.cancel()
        insort(group.waiting, waiting, key=attrgetter("place"))
        self._release(name)

    def _release(self, name: str) -> None:
        """Move what may be sent now from the group to the open request."""
        group = self._groups.get(name)
        if group is None:
            return
        while group.waiting and not group.busy and not group.is_passed_by(group.waiting[0].place):
            waiting = group.waiting[0]
            if not waiting.answer.done() and not self._fits(waiting):
                self._dispatch()
                continue  # the group may be busy now
            del group.waiting[0]
            if not waiting.answer.done():
                self._add(waiting)
        if group.idle:
            del self._groups[name]

    def _fits(self, waiting: _Waiting) -> bool:
        return not self._open or self._open_bytes + waiting.message.size_bytes <= self._max_bytes

    def _note(self, waiting: _Waiting, outcome: Outcome) -> None:
        """Remember a failed message that will come back, so that later ones wait for it."""
        name = waiting.message.group
        if name is None or outcome is None or isinstance(outcome, RecordRejectedError) or waiting.answer.cancelled():
            return
        self._miss(name, waiting.place)

    def _miss(self, name: str, place: tuple[str, int, int]) -> None:
        """Let later ones wait for a message, but not for ever: its partition can have moved to another worker."""
        missing = self._groups.setdefault(name, _Group()).missing
        if place in missing:
            missing[place].cancel()
        give_up = partial(self._stop_missing, name, place)
        missing[place] = asyncio.get_running_loop().call_later(self._return_seconds, give_up)

    def _stop_missing(self, name: str, place: tuple[str, int, int]) -> None:
        if name in self._groups and self._groups[name].missing.pop(place, None) is not None:
            self._release(name)

    def _finish(self, name: str) -> None:
        """The group's request was answered: the next may go."""
        if name in self._groups:
            self._groups[name].busy = False
            self._release(name)
