"""Header names that are not UTF-8 are read, written and read back; what aiokafka reads by itself stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.control_record import ABORT_MARKER
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams.envelope import decode_envelope, encode_envelope
from streams.header_names import AnyNamePartitionRecords, FetchedRecords
from streams.metadata import object_metadata, record_fields_from_metadata
from streams.record import Record

BAD = b"caf\xe9"
BAD_NAME = "caf\udce9"


class RawName(str):
    """A header name that goes to Kafka as bytes which are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return BAD


def _batch(
    base_offset: int, headers: list[list[tuple[str, bytes | None]]], *, codec: int = 0, producer_id: int = -1
) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, codec, producer_id >= 0, producer_id, 0, 0, 1_000_000)
    for index, one in enumerate(headers):
        builder.append(index, timestamp=1_700_000_000_000, key=b"k", value=b"v%d" % index, headers=one)
    built = bytearray(builder.build())
    built[:8] = base_offset.to_bytes(8, "big")
    return bytes(built)


def _records(raw: bytes, position: int = 0, aborted: list[tuple[int, int]] | None = None) -> AnyNamePartitionRecords:
    tp = TopicPartition("t", 0)
    return AnyNamePartitionRecords(tp, FetchedRecords(raw), aborted, position, None, None, False, READ_COMMITTED)


@pytest.mark.parametrize("codec", [0, 1, 3], ids=["plain", "gzip", "lz4"])
def test_such_events_are_read_with_their_neighbours(codec: int) -> None:
    """Every event of the fetch comes once, in order, with its header's bytes, compressed or not."""
    raw = _batch(0, [[], [("a", b"1")]], codec=codec)
    raw += _batch(2, [[("b", None)], [(RawName("x"), b"2"), ("c", b"\xff")], []], codec=codec)
    raw += _batch(5, [[(RawName("x"), None)]], codec=codec)
    found = [(one.offset, one.value, one.headers) for one in _records(raw)]
    assert [
        (0, b"v0", ()),
        (1, b"v1", (("a", b"1"),)),
        (2, b"v0", (("b", None),)),
        (3, b"v1", ((BAD_NAME, b"2"), ("c", b"\xff"))),
        (4, b"v2", ()),
        (5, b"v0", ((BAD_NAME, None),)),
    ] == found
    assert BAD == found[3][2][0][0].encode("utf-8", "surrogateescape")


def test_a_fetch_that_begins_in_the_middle_of_a_batch() -> None:
    """Offsets below the position are left out, as before."""
    raw = _batch(0, [[], [(RawName("x"), b"2")], []])
    assert [1, 2] == [one.offset for one in _records(raw, position=1)]


def test_aborted_transactions_stay_out() -> None:
    """The second parser begins with the same list of aborted transactions as the first one."""
    assert ABORT_MARKER
    raw = _batch(0, [[], []], producer_id=7) + _batch(2, [[(RawName("x"), b"1")]], producer_id=9)
    assert [2] == [one.offset for one in _records(raw, aborted=[(7, 0)])]


@pytest.mark.parametrize("size", [1, 3000], ids=["metadata", "sidecar"])
def test_such_events_are_archived_exactly(size: int) -> None:
    """Metadata, sidecar and envelope give the bytes of the name back."""
    record = Record("t", 0, 1, 5, 0, None, b"{}", ((BAD_NAME, b"x" * size), ("é", None)))
    assert record == decode_envelope(encode_envelope(record))
    metadata, sidecar = object_metadata(record)
    assert all(value.isascii() for value in metadata.values())
    assert record == record_fields_from_metadata(metadata, sidecar).to_record(b"{}")
