"""The events of a key: everything in a range is read, for nothing in the bucket is ordered by key.

The logic of `faust -A streams get TOPIC --key KEY`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from streams.archive.events import in_order, read_event
from streams.archive.objects import Archive
from streams.archive.restore_plan import Selection, plan_partition, selected_events, worth_reading
from streams.record import Record


async def count_objects(
    archive: Archive, selection: Selection, partitions: Sequence[int], advance: Callable[..., None]
) -> tuple[int, int]:
    """How many objects a search of the selection reads, and how many it leaves unread by their age."""
    plans = [await plan_partition(archive, selection, partition, advance) for partition in partitions]
    return sum(plan.events for plan in plans), sum(plan.left_unread for plan in plans)


async def search_key(
    archive: Archive,
    selection: Selection,
    partitions: Sequence[int],
    key: bytes,
    parallel: int,
    advance: Callable[..., None],
) -> AsyncIterator[Record]:
    """The events of the selection with this key, by partition and offset; `parallel` objects are read at once."""
    for partition in partitions:
        read = partial(read_event, archive, selection.topic, partition)
        wanted = worth_reading(selected_events(archive, selection, partition), selection)
        async with aclosing(in_order(wanted, read, parallel)) as found:
            async for _event, record in found:
                advance(1)
                if record.key == key and selection.holds(record):
                    yield record
