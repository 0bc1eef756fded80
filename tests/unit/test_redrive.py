"""Dead letters are counted, retried and deleted in the one order that loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streams.archive import redrive as redrive_module
from streams.archive.redrive import FoundLetter, LetterSummary, Redriven, Redriver, find_letters
from streams.errors import SinkRefusedError, SinkUnavailableError
from streams.sinks.recording import EVERY_EVENT, RecordingSink
from tests.unit.memory_reader import MemoryReader, event, settings


@pytest.fixture
def reader() -> MemoryReader:
    return MemoryReader(settings(retry_base_seconds=0.001, retry_max_seconds=0.002))


def mine(topic: str) -> bool:
    return topic == "orders"


async def letters(reader: MemoryReader, **options: object) -> list[FoundLetter]:
    return [found async for found in find_letters(reader.archive, mine, **options)]  # type: ignore[arg-type] # a test's own


async def run(reader: MemoryReader, sink: RecordingSink, *, keep: bool = False) -> Redriven:
    configured = settings(retry_base_seconds=0.001, retry_max_seconds=0.002)
    nothing: Callable[..., None] = lambda count=1: None  # noqa: E731 - a stand-in for a progress bar
    async with Redriver(configured, reader.archive, sink, keep=keep) as redriver:
        return await redriver.redrive(find_letters(reader.archive, mine), nothing)


async def test_letters_are_found_by_topic_and_reason(reader: MemoryReader) -> None:
    """Those of other workers' topics are left alone unless they are asked for."""
    reader.put_letter(event(1))
    reader.put_letter(event(2), reason="too_large")
    other = event(3)
    other.topic = "payments"
    reader.put_letter(other)
    assert 2 == len(await letters(reader))
    assert 1 == len(await letters(reader, reason="too_large"))
    assert 1 == len(await letters(reader, limit=1))
    assert 1 == len(await letters(reader, topic="payments"))


async def test_summary_groups_by_topic_and_reason(reader: MemoryReader) -> None:
    """With the first and the last position, in the order of numbers and not of letters."""
    for offset in (9, 10, 100):
        reader.put_letter(event(offset))
    reader.put_letter(event(5, 2), reason="too_large", detail="11 MB")
    summary = LetterSummary()
    for found in await letters(reader):
        summary.add(found)
    first, second = summary.groups
    assert ("key_template", 3, "orders/0/9", "orders/0/100") == (first.reason, first.count, first.first, first.last)
    assert ("too_large", 1, "11 MB") == (second.reason, second.count, second.detail)
    assert 4 == len(summary)


async def test_written_events_lose_their_dead_letters(reader: MemoryReader) -> None:
    """The event is durable first; then its dead letter goes."""
    keys = [reader.put_letter(event(offset)) for offset in range(3)]
    sink = RecordingSink()
    result = await run(reader, sink)
    assert {"orders/0/0", "orders/0/1", "orders/0/2"} == set(result.written) == set(sink.positions)
    assert result.all_well
    assert not set(keys) & set(reader.objects)
    assert sink.closed


async def test_kept_dead_letters_stay(reader: MemoryReader) -> None:
    """A cautious operator looks first."""
    key = reader.put_letter(event(0))
    assert ["orders/0/0"] == (await run(reader, RecordingSink(), keep=True)).written
    assert key in reader.objects


async def test_rejected_again_stays_as_it_is(reader: MemoryReader) -> None:
    """The dead letter keeps its first reason, and nothing writes over it."""
    key = reader.put_letter(event(0), detail="the first reason")
    before = reader.objects[key]
    reader.put_letter(event(1))
    sink = RecordingSink()
    sink.reject("orders/0/0", "too_large")
    result = await run(reader, sink)
    assert ["orders/0/0"] == [position for position, _ in result.still_rejected]
    assert (["orders/0/1"], []) == (result.written, sink.dead_letters)
    assert before == reader.objects[key]
    assert not result.all_well


async def test_unavailable_sink_is_retried_for_a_while(reader: MemoryReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage that ends is no failure; one that does not ends the command, and the dead letters stay."""
    key = reader.put_letter(event(0))
    sink = RecordingSink()
    sink.fail(EVERY_EVENT, SinkUnavailableError("throttled", "slow down"), times=3)
    assert ["orders/0/0"] == (await run(reader, sink)).written
    monkeypatch.setattr(redrive_module, "GIVE_UP_SECONDS", 0.01)
    reader.put_letter(event(0))
    sink.fail(EVERY_EVENT, SinkUnavailableError("timeout", "no answer"), times=10_000)
    assert ["orders/0/0"] == [position for position, _ in (await run(reader, sink)).failed]
    assert key in reader.objects


async def test_denied_delete_is_said_and_loses_nothing(reader: MemoryReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is written, the dead letter stays, and the permission is named."""
    key = reader.put_letter(event(0))

    async def denied(object_key: str) -> None:
        raise SinkRefusedError("access_denied", "no", "Ask.")

    monkeypatch.setattr(reader, "delete", denied)
    result = await run(reader, RecordingSink())
    ((not_deleted, problem),) = result.not_deleted
    assert (["orders/0/0"], key) == (result.written, not_deleted)
    assert "access_denied: no Ask." == problem


async def test_unreadable_letter_is_kept_and_reported(reader: MemoryReader) -> None:
    """What cannot be read is not written, not deleted, and not passed over in silence."""
    damaged = reader.put_letter(event(0))
    reader.objects[damaged] = reader.objects[damaged]._replace(body=b"{}")
    moved = reader.put_letter(event(1))
    reader.objects[moved] = reader.objects[reader.put_letter(event(2))]
    summary = LetterSummary()
    for found in await letters(reader, reason="key_template"):
        summary.add(found)
    assert [damaged, moved] == [found.object_key for found in summary.unreadable]
    assert ["orders/0/2"] == (await run(reader, RecordingSink())).written
    assert {damaged, moved} <= set(reader.objects)
