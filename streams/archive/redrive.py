"""Dead letters: what is in them and why, and another try for each once the cause is mended.

The logic of `faust -A streams redrive`. An event is written by the worker's own sink and retries, with the settings as
they are now; its dead letter is deleted only after that write is durable, so that it is in one of the two at any
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from streams.archive.events import in_order
from streams.archive.lives import life_named
from streams.archive.objects import Archive
from streams.archive.restore import Pace
from streams.delivery import Delivery
from streams.envelope import DeadLetter
from streams.errors import DamagedObjectError, RecordRejectedError, StreamsError
from streams.record import Record, name_in_bucket, parts_of_name
from streams.settings import Settings
from streams.sinks import Sink
from streams.sinks.s3_reader import ListedObject
from streams.stats import Stats, watched_sink

GIVE_UP_SECONDS = 60.0
LETTERS_AT_ONCE = 64
POSITION_FIELDS = 3


class FoundLetter(NamedTuple):
    """A dead letter as it was found; `letter` is `None` where it cannot be read, and `problem` says why."""

    object_key: str
    letter: DeadLetter | None
    problem: str = ""


@dataclass(slots=True)
class LetterGroup:
    """The dead letters of a topic with one reason."""

    topic: str
    reason: str
    count: int
    first: str
    """Position of the first one."""
    last: str
    detail: str
    """What one of them says."""


@dataclass(slots=True)
class Redriven:
    """What became of the dead letters."""

    written: list[str] = field(default_factory=list)
    """Positions of the events that are objects now."""
    still_rejected: list[tuple[str, str]] = field(default_factory=list)
    """Positions, and what was wrong this time; their dead letters are as they were."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Positions of events that could not be written, for a reason that is not theirs."""
    not_deleted: list[tuple[str, str]] = field(default_factory=list)
    """Keys of dead letters whose events were written and that could not be deleted."""

    @property
    def all_well(self) -> bool:
        return not (self.still_rejected or self.failed or self.not_deleted)


async def find_letters(
    archive: Archive,
    is_wanted: Callable[[str], bool],
    *,
    topic: str | None = None,
    reason: str | None = None,
    limit: int | None = None,
    parallel: int = LETTERS_AT_ONCE,
) -> AsyncGenerator[FoundLetter, None]:
    """The dead letters of `topic` (`None`: of those that `is_wanted`), of one reason, in the order of their keys.

    Those that cannot be read come along whatever their reason is; `limit` counts all that come.
    """
    layout = archive.layout

    async def listed() -> AsyncIterator[ListedObject]:
        async for page in archive.reader.list(layout.dead_letter_prefix(topic)):
            for one in page:
                found = layout.parse_dead_letter(one.object_key)
                if found is None or (topic is None and not is_wanted(found[0])):
                    continue
                yield one

    count = 0
    async with aclosing(in_order(listed(), lambda one: _read(archive, one.object_key), parallel)) as letters:
        async for _, found in letters:
            if found is None or (found.letter is not None and reason not in (None, found.letter.reason)):
                continue
            yield found
            count += 1
            if count == limit:
                return


async def _read(archive: Archive, object_key: str) -> FoundLetter | None:
    try:
        letter = await archive.read_dead_letter(object_key)
    except DamagedObjectError as error:
        return FoundLetter(object_key, None, str(error))
    if letter is None:  # another redrive has dealt with it
        return None
    record = letter.record
    named = archive.layout.parse_dead_letter(object_key)
    if named is None or (parts_of_name(named[0])[0], *named[1:]) != (record.topic, record.partition, record.offset):
        return FoundLetter(object_key, None, f"{object_key} holds the event {record.position}, not that of its key")
    record.life = life_named(named[0])
    return FoundLetter(object_key, letter)


