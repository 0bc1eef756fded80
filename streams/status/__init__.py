"""What is derived from the counts and from the consumer when somebody asks: the state of one worker."""

from streams.status.partitions import END_OFFSETS_OLD_SECONDS, ConsumerView, PartitionStatus, lag_that_moves
from streams.status.worker_status import SCHEMA_VERSION, Identity, Status

__all__ = [
    "END_OFFSETS_OLD_SECONDS",
    "SCHEMA_VERSION",
    "ConsumerView",
    "Identity",
    "PartitionStatus",
    "Status",
    "lag_that_moves",
]
