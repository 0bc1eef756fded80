"""What people type to name events: positions, partitions, offsets, times. Pure.

A topic is called as in the bucket: `orders`, and `orders@AbCdEfGh` for a later life of that name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from streams.errors import StreamsError
from streams.record import TAG_PATTERN

_TOPIC: Final = rf"[A-Za-z0-9._-]{{1,249}}(?:@{TAG_PATTERN})?"
_NUMBER: Final = r"0|[1-9][0-9]*"
_POSITION: Final = re.compile(rf"(?P<topic>{_TOPIC})/(?P<partition>{_NUMBER})/(?P<offset>{_NUMBER})")
_SELECTION: Final = re.compile(rf"(?P<topic>{_TOPIC})(?:/(?P<partition>{_NUMBER}))?")
_DURATION: Final = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?P<unit>[smhdw])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class UsageError(StreamsError):
    """What was typed does not name anything; the message shows the form that does."""


def parse_position(text: str) -> tuple[str, int, int]:
    """Topic, partition and offset of `TOPIC/PARTITION/OFFSET`. Raises `UsageError`."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is not the position of an event. Write TOPIC/PARTITION/OFFSET, such as orders/0/42."
        )
    return found["topic"], int(found["partition"]), int(found["offset"])


def parse_selection(texts: tuple[str, ...]) -> tuple[str, tuple[int, ...] | None]:
    """One topic and the partitions that were named, `None` for all: `orders`, or `orders/0 orders/3`.

    Raises `UsageError`.
    """
    found = [_SELECTION.fullmatch(text) for text in texts]
    topics = {match["topic"] for match in found if match is not None}
    if not found or None in found:
        wrong = next((text for text, match in zip(texts, found, strict=True) if match is None), "")
        raise UsageError(f"{wrong!r} names no topic. Write TOPIC, or TOPIC/PARTITION, such as orders or orders/0.")
    if len(topics) > 1:
        raise UsageError(f"one topic at a time: {', '.join(sorted(topics))}. Run the command for each.")
    partitions = {match["partition"] for match in found if match is not None}
    numbers = None if None in partitions else tuple(sorted(int(number) for number in partitions))
    return topics.pop(), numbers


def parse_time(text: str, now: datetime) -> int:
    """Milliseconds since the epoch of `2026-11-23T08:00` (UTC unless it says otherwise), or of `24h` before now.

    Raises `UsageError`.
    """
    ago = _DURATION.fullmatch(text)
    try:
        if ago is not None:
            moment = now - timedelta(seconds=float(ago["count"]) * _UNIT_SECONDS[ago["unit"]])
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time. Write 2026-11-23, 2026-11-23T08:00:00 (UTC unless it ends in an offset such as "
            "+01:00), or how long ago it was: 90s, 30m, 24h, 7d, 2w."
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def show_time(timestamp_ms: int | None) -> str:
    """For people: `2026-11-23 08:00:00.000`, UTC; `-` where there is none."""
    if timestamp_ms is None:
        return "-"
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # Kafka takes any 64-bit number
        return str(timestamp_ms)
    return f"{moment.replace(tzinfo=None).isoformat(' ', 'seconds')}.{timestamp_ms % 1000:03d}"
