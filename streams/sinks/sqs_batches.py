"""Gathers messages into requests: full ones go at once, others when they have lingered; for FIFO queues in order.

`Batches.send` is what one write waits for. Many requests are in flight at a time; what bounds them is the number of
writes that `delivery` has begun. Nothing here knows SQS's protocol: a function that sends a batch is handed in.

Order in a FIFO queue: of each message group at most one request is in flight, and what follows waits for its answer. A
request holds one message of a group (`group_events`), for SQS may refuse one entry and take the next. A message that
failed, or that the queue finds too large and that goes by way of S3, is waited for until its next attempt has come
back, before a later one of its partition and group is sent.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Final

from streams.errors import RecordRejectedError, StreamsError
from streams.sinks.credentials import again
from streams.sinks.sqs_message import Message

Outcome = StreamsError | None
ComesBack = Callable[[RecordRejectedError], bool]
"""Whether a message that the queue has rejected will be sent again in another form."""
SendBatch = Callable[[Sequence[Message]], Awaitable[Sequence[Outcome]]]
"""Sends messages in one request; the outcome of each, `None` for success. Raises `StreamsError` for all of them."""

RETURN_MARGIN_SECONDS: Final = 5.0


class _Unsent(Enum):
    """What became of a message that was not sent because an earlier one of its group had failed."""

    UNSENT = "unsent"


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
    in_open: int = 0
    """How many of its messages are in the open request."""
    waiting: list[_Waiting] = field(default_factory=list)
    missing: dict[tuple[str, int, int], asyncio.TimerHandle | None] = field(default_factory=dict)
    """By place; with the timer that ends the waiting, `None` while the message is being made elsewhere."""

    def is_passed_by(self, place: tuple[str, int, int]) -> bool:
        """Whether sending this one now would pass one of its partition that failed."""
        topic, partition, offset = place
        return any(gone[:2] == (topic, partition) and gone[2] < offset for gone in self.missing)

    @property
    def idle(self) -> bool:
        return not (self.busy or self.in_open or self.waiting or self.missing)


class Batches:
    """Requests in the making and in flight, on one event loop.

    Args:
        send_batch: sends one request.
        max_events: most messages in a request.
        max_bytes: most bytes in a request, as `Message.size_bytes` counts them.
        linger_seconds: how long a request waits for more.
        return_seconds: longest time after which a failed write is tried again.
        group_events: most messages of a group in a request. Only with one is the order certain: of several in a
            request the queue may take the later and fail the earlier.
        comes_back: which rejected messages come back in another form, so that later ones of their group wait.
    """

    def __init__(
        self,
        send_batch: SendBatch,
        *,
        max_events: int,
        max_bytes: int,
        linger_seconds: float,
        return_seconds: float,
        group_events: int = 1,
        comes_back: ComesBack = lambda rejection: False,
    ) -> None:
        self._send_batch = send_batch
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._linger_seconds = linger_seconds
        self._return_seconds = return_seconds + RETURN_MARGIN_SECONDS
        self._group_events = group_events
        self._comes_back = comes_back
        self._taken_bytes = 0
        """The largest message that the queue has taken: it may find a larger one too large."""
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

    @contextmanager
    def expecting(self, message: Message) -> Iterator[None]:
        """While a message in this one's place is being made: what follows it in its group waits for it, however long.

        After a failure as for any failed one; not after a rejection, for it is final.
        """
        name = message.group
        if name is None:
            yield
            return
        self._miss(name, message.place, for_ever=True)
        try:
            yield
        except RecordRejectedError:
            self._stop_missing(name, message.place)
            raise
        except BaseException:
            self._miss(name, message.place)
            raise
        self._stop_missing(name, message.place)

    async def close(self) -> None:
        """Stop; nothing waits for an answer any more."""
        self._stop_timer()
        for group in self._groups.values():
            for timer in filter(None, group.missing.values()):
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
        opened, self._open, self._open_bytes = self._open, [], 0
        batch = [waiting for waiting in opened if not waiting.answer.done()]
        for group in self._groups_of(opened):
            self._groups[group].in_open = 0
        for group in self._groups_of(batch):
            self._groups[group].busy = True
        if batch:
            task = asyncio.create_task(self._deliver(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for group in self._groups_of(opened) - self._groups_of(batch):
            self._release(group)

    def _groups_of(self, messages: Sequence[_Waiting]) -> set[str]:
        return {waiting.message.group for waiting in messages if waiting.message.group is not None}

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _deliver(self, batch: list[_Waiting]) -> None:
        """Send a request and tell each write its own outcome."""
        outcomes: Sequence[Outcome | _Unsent]
        try:
            outcomes = await self._outcomes([waiting.message for waiting in batch])
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            outcomes = [StreamsError("the sink failed")] * len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, _Unsent):
                self._wait(waiting)
                continue
            self._note(waiting, outcome)
            waiting.settle(outcome)
        for group in self._groups_of(batch):
            self._finish(group)

    async def _outcomes(self, messages: Sequence[Message]) -> Sequence[Outcome | _Unsent]:
        try:
            return await self._send_batch(messages)
        except RecordRejectedError as rejection:
            if len(messages) == 1:
                return [rejection]
            return await self._one_by_one(messages)
        except StreamsError as error:
            return [error] * len(messages)

    async def _one_by_one(self, messages: Sequence[Message]) -> Sequence[Outcome | _Unsent]:
        """Of whom a rejection speaks is only told to each alone; nobody is rejected for a neighbour's sake."""
        outcomes: list[Outcome | _Unsent] = []
        stopped: set[str] = set()
        for message in messages:
            if message.group in stopped:
                outcomes.append(_Unsent.UNSENT)
                continue
            (outcome,) = await self._outcomes([message])
            outcomes.append(outcome)
            if message.group is not None and not isinstance(outcome, _Unsent) and self._is_expected(outcome):
                stopped.add(message.group)
        return outcomes

    def _is_expected(self, outcome: Outcome) -> bool:
        """Whether a message with this outcome comes again."""
        if isinstance(outcome, RecordRejectedError):
            return self._comes_back(outcome)
        return outcome is not None

    # -- message groups of a FIFO queue -------------------------------------------------------------------------------

    def _take_turn(self, name: str, waiting: _Waiting) -> None:
        group = self._groups.setdefault(name, _Group())
        if timer := group.missing.pop(waiting.place, None):
            timer.cancel()
        self._wait(waiting)
        self._release(name)

    def _wait(self, waiting: _Waiting) -> None:
        """Put a message in its place among those that wait for their turn."""
        if waiting.message.group is not None:
            group = self._groups.setdefault(waiting.message.group, _Group())
            insort(group.waiting, waiting, key=attrgetter("place"))

    def _release(self, name: str) -> None:
        """Move what may be sent now from the group to the open request."""
        group = self._groups.get(name)
        if group is None:
            return
        while group.waiting and not group.busy and not group.is_passed_by(group.waiting[0].place):
            waiting = group.waiting[0]
            if waiting.answer.done():  # its write was cancelled
                del group.waiting[0]
                continue
            if group.in_open and not self._may_follow(group, waiting):
                break
            if not self._fits(waiting):
                self._dispatch()
                continue  # the group may be busy now
            del group.waiting[0]
            group.in_open += 1
            self._add(waiting)
        if group.idle:
            self._groups.pop(name, None)

    def _may_follow(self, group: _Group, waiting: _Waiting) -> bool:
        """Whether a message may go in one request with those of its group that are in the open one.

        Never behind one that the queue may find too large.
        """
        before = (one.message for one in self._open if one.message.group == waiting.message.group)
        return group.in_open < self._group_events and all(one.size_bytes <= self._taken_bytes for one in before)

    def _fits(self, waiting: _Waiting) -> bool:
        return not self._open or self._open_bytes + waiting.message.size_bytes <= self._max_bytes

    def _note(self, waiting: _Waiting, outcome: Outcome) -> None:
        """Remember a failed message that will come back, so that later ones wait for it."""
        name, size_bytes = waiting.message.group, waiting.message.size_bytes
        if outcome is None:
            self._taken_bytes = max(self._taken_bytes, size_bytes)
        elif isinstance(outcome, RecordRejectedError) and outcome.reason == "too_large":
            self._taken_bytes = min(self._taken_bytes, size_bytes - 1)
        if name is not None and self._is_expected(outcome) and not waiting.answer.cancelled():
            self._miss(name, waiting.place)

    def _miss(self, name: str, place: tuple[str, int, int], *, for_ever: bool = False) -> None:
        """Let later ones wait for a message, but not for ever: its partition can have moved to another worker."""
        missing = self._groups.setdefault(name, _Group()).missing
        if timer := missing.pop(place, None):
            timer.cancel()
        give_up = partial(self._stop_missing, name, place)
        missing[place] = None if for_ever else asyncio.get_running_loop().call_later(self._return_seconds, give_up)

    def _stop_missing(self, name: str, place: tuple[str, int, int]) -> None:
        if name in self._groups and place in self._groups[name].missing:
            del self._groups[name].missing[place]
            self._release(name)

    def _finish(self, name: str) -> None:
        """The group's request was answered: the next may go."""
        if name in self._groups:
            self._groups[name].busy = False
            self._release(name)
