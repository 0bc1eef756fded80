"""The bookkeeping behind every commit: which delivered offsets of a partition are not durable yet.

Pure, no I/O. The consumer feeds it (`delivered`, `mark_durable`), the commit asks it (`committable`).
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from streams.ledger import OpenLedger
from streams.record import UNKNOWN_LIFE, Life

MAX_TIMESTAMPS = 4096


class PartitionWatermark:
    """Low watermark of one partition during one assignment.

    Kafka's committed offset means "everything below is done", so it may only move to the lowest offset that is
    not durable, or, with nothing pending, to the position behind the last event delivered. Offsets that never
    arrive (compaction, transaction markers) need no entry: they are below the next delivered offset. The ledger, where
    one is kept, is told of them.
    """

    __slots__ = (
        "_timestamps",
        "began",
        "closing",
        "ledger",
        "life",
        "pending",
        "pending_bytes",
        "position",
        "refused",
        "retired",
        "runs_in_hand",
        "token",
    )

    def __init__(self, token: int, position: int, ledger: OpenLedger | None = None, life: Life = UNKNOWN_LIFE) -> None:
        """Start at `position`, the next offset to be delivered; `token` marks what was fetched for this watermark."""
        self.token = token
        self.began = self.position = position
        self.ledger = ledger
        self.life = life
        self._timestamps: deque[tuple[int, int]] = deque()
        """First offset of some runs of events, and its timestamp; in order, the first not above what is pending."""
        self.pending: dict[int, int] = {}
        """Delivered offsets that are not durable, in delivery order, with the bytes that each holds in memory."""
        self.pending_bytes = 0
        self.refused: set[int] = set()
        """Pending offsets that can never be written (STREAMS_ON_REJECT=hold)."""
        self.closing = False
        """Set when the partition is about to be given away: no further run is taken in hand."""
        self.retired = False
        """Set when it was given away, or its writes were given up: nothing is begun, and nothing counts any more."""
        self.runs_in_hand = 0
        """Runs whose writes are being begun."""

    def delivered(self, offset: int, size_bytes: int) -> None:
        """Count an event as taken; offsets come in increasing order within an assignment.

        Raises:
            ValueError: the offset lies behind the position, so the fetch position and this table disagree.
        """
        if offset != self.position:
            self._skip_to(offset)
        self.pending[offset] = size_bytes
        self.pending_bytes += size_bytes
        self.position = offset + 1

    def mark_durable(self, offset: int) -> int | None:
        """Count an event as done; the bytes it held, or `None` if it was not pending (a late or second ack)."""
        size_bytes = self.pending.pop(offset, None)
        if size_bytes is not None:
            self.pending_bytes -= size_bytes
        return size_bytes

    def advance(self, position: int) -> None:
        """Move the position over offsets that hold no event (control records at the end of a transactional topic)."""
        if position > self.position:
            self._skip_to(position)
            self.position = position

    def lost(self, position: int) -> None:
        """Move the position over events that left Kafka's retention before they were delivered."""
        if position > self.position:
            self._skip_to(position, lost=True)
            self.position = position

    def _skip_to(self, offset: int, lost: bool = False) -> None:
        if offset < self.position:
            raise ValueError(f"offset {offset} was delivered before (position {self.position})")
        if self.ledger is not None:
            self.ledger.gap(self.position, offset, lost)

    def note_timestamp(self, offset: int, timestamp_ms: int) -> None:
        """Remember when an event was made (ms since the epoch); one in a few events is enough.

        Not a time before 1970: Kafka's retention goes by the age of the file where there is no other (`LogSegment`).
        """
        if timestamp_ms < 0:
            return
        timestamps = self._timestamps
        timestamps.append((offset, timestamp_ms))
        if len(timestamps) > MAX_TIMESTAMPS:  # one event does not get durable while others do: older ones stand in
            self._timestamps = deque(islice(timestamps, 0, None, 2))

    def oldest_timestamp_ms(self) -> int | None:
        """About when the oldest event that is not durable was made, rather too early than too late.

        With nothing pending it is the last event's that was seen, `None` before any was.
        """
        oldest = self.committable
        timestamps = self._timestamps
        while len(timestamps) > 1 and timestamps[1][0] <= oldest:
            timestamps.popleft()
        return timestamps[0][1] if timestamps else None

    @property
    def oldest_pending(self) -> int | None:
        """The lowest offset that is not durable."""
        return next(iter(self.pending), None)

    @property
    def committable(self) -> int:
        """The offset that a commit may carry now."""
        oldest = self.oldest_pending
        return self.position if oldest is None else oldest
