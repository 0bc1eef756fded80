"""From the archive back to Kafka: a range of events, byte for byte, each once however often it is interrupted.

What is to be restored (`restore_plan`) is fixed in Kafka, together with the progress, before the first event is
published (`restore_target`), so that events that are archived meanwhile, the restored ones perhaps, are never part of
it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from time import monotonic
from typing import Final

import orjson

from streams.archive.events import ArchivedEvent, in_order, read_event
from streams.archive.objects import Archive
from streams.archive.publisher import Publisher
from streams.archive.restore_errors import NAME_PREFIX, RestoreError
from streams.archive.restore_plan import (
    PARTITIONS_AT_ONCE,
    PartitionPlan,
    Selection,
    first_error,
    ranges_text,
    read_ranges,
    selected_events,
    worth_reading,
)
from streams.archive.restore_target import RestoreTarget
from streams.archive.target_topic import TargetTopic
from streams.errors import DamagedObjectError
from streams.record import Record

TRANSACTION_EVENTS: Final = 5000
TRANSACTION_BYTES: Final = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is: part of every transaction that publishes events of it."""

    next_offset: int
    stop: int
    published: int = 0

    @property
    def done(self) -> bool:
        return self.next_offset >= self.stop

    def encode(self) -> str:
        return orjson.dumps({"stop": self.stop, "published": self.published}).decode()

    @classmethod
    def decode(cls, offset: int, text: str) -> Progress:
        """Raises `RestoreError` for what another program has committed."""
        try:
            fields = orjson.loads(text)
            return cls(offset, int(fields["stop"]), int(fields["published"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RestoreError(f"the progress {text!r} is not a restore's. Choose another --id.") from error


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """What a restore is about, fixed in Kafka before the first event is published."""

    partitions: tuple[int, ...]
    since_ms: int | None
    until_ms: int | None

    def encode(self) -> str:
        return orjson.dumps({**asdict(self), "partitions": ranges_text(self.partitions)}).decode()

    @classmethod
    def decode(cls, text: str) -> FixedPlan:
        """Raises `RestoreError` for what another program has committed."""
        try:
            fields = orjson.loads(text)
            return cls(read_ranges(fields["partitions"]), fields["since_ms"], fields["until_ms"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RestoreError(f"the plan {text!r} is not a restore's. Choose another --id.") from error


def restore_id(bucket: str, prefix: str, target_topic: str, texts: Sequence[str]) -> str:
    """A short name that the same command always gets: its progress is found by it.

    `texts` are the options as they were typed (a `24h` stays `24h`), in an order of their own.
    """
    document = orjson.dumps([bucket, prefix, target_topic, *texts])
    return hashlib.sha256(document).hexdigest()[:10]


@dataclass(slots=True)
class Outcome:
    """What a run has done with a partition."""

    partition: int
    before: int
    """Events that earlier runs had published."""
    published: int = 0
    outside: int = 0
    """Events that were read, and whose time is not in the range."""
    damaged: list[str] = field(default_factory=list)
    """What was left out because it cannot be read back (`skip_damaged`)."""


class Restoration:
    """One restore, to its end or until it is interrupted; running it again goes on where it was."""

    def __init__(
        self,
        archive: Archive,
        target: RestoreTarget,
        selection: Selection,
        identity: str,
        *,
        repartition: bool = False,
        rate: float | None = None,
        parallel: int = 64,
        skip_damaged: bool = False,
        accept_time_shift: bool = False,
    ) -> None:
        self.archive = archive
        self.target = target
        self.selection = selection
        self.name = f"{NAME_PREFIX}{identity}"
        self._repartition = repartition
        self._pace = Pace(rate)
        self._transaction_events = TRANSACTION_EVENTS if rate is None else max(1, min(TRANSACTION_EVENTS, int(rate)))
        self._parallel = parallel
        self._skip_damaged = skip_damaged
        self._accept_time_shift = accept_time_shift
        self.outcomes: list[Outcome] = []

    async def fixed_plan(self) -> FixedPlan | None:
        """What an earlier run has fixed; `None`: nothing was published yet."""
        found = await self.target.progress(self.name)
        return None if found is None else FixedPlan.decode(found[1])

    async def progress(self, partitions: Sequence[int]) -> dict[int, Progress]:
        """How far each partition is, for those that have begun."""
        places = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def find(partition: int) -> tuple[int, str] | None:
            async with places:
                return await self.target.progress(self._name(partition))

        found = zip(partitions, await asyncio.gather(*map(find, partitions)), strict=True)
        return {partition: Progress.decode(*known) for partition, known in found if known is not None}

    async def run(
        self,
        target: TargetTopic,
        plans: Sequence[PartitionPlan] | None,
        advance: Callable[..., None] = lambda count=1: None,
    ) -> list[Outcome]:
        """Publish what is left; with `plans` it begins anew, without them it goes on with what is fixed.

        Raises:
            RestoreError: Kafka refuses or is away. What was published stays, and another run goes on from there.
        """
        async with self.target.publisher(self.name, target, repartition=False) as root:
            fixed = await self.fixed_plan() if plans is None else await self._fix(root, target, plans)
            if fixed is None:
                raise RestoreError(f"the progress of {self.name} is gone. Look at the topic before restoring again.")
            selection = replace(self.selection, since_ms=fixed.since_ms, until_ms=fixed.until_ms)
            places = asyncio.Semaphore(PARTITIONS_AT_ONCE)
            at_once = max(1, min(PARTITIONS_AT_ONCE, len(fixed.partitions)))
            self._parallel = max(4, self._parallel // at_once)

            async def restore(partition: int) -> None:
                async with places:
                    await self._partition(partition, target, selection, advance)

            async with first_error(), asyncio.TaskGroup() as group:
                for partition in fixed.partitions:
                    group.create_task(restore(partition))
            # Once more, so that Kafka forgets it no sooner than the partitions' progress (offsets.retention.minutes).
            await root.publish([], 1, fixed.encode())
        return sorted(self.outcomes, key=lambda outcome: outcome.partition)

    async def _fix(self, root: Publisher, target: TargetTopic, plans: Sequence[PartitionPlan]) -> FixedPlan:
        """Write down where each partition begins and ends, then that all of this is so; only then may events go out."""
        places = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def fix(plan: PartitionPlan) -> None:
            name = self._name(plan.partition)
            async with places, self.target.publisher(name, target, repartition=False) as publisher:
                await publisher.publish([], plan.start, Progress(plan.start, plan.stop).encode())

        async with first_error(), asyncio.TaskGroup() as group:
            for plan in plans:
                group.create_task(fix(plan))
        numbers = tuple(plan.partition for plan in plans)
        fixed = FixedPlan(numbers, self.selection.since_ms, self.selection.until_ms)
        await root.publish([], 1, fixed.encode())
        return fixed

    async def _partition(
        self, partition: int, target: TargetTopic, selection: Selection, advance: Callable[..., None]
    ) -> None:
        name = self._name(partition)
        opened = self.target.publisher(
            name, target, repartition=self._repartition, accept_time_shift=self._accept_time_shift
        )
        async with opened as publisher:
            known = (await self.progress([partition])).get(partition)
            if known is None:
                raise RestoreError(f"the progress of {name} is gone. Look at the topic before restoring again.")
            outcome = Outcome(partition, known.published)
            self.outcomes.append(outcome)
            left = replace(selection, start=known.next_offset, stop=known.stop)
            if not known.done:
                await self._publish(publisher, known, left, outcome, advance)

    async def _publish(
        self, publisher: Publisher, known: Progress, left: Selection, outcome: Outcome, advance: Callable[..., None]
    ) -> None:
        async with aclosing(self._transactions(outcome.partition, left, outcome)) as transactions:
            async for records, next_offset in transactions:
                await self._pace.take(len(records))
                progress = Progress(next_offset, known.stop, known.published + outcome.published + len(records))
                await publisher.publish(records, next_offset, progress.encode())
                outcome.published += len(records)
                advance(len(records))

    async def _transactions(
        self, partition: int, left: Selection, outcome: Outcome
    ) -> AsyncGenerator[tuple[list[Record], int], None]:
        """The events of each transaction, and the offset that comes behind them; the last one reaches the end."""
        records: list[Record] = []
        size_bytes = 0
        wanted = worth_reading(selected_events(self.archive, left, partition), left)

        async def read(event: ArchivedEvent) -> Record | None:
            try:
                return await read_event(self.archive, left.topic, partition, event)
            except DamagedObjectError as error:
                if not self._skip_damaged:
                    raise
                outcome.damaged.append(str(error))
                return None

        async with aclosing(in_order(wanted, read, self._parallel)) as events:
            async for event, record in events:
                if record is None:
                    continue
                if not left.holds(record):
                    outcome.outside += 1
                    continue
                records.append(record)
                size_bytes += event.size_bytes
                if len(records) >= self._transaction_events or size_bytes >= TRANSACTION_BYTES:
                    yield records, record.offset + 1
                    records, size_bytes = [], 0
        if left.stop is None:
            raise ValueError("the plan has no end: fix it before it is carried out")
        yield records, left.stop

    def _name(self, partition: int) -> str:
        return f"{self.name}-{partition}"


class Pace:
    """Lets so many events a second through, over all partitions; `None`: as fast as it goes."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = monotonic()

    async def take(self, events: int) -> None:
        """Return when these events may go out."""
        if self._rate is None:
            return
        now = monotonic()
        begin = max(now, self._free_at)
        self._free_at = begin + events / self._rate
        await asyncio.sleep(begin - now)
