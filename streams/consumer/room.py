"""How much more may be taken from Kafka: events and bytes in memory, counted by two threads without a lock. Pure."""

from __future__ import annotations

from typing import Final

WIDE_SHARE: Final = 1 / 8
"""Of the whole: so much must be free before a room that was full is worth a batch."""
FIRST_GUESS_BYTES: Final = 2_000
"""What an event is taken to need before any has been seen."""


class Room:
    """Bounds what is in memory. The poller counts what it has taken, the event loop what it is done with.

    Each counter has one writer, so neither thread waits for the other; a reader may see a moment ago, never nonsense.
    """

    __slots__ = ("done_bytes", "done_events", "max_bytes", "max_events", "taken_bytes", "taken_events")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.taken_events = self.taken_bytes = 0
        self.done_events = self.done_bytes = 0

    @property
    def events(self) -> int:
        """In memory now."""
        return self.taken_events - self.done_events

    @property
    def bytes(self) -> int:
        """In memory now."""
        return self.taken_bytes - self.done_bytes

    def took(self, size_bytes: int) -> None:
        """The poller has taken an event."""
        self.taken_events += 1
        self.taken_bytes += size_bytes

    def let_go(self, events: int, size_bytes: int) -> None:
        """The event loop is done with these, durable or not."""
        self.done_events += events
        self.done_bytes += size_bytes

    @property
    def is_wide(self) -> bool:
        """Whether there is room for a batch, and not only for what was let go of last."""
        return self.events <= self.max_events * (1 - WIDE_SHARE) and self.bytes <= self.max_bytes * (1 - WIDE_SHARE)

    def free(self) -> int:
        """Events that may be taken at once, by what those so far have needed; 0 when it is full."""
        events, size_bytes = self.max_events - self.events, self.max_bytes - self.bytes
        if events <= 0 or size_bytes <= 0:
            return 0
        mean = self.bytes / self.events if self.events > 0 else FIRST_GUESS_BYTES
        return max(1, min(events, int(size_bytes / max(mean, 1))))
