"""`faust -A streams get`: one event out of the archive, or all events of a key."""

from __future__ import annotations

import base64
import binascii
import sys
from datetime import UTC, datetime
from typing import Any

from faust.cli import argument, option
from rich.table import Table

from streams.archive.events import archived_partitions, is_archived
from streams.archive.key_search import count_objects, search_key
from streams.archive.lives import place_in_bucket
from streams.archive.objects import Archive
from streams.archive.positions import UsageError, parse_position, parse_selection, parse_time, show_time
from streams.archive.restore_plan import Selection
from streams.commands.command import EXIT_OK, EXIT_WRONG, StreamsCommand, json_option
from streams.costs import Prices, describe_cost
from streams.envelope import encode_envelope
from streams.errors import DamagedObjectError, StreamsError
from streams.kafka.reader import KafkaReader
from streams.layout import PLACES
from streams.record import Record, TopicPartition, name_in_bucket, parts_of_name
from streams.sinks.s3_reader import PAGE_OBJECTS, S3Reader

VALUE_CHARACTERS_SHOWN = 60


class Get(StreamsCommand):
    """Print one archived event, or find the events of a key.

    The value goes to standard output as it is, byte for byte, and nothing else does; a null value (tombstone) prints
    nothing and is said on standard error. --envelope prints the whole event as one JSON document. An event that was
    dead-lettered is printed from there, with the reason on standard error.

    \b
    The value of an event, and the whole event:
      faust -A streams get orders/0/42 > value.bin
      faust -A streams get orders/0/42 --envelope
    Of a later life of the topic, one that was recreated (`restore` lists them):
      faust -A streams get orders@AbCdEfGh/0/42
    The events of a key, in all partitions, or in a range of one:
      faust -A streams get orders --key customer-7
      faust -A streams get orders/3 --key customer-7 --from 1000 --to 2000
      faust -A streams get orders --key-base64 AAEC --since 24h --envelope

    A search reads every object of the range (it says beforehand what that costs), so a narrow range is a fast one.
    Exit codes: 0 found, 1 there is no such event (or it is damaged), 2 it could not be looked up.
    """

    options = [
        argument("what", metavar="TOPIC/PARTITION/OFFSET"),
        option("--envelope", is_flag=True, help="Print the whole event as a JSON document."),
        option("--key", metavar="KEY", help="Find the events with this key (text); name TOPIC or TOPIC/PARTITION."),
        option("--key-base64", metavar="KEY", help="The same for a key of any bytes, in base64."),
        option("--from", "start", type=int, default=0, metavar="OFFSET", help="With --key: first offset."),
        option("--to", "stop", type=int, default=None, metavar="OFFSET", help="With --key: the offset to end before."),
        option("--since", metavar="TIME", help="With --key: this time or later, ISO 8601 (UTC) or 24h for that ago."),
        option("--until", metavar="TIME", help="With --key: before this time."),
        option("--parallel", type=int, default=64, show_default=True, metavar="N", help="Objects read at once."),
        json_option,
    ]

    async def work(self, **options: Any) -> int:
        """One event, or a search."""
        key = _key(options["key"], options["key_base64"])
        async with S3Reader(self.settings) as reader:
            archive = Archive(self.settings, reader)
            if key is None:
                return await self._get(archive, options["what"], envelope=options["envelope"] or self.as_json)
            return await self._search(archive, key, options)

    async def _get(self, archive: Archive, what: str, *, envelope: bool) -> int:
        position = parse_position(what)
        try:
            record = await self._find(archive, *position)
        except DamagedObjectError as error:
            self._say(f"{error}. `faust -A streams repair` writes it again while Kafka has the event.")
            return EXIT_WRONG
        if record is None:
            self._say(f"{what}: the archive has no such event. {await self._what_is_known(archive, *position)}")
            return EXIT_WRONG
        if envelope:
            _write(encode_envelope(record) + b"\n")
        elif record.value is None:
            self._say("null value (tombstone)")
        else:
            _write(record.value)
        return EXIT_OK

    async def _find(self, archive: Archive, topic: str, partition: int, offset: int) -> Record | None:
        key = await archive.find_key(topic, partition, offset)
        record = None if key is None else await archive.read(key)
        if record is not None:
            return record
        letter = await archive.read_dead_letter(archive.layout.dead_letter_key(topic, partition, offset))
        if letter is None:
            return None
        self._say(f"from the dead letters ({letter.reason}: {letter.detail})")
        return letter.record

    async def _what_is_known(self, archive: Archive, topic: str, partition: int, offset: int) -> str:
        """What Kafka says of an event that is not in the archive."""
        name, topic = topic, parts_of_name(topic)[0]
        tp = TopicPartition(topic, partition)
        try:
            async with KafkaReader(self.settings) as kafka:
                if not await _is_in_kafka(kafka, archive, name):
                    return f"Kafka's topic {topic} is another one than that of {name}, so it cannot tell."
                if partition not in await kafka.partitions_of(topic):
                    return f"Kafka has no partition {partition} of {topic}."
                end = (await kafka.ends([tp]))[tp]
                commit = (await kafka.committed([tp])).get(tp)
        except StreamsError as error:
            return f"Kafka could not be asked about it: {error}"
        if offset >= end:
            return f"Kafka has none either: the partition's next offset is {end}."
        if commit is None or offset >= commit.offset:
            behind = "nothing" if commit is None else f"the events below {commit.offset}"
            return f"{self.settings.consumer_group} has archived {behind} of this partition: it is still to come."
        if await _holds_nothing(archive, name):
            return (
                f"It lies below the committed offset {commit.offset}, and not one object of {name} was found: check "
                f"{PLACES}."
            )
        return (
            f"It lies below the committed offset {commit.offset}: it never was an event (compaction, a transaction "
            "marker), or it is lost. Run `faust -A streams verify`, which can tell."
        )

    async def _search(self, archive: Archive, key: bytes, options: dict[str, Any]) -> int:
        selection = _selection(options)
        partitions = selection.partitions or tuple(await archived_partitions(archive, selection.topic))
        with self.progress("listing") as advance:
            objects, unread = await count_objects(archive, selection, partitions, advance)
        pages = len(partitions) + (objects + unread) // PAGE_OBJECTS
        cost = describe_cost({"LIST": pages, "GET": objects}, Prices.of(self.settings))
        self.note(f"reading {objects:,} objects of {len(partitions)} partitions: {cost}")
        envelopes = options["envelope"] or self.as_json
        found = 0
        table = _table()
        with self.progress("reading", objects) as advance:
            async for record in search_key(archive, selection, partitions, key, options["parallel"], advance):
                found += 1
                if envelopes:
                    _write(encode_envelope(record) + b"\n")
                else:
                    table.add_row(*_row(record))
        if found and not envelopes:
            self.console.print(table, markup=False)
        self.note(f"{found:,} of {objects:,} events have this key")
        return EXIT_OK if found else EXIT_WRONG

    def _say(self, text: str) -> None:
        """On standard error, where machines read standard output, too."""
        self.notes.print(text, markup=False, soft_wrap=True)


