"""Header names with any bytes: Kafka's protocol says UTF-8, its broker checks nothing, and aiokafka's parser raises.

Without this, one such event would stop its worker, and again after each restart. aiokafka's own fast parser stays in
place; the fetched bytes in which it fails are read once more with its Python parser, which decodes names with
`surrogateescape` (PEP 383): `name.encode("utf-8", "surrogateescape")` gives the bytes back.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from streams.envelope import ESCAPE


def accept_any_header_name() -> None:
    """Make the consumers of this process read such events; calling it again changes nothing."""
    fetcher.MemoryRecords = FetchedRecords
    fetcher.PartitionRecords = AnyNamePartitionRecords


class FetchedRecords:
    """The records of a fetch as aiokafka's parser sees them, together with the bytes that they are read from."""

    __slots__ = ("buffer", "has_next", "records", "size_in_bytes")

    def __init__(self, buffer: bytes) -> None:
        self.buffer = buffer
        self.records = MemoryRecords(buffer)
        self.has_next = self.records.has_next
        self.size_in_bytes = self.records.size_in_bytes


class AnyNamePartitionRecords(fetcher.PartitionRecords):
    """aiokafka's iterator over a fetch, which begins again with another parser where the first one fails."""

    _aborted_producers: set[int]
    _aborted_transactions: list[tuple[int, int]]
    _records_iterator: Any

    def __init__(self, tp: Any, fetched: FetchedRecords, aborted_transactions: Any, *arguments: Any) -> None:
        super().__init__(tp, fetched.records, aborted_transactions, *arguments)
        self._again = (fetched.buffer, list(self._aborted_transactions))

    def __next__(self) -> Any:
        try:
            return next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None
            raise
        except UnicodeDecodeError:
            position = self.next_fetch_offset
            self._begin_again()
            # Batches that were read already set the position back on their way.
            return next(record for record in self if record.offset >= position)

    def _begin_again(self) -> None:
        """From the first batch, with the aborted transactions as they were then."""
        buffer, self._aborted_transactions = self._again
        self._aborted_producers = set()
        self._records = _AnyNameRecords(buffer)
        self._records_iterator = self._unpack_records()


class _AnyNameRecords(_MemoryRecordsPy):
    def next_batch(self) -> Any:
        batch = super().next_batch()
        magic = getattr(batch, "magic", 0)
        return batch if batch is None or magic < 2 else _AnyNameBatch(self._batch_bytes)

    def _cache_next(self) -> None:
        self._batch_bytes = getattr(self, "_next_slice", None)
        super()._cache_next()


class _AnyNameBatch(_DefaultRecordBatchPy):
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _EscapingBytes(self._buffer)


class _EscapingBytes(bytearray):
    """Bytes of which every slice decodes, whatever it holds."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _EscapingBytes(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = ESCAPE) -> str:
        return super().decode(encoding, errors)
