"""An event as Kafka delivered it: which timestamps are none."""

from __future__ import annotations

import pytest

from streams.record import timestamp_or_none


@pytest.mark.parametrize(
    ("delivered", "expected"),
    [(-1, None), (None, None), (0, 0), (-2, -2), (-(2**63), -(2**63)), (1_700_000_000_123, 1_700_000_000_123)],
)
def test_minus_one_alone_is_no_timestamp(delivered: int | None, expected: int | None) -> None:
    """`RecordBatch.NO_TIMESTAMP`; times before 1970 are times."""
    assert expected == timestamp_or_none(delivered)
