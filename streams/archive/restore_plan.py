"""What a restore is to publish, and whether it may: looked up in the archive and decided, nothing changed.

The first half of `faust -A streams restore`; `restore` is the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from streams.archive.events import ArchivedEvent, archived_events, archived_partitions, read_event
from streams.archive.objects import Archive
from streams.archive.target_topic import TargetTopic
from streams.errors import DamagedObjectError
from streams.offset_set import Range
from streams.record import Record

PARTITIONS_AT_ONCE: Final = 8
GAPS_SHOWN: Final = 5
FIRST_EVENTS_TRIED: Final = 10
CLOCK_MARGIN: Final = timedelta(days=1)
"""An object that is older than a time by more than this is not read for it: its event would be from the future."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: offsets `start <= offset < stop` of the partitions, times `since_ms <= time < until_ms`."""

    topic: str
    partitions: tuple[int, ...] | None = None
    """`None`: every partition of which the archive holds anything."""
    start: int = 0
    stop: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    dead_letters: bool = True
    read_all: bool = False
    """Read objects for `since_ms` even where they are much older than that."""

    @property
    def by_time(self) -> bool:
        return self.since_ms is not None or self.until_ms is not None

    def may_hold(self, event: ArchivedEvent) -> bool:
        """Whether the object has to be read to know: an event is no younger than its object, but for clocks."""
        if self.since_ms is None or self.read_all:
            return True
        return event.modified_at + CLOCK_MARGIN >= _moment(self.since_ms)

    def holds(self, record: Record) -> bool:
        """Whether the event's time is in the range; without a range every event is."""
        if not self.by_time:
            return True
        timestamp_ms = record.timestamp_ms
        if timestamp_ms is None:
            return False
        after = self.since_ms is None or timestamp_ms >= self.since_ms
        return after and (self.until_ms is None or timestamp_ms < self.until_ms)


@dataclass(slots=True)
class PartitionPlan:
    """What a listing says of a partition."""

    partition: int
    start: int
    stop: int
    objects: int = 0
    dead_letters: int = 0
    size_bytes: int = 0
    left_unread: int = 0
    """Objects that are too old for the time range."""
    first_offset: int | None = None
    last_offset: int | None = None
    without_object: int = 0
    """Offsets in the range that have neither an object nor a dead letter."""
    gaps: list[Range] = field(default_factory=list)
    """The first few ranges of those."""
    first_time_ms: int | None = None

    @property
    def events(self) -> int:
        """How many events are read."""
        return self.objects + self.dead_letters

    def add(self, event: ArchivedEvent, wanted: bool) -> None:
        """Count the next event of the partition."""
        if self.last_offset is not None or self.start:
            self._gap(self.start if self.last_offset is None else self.last_offset + 1, event.offset)
        if self.first_offset is None:
            self.first_offset = event.offset
        self.last_offset = event.offset
        if not wanted:
            self.left_unread += 1
            return
        self.size_bytes += event.size_bytes
        if event.is_dead_letter:
            self.dead_letters += 1
        else:
            self.objects += 1

    def close(self, stop: int | None) -> None:
        """The listing has ended: up to where the range goes."""
        behind = self.start if self.last_offset is None else self.last_offset + 1
        self.stop = behind if stop is None else max(stop, behind)
        if stop is not None and self.last_offset is not None:
            self._gap(behind, stop)

    def _gap(self, start: int, stop: int) -> None:
        if start < stop:
            self.without_object += stop - start
            if len(self.gaps) < GAPS_SHOWN:
                self.gaps.append((start, stop))


async def plan_restore(
    archive: Archive, selection: Selection, advance: Callable[..., None] = lambda count=1: None
) -> list[PartitionPlan]:
    """What there is to restore, by partition: everything is listed, and the first event of each partition read."""
    partitions = selection.partitions
    if partitions is None:
        partitions = tuple(await archived_partitions(archive, selection.topic))
    places = asyncio.Semaphore(PARTITIONS_AT_ONCE)

    async def plan(partition: int) -> PartitionPlan:
        async with places:
            return await plan_partition(archive, selection, partition, advance)

    async with first_error(), asyncio.TaskGroup() as group:
        tasks = [group.create_task(plan(partition)) for partition in partitions]
    return [task.result() for task in tasks]


async def plan_partition(
    archive: Archive, selection: Selection, partition: int, advance: Callable[..., None]
) -> PartitionPlan:
    """The same for one partition."""
    plan = PartitionPlan(partition, selection.start, selection.start)
    first: list[ArchivedEvent] = []
    async for event in selected_events(archive, selection, partition):
        wanted = selection.may_hold(event)
        plan.add(event, wanted)
        if wanted and len(first) < FIRST_EVENTS_TRIED:
            first.append(event)
        advance(1)
    plan.close(selection.stop)
    plan.first_time_ms = await _first_time_ms(archive, selection.topic, partition, first)
    return plan


async def _first_time_ms(archive: Archive, topic: str, partition: int, events: Sequence[ArchivedEvent]) -> int | None:
    """The time of the first of these that can be read back; whether damage stops the restore is decided later."""
    for event in events:
        with suppress(DamagedObjectError):
            return (await read_event(archive, topic, partition, event)).timestamp_ms
    return None


def target_problems(
    target: TargetTopic,
    plans: Sequence[PartitionPlan],
    now_ms: int,
    *,
    repartition: bool,
    accept_append_time: bool,
    accept_retention: bool,
) -> list[str]:
    """Why this restore must not begin as asked, each with what to do; empty when it may."""
    problems = []
    missing = [plan.partition for plan in plans if plan.events and plan.partition not in target.partitions]
    if missing and not repartition:
        problems.append(
            f"{target.name} has {len(target.partitions)} partitions and lacks {ranges_text(missing)}. Add partitions "
            "to it, restore to another topic (--to-topic), or let Kafka's partitioner choose by key (--repartition)."
        )
    if target.stamps_events and not accept_append_time:
        problems.append(
            f"{target.name} has message.timestamp.type=LogAppendTime: every event would get the time of its restore. "
            "Set it to CreateTime, or accept that with --accept-append-time."
        )
    oldest = min((plan.first_time_ms for plan in plans if plan.first_time_ms is not None), default=None)
    retention_ms = target.retention_ms
    too_old = oldest is not None and retention_ms is not None and now_ms - oldest > retention_ms
    if too_old and not (accept_retention or target.stamps_events):
        problems.append(
            f"{target.name} keeps events for {_duration(retention_ms or 0)} (retention.ms) by their own timestamps, "
            "and events to restore are older: Kafka would delete them again within minutes. Set retention.ms=-1 on it "
            "for as long as they are needed, or accept that with --accept-retention."
        )
    return problems


@asynccontextmanager
async def first_error() -> AsyncIterator[None]:
    """Raises the first error of a task group by itself: users read one message."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def selected_events(archive: Archive, selection: Selection, partition: int) -> AsyncIterator[ArchivedEvent]:
    return archived_events(
        archive, selection.topic, partition, selection.start, selection.stop, dead_letters=selection.dead_letters
    )


async def worth_reading(events: AsyncIterator[ArchivedEvent], selection: Selection) -> AsyncIterator[ArchivedEvent]:
    async for event in events:
        if selection.may_hold(event):
            yield event


def _moment(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def _duration(milliseconds: int) -> str:
    days, rest = divmod(milliseconds, 86_400_000)
    return f"{days} days" if days and not rest else f"{milliseconds / 3_600_000:g} hours"


def ranges_text(numbers: Sequence[int]) -> str:
    """`0-2,5`: short, as Kafka takes 4 KB of text with an offset."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def read_ranges(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)
