"""Events as they are in the bucket: found by their position, read back exactly.

The counterpart of `sinks.s3.S3Sink`: it reads every form that the worker has ever written (raw with metadata and
sidecar, envelope, dead letter), whatever the settings say now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from streams.envelope import DeadLetter, decode_dead_letter, decode_envelope
from streams.errors import DamagedObjectError
from streams.layout import Layout
from streams.metadata import POSITION, SIDECAR_SUFFIX, record_fields_from_metadata
from streams.record import Record
from streams.settings import Settings
from streams.sinks.s3_reader import FetchedObject, ListedObject, S3Reader


class Archive:
    """The events of one bucket and prefix. Requests raise as `S3Reader`'s do."""

    def __init__(self, settings: Settings, reader: S3Reader) -> None:
        self.layout = Layout(settings)
        self.reader = reader

    async def find_key(self, topic: str, partition: int, offset: int) -> str | None:
        """The key of the event's object, by rendering it or, where it depends on the event, by listing; or `None`."""
        key = self.layout.template.key_at(topic, partition, offset)
        if key is not None:
            return key if await self.reader.exists(key) else None
        async for found, listed in self._listed(topic, partition):
            if found == offset:
                return listed.object_key
        return None

    async def keys(
        self, topic: str, partition: int, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[tuple[int, ListedObject]]:
        """Offset and object of a partition's events with `start <= offset < stop`, in the order of the offsets.

        In constant memory where the template lists in that order, else sorted here.
        """
        template = self.layout.template
        if not template.offset_ordered:
            listed = [pair async for pair in self._listed(topic, partition)]
            for offset, one in sorted(listed):
                if start <= offset and (stop is None or offset < stop):
                    yield offset, one
            return
        after = template.key_at(topic, partition, start - 1) if start else None
        async for offset, one in self._listed(topic, partition, after or ""):
            if stop is not None and offset >= stop:
                return
            yield offset, one

    async def _listed(self, topic: str, partition: int, after: str = "") -> AsyncIterator[tuple[int, ListedObject]]:
        template = self.layout.template
        async for page in self.reader.list(template.listing_prefix(topic, partition), after=after):
            for one in page:
                found = template.parse(one.object_key)
                if found is not None and found[0] in (None, topic) and found[1] == partition:
                    yield found[2], one

    async def read(self, object_key: str) -> Record | None:
        """The event that the object holds, `None` where there is no object.

        Raises `DamagedObjectError` when it cannot be read back.
        """
        found = await self.reader.get(object_key)
        if found is None:
            return None
        sidecar = await self._sidecar(found)
        try:
            if POSITION in found.metadata:
                return record_fields_from_metadata(found.metadata, sidecar).to_record(found.body)
            return decode_envelope(found.body)
        except ValueError as error:
            raise DamagedObjectError(f"{object_key} cannot be read back as an event: {error}") from error

    async def _sidecar(self, found: FetchedObject) -> bytes | None:
        suffix = found.metadata.get("kafka-sidecar")
        if suffix is None:
            return None
        if suffix != SIDECAR_SUFFIX:
            raise DamagedObjectError(f"{found.object_key} names {suffix!r} as its sidecar, not {SIDECAR_SUFFIX!r}")
        sidecar = await self.reader.get(found.object_key + suffix)
        if sidecar is None:
            raise DamagedObjectError(
                f"{found.object_key}: its sidecar ({suffix}), with the event's key and headers, is gone"
            )
        return sidecar.body

    async def read_dead_letter(self, object_key: str) -> DeadLetter | None:
        """The dead letter under this key, `None` where there is none. Raises `DamagedObjectError`."""
        found = await self.reader.get(object_key)
        if found is None:
            return None
        try:
            return decode_dead_letter(found.body)
        except ValueError as error:
            raise DamagedObjectError(f"{object_key} cannot be read back as a dead letter: {error}") from error

    async def event(self, topic: str, partition: int, offset: int) -> Record | None:
        """The event at a position, from its object or else from its dead letter, `None` where there is neither."""
        key = await self.find_key(topic, partition, offset)
        record = None if key is None else await self.read(key)
        if record is not None:
            return record
        letter = await self.read_dead_letter(self.layout.dead_letter_key(topic, partition, offset))
        return None if letter is None else letter.record
