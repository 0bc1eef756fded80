"""A partition's archived events one after the other: objects and dead letters merged, read in parallel, in order.

Between `archive` (one object) and the commands that read many: `restore` and `get --key`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from streams.archive.objects import Archive
from streams.errors import DamagedObjectError
from streams.layout import Layout, common_prefix
from streams.record import Record, parts_of_name

BEHIND_DIGITS: Final = ":"
"""The character after "9" in UTF-8: behind every offset, and before every longer prefix."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ArchivedEvent(NamedTuple):
    """Where an event of the archive is: its object, or its dead letter where it has no object."""

    offset: int
    object_key: str
    size_bytes: int
    modified_at: datetime
    is_dead_letter: bool = False


async def archived_events(
    archive: Archive, topic: str, partition: int, start: int = 0, stop: int | None = None, *, dead_letters: bool = True
) -> AsyncIterator[ArchivedEvent]:
    """The partition's events with `start <= offset < stop` in the order of their offsets, each once.

    An event that has both an object and a dead letter (one that was redriven and kept) is its object.
    """
    letters = _dead_letters(archive, topic, partition, start, stop) if dead_letters else _nothing()
    async with aclosing(letters):
        letter = await anext(letters, None)
        async for offset, listed in archive.keys(topic, partition, start, stop):
            while letter is not None and letter.offset < offset:
                yield letter
                letter = await anext(letters, None)
            if letter is not None and letter.offset == offset:
                letter = await anext(letters, None)
            yield ArchivedEvent(offset, listed.object_key, listed.size_bytes, listed.modified_at)
        while letter is not None:
            yield letter
            letter = await anext(letters, None)


async def read_event(archive: Archive, topic: str, partition: int, event: ArchivedEvent) -> Record:
    """The event itself. Raises `DamagedObjectError` where it cannot be read back or is another one."""
    record = await _read(archive, event)
    if record is None:  # redriven or moved since it was listed
        record = await archive.event(topic, partition, event.offset)
    if record is None:
        raise DamagedObjectError(f"{event.object_key} was listed, and is gone now that it is read")
    expected = (parts_of_name(topic)[0], partition, event.offset)
    if (record.topic, record.partition, record.offset) != expected:
        raise DamagedObjectError(f"{event.object_key} holds the event {record.position}, which its key does not say")
    return record


async def archived_partitions(archive: Archive, topic: str) -> list[int]:
    """The partitions of which the archive holds anything, asked of the bucket alone: Kafka may not know them any more.

    One LIST for each where a partition's keys are together, else all keys of the topic are listed.
    """
    layout, template = archive.layout, archive.layout.template
    behind = template.listing_prefix if template.partitions_apart else None
    found = await _partitions(archive, topic, _topic_prefix(layout, topic), template.parse, behind)
    letters = await _partitions(
        archive, topic, layout.dead_letter_prefix(topic), layout.parse_dead_letter, layout.dead_letter_prefix
    )
    return sorted(found | letters)


async def is_archived(archive: Archive, topic: str) -> bool:
    """Whether the archive holds any event of the topic: one LIST, or two, where its keys are together."""
    layout = archive.layout
    places = (
        (_topic_prefix(layout, topic), layout.template.parse),
        (layout.dead_letter_prefix(topic), layout.parse_dead_letter),
    )
    for prefix, parse in places:
        async for page in archive.reader.list(prefix):
            found = (parse(listed.object_key) for listed in page)
            if any(position is not None and position[0] in (None, topic) for position in found):
                return True
    return False


def _topic_prefix(layout: Layout, topic: str) -> str:
    """What the keys of all events of a topic begin with."""
    examples = [layout.template.listing_prefix(topic, partition) for partition in (0, 1)]
    # Without the zeros of a padded number, which other partitions do not share.
    return common_prefix(examples).rstrip("0")


async def in_order(
    items: AsyncIterator[Item], read: Callable[[Item], Awaitable[Result]], parallel: int
) -> AsyncGenerator[tuple[Item, Result], None]:
    """Each item with what `read` makes of it, in the order of the items, with up to `parallel` of them under way."""
    pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
    try:
        async for item in items:
            pending.append((item, asyncio.ensure_future(read(item))))
            if len(pending) >= parallel:
                first, result = pending[0]
                yield first, await result
                pending.popleft()
        while pending:
            first, result = pending[0]
            yield first, await result
            pending.popleft()
    finally:
        left = [result for _, result in pending]
        for result in left:
            result.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _read(archive: Archive, event: ArchivedEvent) -> Record | None:
    if not event.is_dead_letter:
        return await archive.read(event.object_key)
    letter = await archive.read_dead_letter(event.object_key)
    return None if letter is None else letter.record


async def _dead_letters(
    archive: Archive, topic: str, partition: int, start: int, stop: int | None
) -> AsyncGenerator[ArchivedEvent, None]:
    layout = archive.layout
    after = layout.dead_letter_key(topic, partition, start - 1) if start else ""
    async for page in archive.reader.list(layout.dead_letter_prefix(topic, partition), after=after):
        for listed in page:
            found = layout.parse_dead_letter(listed.object_key)
            if found is None:
                continue
            if stop is not None and found[2] >= stop:
                return
            yield ArchivedEvent(found[2], *listed, is_dead_letter=True)


async def _nothing() -> AsyncGenerator[ArchivedEvent, None]:
    nothing: tuple[ArchivedEvent, ...] = ()
    for event in nothing:
        yield event


async def _partitions(
    archive: Archive,
    topic: str,
    prefix: str,
    parse: Callable[[str], tuple[str | None, int, int] | None],
    partition_prefix: Callable[[str, int], str] | None,
) -> set[int]:
    """Partitions in the keys under `prefix`; with `partition_prefix`, under which the keys of one partition and no
    others are, it jumps from the first page of one to the next.
    """
    partitions: set[int] = set()
    after = ""
    while True:
        jumped = False
        async for page in archive.reader.list(prefix, after=after):
            for listed in page:
                found = parse(listed.object_key)
                if found is not None and found[0] in (None, topic):
                    partitions.add(found[1])
            last = parse(page[-1].object_key) if page else None
            if partition_prefix is not None and last is not None:
                after = max(page[-1].object_key, partition_prefix(last[0] or topic, last[1]) + BEHIND_DIGITS)
                jumped = True
                break
        if not jumped:
            return partitions
