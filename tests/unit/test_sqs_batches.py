"""Requests: when they are sent, what each write is answered, and the order of a FIFO queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.sinks.sqs_batches import Batches, Outcome
from streams.sinks.sqs_message import Message

Answer = Callable[[Message], Outcome]
TOO_LARGE = RecordRejectedError("too_large", "MessageTooLong")
THROTTLED = SinkUnavailableError("throttled", "slow down")


class Queue:
    """What a queue would be sent; `answer` gives each message's outcome, `failure` fails whole requests."""

    def __init__(self, answer: Answer = lambda message: None) -> None:
        self.answer = answer
        self.failure: Callable[[Sequence[Message]], Exception | None] = lambda messages: None
        self.requests: list[list[int]] = []
        self.stored: list[int] = []
        self.busy: set[str] = set()
        self.gate: asyncio.Event | None = None

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        groups = {message.group for message in messages if message.group}
        assert not groups & self.busy, "two requests of a group at a time"
        self.busy |= groups
        self.requests.append([message.place[2] for message in messages])
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if failure := self.failure(messages):
                raise failure
            outcomes = [self.answer(message) for message in messages]
        finally:
            self.busy -= groups
        self.stored += [one.place[2] for one, outcome in zip(messages, outcomes, strict=True) if outcome is None]
        return outcomes


def batches(queue: Queue, **fields: Any) -> Batches:
    basis = {"max_events": 10, "max_bytes": 1000, "linger_seconds": 0.001, "return_seconds": 5.0}
    return Batches(queue.send, **basis | fields)


def message(offset: int, size_bytes: int = 10, group: str | None = None) -> Message:
    return Message(("orders", 0, offset), "body", {}, size_bytes, group, None if group is None else str(offset))


async def send_all(sender: Batches, messages: Sequence[Message]) -> list[BaseException | None]:
    return await asyncio.gather(*(sender.send(one) for one in messages), return_exceptions=True)


async def test_full_requests_go_at_once_and_the_rest_after_the_linger() -> None:
    """Ten to a request, in order; the last, which is not full, does not wait for ever."""
    queue = Queue()
    await send_all(batches(queue), [message(offset) for offset in range(23)])
    assert queue.requests == [list(range(10)), list(range(10, 20)), [20, 21, 22]]


async def test_requests_keep_the_size_limit() -> None:
    """A message that would make the request too large begins the next one."""
    queue = Queue()
    await send_all(batches(queue), [message(0, 600), message(1, 400), message(2, 700), message(3, 301), message(4)])
    assert queue.requests == [[0, 1], [2], [3, 4]]


async def test_requests_overlap() -> None:
    """A request that waits for its answer does not hold up others."""
    queue = Queue()
    queue.gate = asyncio.Event()
    sending = asyncio.ensure_future(send_all(batches(queue), [message(offset) for offset in range(50)]))
    while len(queue.requests) < 5:
        await asyncio.sleep(0)
    queue.gate.set()
    assert [None] * 50 == await sending


async def test_failed_entry_fails_its_own_write_alone() -> None:
    """Each write is told what its entry was answered."""
    queue = Queue(lambda one: THROTTLED if one.place[2] == 3 else None)
    outcomes = await send_all(batches(queue), [message(offset) for offset in range(10)])
    assert [3] == [at for at, outcome in enumerate(outcomes) if outcome is not None]
    assert str(outcomes[3]) == str(THROTTLED)


async def test_failed_request_fails_each_write_with_an_exception_of_its_own() -> None:
    """A shared exception would collect the traceback of every task."""
    queue = Queue()
    queue.failure = lambda messages: SinkRefusedError("kms", "no key", "mend it")
    outcomes = await send_all(batches(queue), [message(offset) for offset in range(10)])
    assert ["kms: no key mend it"] * 10 == [str(outcome) for outcome in outcomes]
    assert len({id(outcome) for outcome in outcomes}) == 10


async def test_fault_of_the_sink_reaches_every_write() -> None:
    """An exception that nobody thought of leaves no write waiting."""
    queue = Queue()
    queue.failure = lambda messages: ZeroDivisionError()
    outcomes = await send_all(batches(queue, return_seconds=-4.99), [message(offset, group="g") for offset in range(3)])
    assert all(isinstance(outcome, ZeroDivisionError) for outcome in outcomes)