class LetterSummary:
    """Dead letters by topic and reason, counted one after the other."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], LetterGroup] = {}
        self.unreadable: list[FoundLetter] = []

    def __len__(self) -> int:
        """All of them, the unreadable ones, too."""
        return sum(group.count for group in self._groups.values()) + len(self.unreadable)

    @property
    def groups(self) -> list[LetterGroup]:
        """By topic and reason, in that order."""
        return [group for _, group in sorted(self._groups.items())]

    def add(self, found: FoundLetter) -> None:
        letter = found.letter
        if letter is None:
            self.unreadable.append(found)
            return
        topic, position = name_in_bucket(letter.record.topic, letter.record.life), place_of(letter.record)
        group = self._groups.setdefault(
            (topic, letter.reason), LetterGroup(topic, letter.reason, 0, position, position, letter.detail)
        )
        group.count += 1
        group.first = min(group.first, position, key=_place)
        group.last = max(group.last, position, key=_place)


def place_of(record: Record) -> str:
    """The event's position, with the topic as it is called in the bucket."""
    return f"{name_in_bucket(record.topic, record.life)}/{record.partition}/{record.offset}"


def _place(position: str) -> tuple[int, int]:
    _, partition, offset = position.rsplit("/", POSITION_FIELDS - 1)
    return int(partition), int(offset)


class Redriver:
    """Writes dead-lettered events again; use it with `async with`."""

    def __init__(
        self, settings: Settings, archive: Archive, sink: Sink, *, keep: bool = False, rate: float | None = None
    ) -> None:
        self._archive = archive
        self._keep = keep
        self._pace = Pace(rate)
        self._sink = sink
        self._outcomes: dict[str, asyncio.Future[StreamsError | None]] = {}
        self._stats = Stats()
        self._delivery = Delivery(
            sink,
            self._stats,
            max_in_flight=settings.max_in_flight,
            retry_base_seconds=settings.retry_base_seconds,
            retry_max_seconds=settings.retry_max_seconds,
            dead_letters=False,  # a dead letter that is rejected again stays as it is
            give_up_seconds=GIVE_UP_SECONDS,
            on_failure=self._failed,
        )
        self.result = Redriven()

    async def __aenter__(self) -> Redriver:
        await self._sink.start()
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self._delivery.abandon()
        await self._sink.close()

    async def redrive(self, letters: AsyncIterator[FoundLetter], advance: Callable[..., None]) -> Redriven:
        """Write each event and delete its dead letter then; unreadable letters are left alone.

        Stops at the first event that cannot be written for a reason that is not its own: the next would fail as well.
        """
        places = asyncio.Semaphore(LETTERS_AT_ONCE)

        async def one(object_key: str, letter: DeadLetter) -> None:
            try:
                await self._redrive(object_key, letter.record)
                advance(1)
            finally:
                places.release()

        async with watched_sink(self._stats), asyncio.TaskGroup() as group:
            async for found in letters:
                if found.letter is None:
                    continue
                await self._pace.take(1)
                await places.acquire()
                if self.result.failed:
                    break
                group.create_task(one(found.object_key, found.letter))
        return self.result

    async def _redrive(self, object_key: str, record: Record) -> None:
        error, place = await self._write(record), place_of(record)
        if isinstance(error, RecordRejectedError):
            self.result.still_rejected.append((place, str(error)))
        elif error is not None:
            self.result.failed.append((place, str(error)))
        else:
            self.result.written.append(place)
            if not self._keep:
                await self._delete(object_key)

    async def _write(self, record: Record) -> StreamsError | None:
        outcome: asyncio.Future[StreamsError | None] = asyncio.get_running_loop().create_future()
        self._outcomes[place_of(record)] = outcome
        await self._delivery.start(record, self._durable)
        return await outcome

    async def _delete(self, object_key: str) -> None:
        if self.result.not_deleted:  # what one was refused is not tried with the rest
            self.result.not_deleted.append((object_key, "not tried after the first failure"))
            return
        try:
            await self._archive.reader.delete(object_key)
        except StreamsError as error:
            self.result.not_deleted.append((object_key, str(error)))

    def _durable(self, record: Record) -> None:
        self._outcomes.pop(place_of(record)).set_result(None)

    def _failed(self, record: Record, error: Exception) -> None:
        known = error if isinstance(error, StreamsError) else StreamsError(f"{type(error).__name__}: {error}")
        self._outcomes.pop(place_of(record)).set_result(known)