async def _holds_nothing(archive: Archive, name: str) -> bool:
    """Whether not one object of the topic is found; who may not list the bucket cannot tell."""
    try:
        return not await is_archived(archive, name)
    except StreamsError:
        return False


async def _is_in_kafka(kafka: KafkaReader, archive: Archive, name: str) -> bool:
    """Whether Kafka's topic is the one that has this name in the bucket."""
    topic = parts_of_name(name)[0]
    identity = (await kafka.identities([topic]))[topic]
    placed = await place_in_bucket(archive.reader, archive.layout, topic, identity)
    return placed.problem is None and name_in_bucket(topic, placed.life) == name


def _key(text: str | None, base64_text: str | None) -> bytes | None:
    if text is not None and base64_text is not None:
        raise UsageError("--key and --key-base64 name the same thing: give one of them.")
    if base64_text is None:
        return None if text is None else text.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(base64_text, validate=True)
    except binascii.Error as error:
        raise UsageError(f"--key-base64: {base64_text!r} is no base64 ({error}).") from error


def _selection(options: dict[str, Any]) -> Selection:
    topic, partitions = parse_selection((options["what"],))
    now = datetime.now(UTC)
    since, until, start, stop = (options[name] for name in ("since", "until", "start", "stop"))
    if start < 0 or (stop is not None and stop <= start) or options["parallel"] < 1:
        raise UsageError("--from and --to are offsets, 0 or above, --to lies behind --from; --parallel is above 0.")
    return Selection(
        topic,
        partitions,
        start,
        stop,
        None if since is None else parse_time(since, now),
        None if until is None else parse_time(until, now),
    )


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("event", no_wrap=True)
    table.add_column("time", no_wrap=True)
    table.add_column("bytes", justify="right")
    table.add_column("value", no_wrap=True, overflow="ellipsis")
    return table


def _row(record: Record) -> tuple[str, str, str, str]:
    value = record.value
    if value is None:
        return record.position, show_time(record.timestamp_ms), "-", "null (tombstone)"
    text = ascii(value[:VALUE_CHARACTERS_SHOWN].decode("utf-8", "replace"))[1:-1]
    return record.position, show_time(record.timestamp_ms), f"{len(value):,}", text


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