async def test_rejected_request_is_sent_again_one_by_one() -> None:
    """Nobody goes to the dead letters for a neighbour's sake."""
    queue = Queue()
    rejection = RecordRejectedError("invalid_request", "a character")
    queue.failure = lambda messages: rejection if any(one.place[2] == 4 for one in messages) else None
    outcomes = await send_all(batches(queue), [message(offset) for offset in range(10)])
    assert [4] == [at for at, outcome in enumerate(outcomes) if outcome is not None]
    assert isinstance(outcomes[4], RecordRejectedError)
    assert sorted(queue.stored) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("group", [None, "g"])
async def test_cancelled_write_is_not_sent_and_harms_nobody(group: str | None) -> None:
    """What is cancelled before its request goes out stays out; the others are answered."""
    queue = Queue()
    sender = batches(queue)
    tasks = [asyncio.ensure_future(sender.send(message(offset, group=group))) for offset in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert queue.stored == [0, 1, 3, 4]


async def test_write_cancelled_in_flight_harms_nobody() -> None:
    """Its request goes on for the others."""
    queue = Queue()
    queue.gate = asyncio.Event()
    sender = batches(queue)
    tasks = [asyncio.ensure_future(sender.send(message(offset, group="g"))) for offset in range(12)]
    while not queue.requests:
        await asyncio.sleep(0)
    tasks[0].cancel()
    queue.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [None] * 11 == outcomes[1:]
    assert queue.stored == list(range(12))


async def test_group_has_one_request_in_flight_and_keeps_its_order() -> None:
    """`Queue.send` checks the first; groups do not wait for each other."""
    queue = Queue()
    messages = [message(offset, group=f"g{offset % 3}") for offset in range(90)]
    assert [None] * 90 == await send_all(batches(queue), messages)
    for group in range(3):
        found = [offset for offset in queue.stored if offset % 3 == group]
        assert sorted(found) == found


async def retried(sender: Batches, one: Message, pause_seconds: float) -> None:
    """A write with Delivery's patience."""
    while True:
        try:
            await sender.send(one)
        except StreamsError:
            await asyncio.sleep(pause_seconds)
        else:
            return


async def test_failed_message_is_not_passed_by_later_requests() -> None:
    """What comes after a failed one of its group waits until it has come back; other groups go on."""
    failures = {12: 3, 30: 1}

    def answer(one: Message) -> Outcome:
        left = failures.get(one.place[2], 0)
        failures[one.place[2]] = left - 1
        return THROTTLED if left > 0 else None

    queue = Queue(answer)
    sender = batches(queue, max_events=1)
    messages = [message(offset, group="g") for offset in range(40)]
    await asyncio.gather(*(retried(sender, one, 0.005) for one in messages))
    assert queue.stored == list(range(40))


async def test_order_survives_an_outage_of_whole_requests() -> None:
    """All writes of a failed request come back in any order; the queue gets them in theirs."""
    queue = Queue()
    failing = 4

    def failure(messages: Sequence[Message]) -> Exception | None:
        nonlocal failing
        failing -= 1
        return SinkUnavailableError("connection", "down") if failing >= 0 else None

    queue.failure = failure
    sender = batches(queue)
    messages = [message(offset, group="g") for offset in range(60)]
    await asyncio.gather(*(retried(sender, one, 0.001 * (7 * one.place[2] % 5)) for one in messages))
    assert queue.stored == list(range(60))


async def test_message_that_never_comes_back_is_not_waited_for_for_ever() -> None:
    """Its partition may have moved to another worker."""
    queue = Queue(lambda one: THROTTLED if one.place[2] == 0 else None)
    sender = batches(queue, return_seconds=-4.98)
    assert isinstance((await send_all(sender, [message(0, group="g")]))[0], SinkUnavailableError)
    await asyncio.wait_for(sender.send(message(1, group="g")), 5)
    assert queue.stored == [1]


async def test_expected_message_is_waited_for() -> None:
    """An event that is being written to S3 keeps its place in its group."""
    queue = Queue()
    sender = batches(queue, return_seconds=-4.99)
    with sender.expecting(message(0, group="g")):
        later = asyncio.ensure_future(sender.send(message(1, group="g")))
        await asyncio.sleep(0.05)  # longer than a failed message is waited for
        assert queue.requests == []
        await sender.send(message(0, group="g"))
    await later
    assert queue.stored == [0, 1]


async def test_expected_message_that_is_rejected_is_not_waited_for() -> None:
    """It goes to the dead letters: the group goes on at once."""
    queue = Queue()
    sender = batches(queue)
    with suppress(RecordRejectedError), sender.expecting(message(0, group="g")):
        later = asyncio.ensure_future(sender.send(message(1, group="g")))
        await asyncio.sleep(0)
        raise TOO_LARGE
    await asyncio.wait_for(later, 2)
    assert queue.stored == [1]


async def by_way_of_s3(sender: Batches, one: Message, rejected: list[int]) -> None:
    """As `SqsSink.write`: what the queue finds too large becomes an object, which takes its time, and a pointer."""
    try:
        await sender.send(one)
    except RecordRejectedError:
        rejected.append(one.place[2])
        with sender.expecting(one):
            await asyncio.sleep(0.01)
            await sender.send(replace(one, size_bytes=1))


@pytest.mark.parametrize("group_events", [1, 10])
@pytest.mark.parametrize("whole_requests", [False, True])
async def test_too_large_for_the_queue_is_not_passed(group_events: int, whole_requests: bool) -> None:
    """The queue's own limit is the lower one, and says so of an entry or of the whole request: the pointer comes first.

    Nothing of its group passes it, in its own request neither.
    """
    queue = Queue()
    if whole_requests:
        queue.failure = lambda messages: TOO_LARGE if any(one.size_bytes > 50 for one in messages) else None
    else:
        queue.answer = lambda one: TOO_LARGE if one.size_bytes > 50 else None
    sender = batches(queue, group_events=group_events, comes_back=lambda rejection: rejection.reason == "too_large")
    rejected: list[int] = []
    messages = [message(offset, 60 + offset if offset % 7 in (0, 3) else 10, group="g") for offset in range(40)]
    others = [message(1_000 + offset, group=f"h{offset}") for offset in range(10)]
    await asyncio.gather(*(by_way_of_s3(sender, one, rejected) for one in [*messages, *others]))
    assert rejected == [offset for offset in range(40) if offset % 7 in (0, 3)]
    assert [offset for offset in queue.stored if offset < 1_000] == list(range(40))


async def test_failed_entry_is_not_passed_by_one_of_its_own_request() -> None:
    """SQS takes or fails each entry by itself, so a request holds one message of a group."""
    failures = Counter({0: 1, 5: 2, 6: 1, 11: 1})

    def answer(one: Message) -> Outcome:
        failures[one.place[2]] -= 1
        return THROTTLED if failures[one.place[2]] >= 0 else None

    queue = Queue(answer)
    sender = batches(queue)
    messages = [message(offset, group=f"g{offset % 2}") for offset in range(20)]
    await asyncio.gather(*(retried(sender, one, 0.005) for one in messages))
    for group in range(2):
        found = [offset for offset in queue.stored if offset % 2 == group]
        assert sorted(found) == found
    assert len(queue.stored) == 20


async def test_throttled_message_of_a_rejected_request_is_not_passed() -> None:
    """A request that was rejected as a whole is sent one by one: there, too, order is kept."""
    failures = Counter({2: 1})
    queue = Queue()

    def failure(messages: Sequence[Message]) -> Exception | None:
        if len(messages) > 1:
            return TOO_LARGE
        failures[messages[0].place[2]] -= 1
        return THROTTLED if failures[messages[0].place[2]] >= 0 else None

    queue.failure = failure
    sender = batches(queue, group_events=10)
    sender._taken_bytes = 1_000
    await asyncio.gather(*(retried(sender, message(offset, group="g"), 0.005) for offset in range(9)))
    assert queue.stored == list(range(9))


async def test_cancelled_message_of_the_open_request_frees_its_group() -> None:
    """What waits behind it goes out."""
    queue = Queue()
    sender = batches(queue)
    first, second = (asyncio.ensure_future(sender.send(message(offset, group="g"))) for offset in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 2)
    assert queue.stored == [1]
    assert sender._groups == {}


async def test_nothing_is_left_behind() -> None:
    """Groups that are done take no memory."""
    queue = Queue()
    sender = batches(queue)
    await send_all(sender, [message(offset, group=f"g{offset}") for offset in range(100)])
    assert sender._groups == {}
    await sender.close()
