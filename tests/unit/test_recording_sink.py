"""The public fake does what it is told, so that tests which use it can be believed."""

from __future__ import annotations

import asyncio

import pytest

from streams.errors import RecordRejectedError, SinkUnavailableError
from streams.record import Record
from streams.sinks import Sink
from streams.sinks.recording import EVERY_EVENT, RecordingSink


def record(offset: int) -> Record:
    return Record("t", 0, offset, None, None, None, b"value")


async def test_written_events_are_kept_in_order() -> None:
    """It keeps the contract of `Sink` and what was written."""
    sink = RecordingSink()
    contract: Sink = sink
    await contract.start()
    assert [await contract.write(record(offset)) for offset in (0, 1)] == [5, 5]
    await contract.close()
    assert (sink.positions, sink.started, sink.closed) == (["t/0/0", "t/0/1"], True, True)


async def test_failures_end_after_the_given_number_of_times() -> None:
    """A transient failure is over at last, and failed attempts are counted but not kept."""
    sink = RecordingSink()
    sink.fail("t/0/1", SinkUnavailableError("throttled", "slow down"), times=2)
    for _ in range(2):
        with pytest.raises(SinkUnavailableError):
            await sink.write(record(1))
    await sink.write(record(1))
    assert (sink.positions, sink.attempts["t/0/1"]) == (["t/0/1"], 3)


async def test_rejection_lasts_and_dead_letters_are_kept() -> None:
    """A rejected event can only become a dead letter."""
    sink = RecordingSink()
    sink.reject("t/0/1", "too_large")
    for _ in range(2):
        with pytest.raises(RecordRejectedError) as caught:
            await sink.write(record(1))
    assert await sink.write_dead_letter(record(1), caught.value) == "dead-letter/t/0/00000000000000000001.json"
    assert (sink.positions, sink.dead_letter_positions) == ([], ["t/0/1"])


async def test_dead_letters_can_fail_too() -> None:
    """An outage may come between a rejection and its dead letter."""
    sink = RecordingSink()
    sink.fail_dead_letter(EVERY_EVENT, SinkUnavailableError("timeout", "no answer"))
    rejection = RecordRejectedError("too_large", "by instruction")
    with pytest.raises(SinkUnavailableError):
        await sink.write_dead_letter(record(1), rejection)
    await sink.write_dead_letter(record(1), rejection)
    assert sink.dead_letter_positions == ["t/0/1"]


async def test_hanging_write_waits_for_its_release_while_others_pass() -> None:
    """One slow event does not stop the rest, and overlap is measured."""
    sink = RecordingSink()
    sink.hang("t/0/0")
    sink.delay("t/0/1", 0.001)
    first = asyncio.create_task(sink.write(record(0)))
    await asyncio.gather(sink.write(record(1)), sink.write(record(2)))
    assert (first.done(), sink.in_flight, sink.most_in_flight) == (False, 1, 3)
    sink.release("t/0/0")
    await first
    assert sink.positions == ["t/0/2", "t/0/1", "t/0/0"]
