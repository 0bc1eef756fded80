"""Consecutive records of a partition as the value of one Faust event: what the agent iterates over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import faust
from faust.types.tuples import ConsumerMessage

from streams.consumer.watermark import PartitionWatermark
from streams.record import Record, TopicPartition

RUN_EVENTS: Final = 16
"""Records that travel as one Faust event: queue, stream and actor cost a sixteenth of what they would for each."""


@dataclass(slots=True)
class Run:
    """Records of a partition, in order; each is acknowledged by itself."""

    records: list[Record]
    watermark: PartitionWatermark
    durable: Callable[[PartitionWatermark, int], None]

    def acknowledge(self, record: Record) -> None:
        """Call when the record is durable, and not before."""
        self.durable(self.watermark, record.offset)

    def begin(self) -> bool:
        """Take the run in hand, whole: what is begun of a partition has no holes. False where it is given away."""
        if self.watermark.closing:
            return False
        self.watermark.runs_in_hand += 1
        return True

    def finish(self) -> None:
        """Every write of the run is begun (or no longer wanted)."""
        self.watermark.runs_in_hand -= 1

    def is_wanted(self) -> bool:
        """Whether the partition is still this worker's to write; its next owner writes the rest."""
        return not self.watermark.retired


class RunSchema(faust.Schema[Any, Any]):
    """Hands the run to the agent as it is: there is nothing to decode."""

    def loads_key(self, app: Any, message: Any, **options: Any) -> None:
        """A run has no key."""

    def loads_value(self, app: Any, message: Any, **options: Any) -> Any:
        """The run."""
        return message.value


def message_of(run: Run, tp: TopicPartition, generation: int) -> ConsumerMessage:
    """The run as Faust's message."""
    first = run.records[0]
    message = ConsumerMessage(
        topic=tp.topic,
        partition=tp.partition,
        offset=first.offset,
        timestamp=(first.timestamp_ms or 0) / 1000,
        timestamp_type=first.timestamp_type or 0,
        headers=None,
        key=None,
        value=run,  # type: ignore[arg-type] # bytes, for Faust's own codecs; `RunSchema` takes any value
        checksum=None,
        tp=tp,  # type: ignore[arg-type] # equal to Faust's TP, and hashed as it
        generation_id=generation,
    )
    message.tracked = True  # the watermark tracks its records; Faust's own set of weak references is not needed
    return message
