"""A topic that events may be restored to, as far as that matters. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetTopic:
    """What must be known of a topic before events are restored to it; `None`: the user may not see its settings."""

    name: str
    partitions: tuple[int, ...]
    settings: Mapping[str, str] | None
    events: int
    """Offsets that it has at the moment, over all partitions: some may be markers of transactions."""

    @property
    def stamps_events(self) -> bool:
        """Whether it would replace the events' timestamps by the time of the restore."""
        return (self.settings or {}).get("message.timestamp.type") == "LogAppendTime"

    @property
    def is_compacted(self) -> bool:
        return "compact" in (self.settings or {}).get("cleanup.policy", "")

    @property
    def retention_ms(self) -> int | None:
        """How old an event may be there, by its timestamp; `None` where it stays, or nothing is known."""
        settings = self.settings or {}
        retention_ms = int(settings.get("retention.ms", -1))
        return retention_ms if retention_ms >= 0 and "delete" in settings.get("cleanup.policy", "delete") else None

    @property
    def max_batch_bytes(self) -> int | None:
        found = (self.settings or {}).get("max.message.bytes")
        return None if found is None else int(found)
