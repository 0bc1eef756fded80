"""Header names that are not UTF-8 are written and read back byte for byte; reading them from Kafka needs a broker."""

from __future__ import annotations

import pytest

from streams.envelope import decode_envelope, encode_envelope
from streams.metadata import object_metadata, record_fields_from_metadata
from streams.record import Record

BAD_NAME = b"bad-\xff-name".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("size", [1, 3000], ids=["metadata", "sidecar"])
def test_such_events_are_archived_exactly(size: int) -> None:
    """Metadata, sidecar and envelope give the bytes of the name back."""
    record = Record("t", 0, 1, 5, 0, None, b"{}", ((BAD_NAME, b"x" * size), ("é", None)))
    assert record == decode_envelope(encode_envelope(record))
    metadata, sidecar = object_metadata(record)
    assert all(value.isascii() for value in metadata.values())
    assert record == record_fields_from_metadata(metadata, sidecar).to_record(b"{}")
