"""An event as Kafka delivered it: which timestamps are none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from streams.record import record_from_kafka, timestamp_or_none


@pytest.mark.parametrize(
    ("delivered", "expected"),
    [(-1, None), (None, None), (0, 0), (-2, -2), (-(2**63), -(2**63)), (1_700_000_000_123, 1_700_000_000_123)],
)
def test_minus_one_alone_is_no_timestamp(delivered: int | None, expected: int | None) -> None:
    """`RecordBatch.NO_TIMESTAMP`; times before 1970 are times."""
    fetched = SimpleNamespace(
        topic="orders", partition=3, offset=42, timestamp=delivered, timestamp_type=0, key=b"k", value=b"v", headers=()
    )
    assert expected == timestamp_or_none(delivered)
    assert expected == record_from_kafka(fetched).timestamp_ms
