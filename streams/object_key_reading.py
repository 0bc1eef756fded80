"""From the name of an object back to its event: an object key template, read the other way round.

Pure. `ObjectKeyTemplate.is_unique` proves that topic, partition and offset can be cut out of any key; here they are,
and with them what verify, get and restore ask S3 for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from streams.object_key_fields import Part
from streams.record import Record

_POSITION: Final = frozenset({"topic", "partition", "offset"})


class KeyReading:
    """What can be told of the keys that a template's parts make."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._pattern = re.compile(_pattern(parts))
        self._has_topic = any(part.field == "topic" for part in parts)
        self._complete = {"partition", "offset"} <= {part.field for part in parts}
        self.offset_ordered = self._lists_in_offset_order()

    def parse(self, key: str) -> tuple[str | None, int, int] | None:
        """Topic (`None` where the key does not name it), partition and offset; `None` for any other key."""
        found = self._pattern.fullmatch(key) if self._complete else None
        if found is None:
            return None
        return found["topic"] if self._has_topic else None, int(found["partition"]), int(found["offset"])

    def listing_prefix(self, topic: str, partition: int) -> str:
        """The beginning of the keys of a partition's events, up to the first thing that differs between them."""
        return "".join(part.render(Record(topic, partition, 0, None, None, None, None), None) for part in self._head())

    def _head(self) -> Iterable[Part]:
        for part in self._parts:
            if part.field not in ("", "topic", "partition"):
                return
            yield part

    def _lists_in_offset_order(self) -> bool:
        rest = self._parts[len(list(self._head())) :]
        return bool(rest) and rest[0].field == "offset" and rest[0].fixed_width


def _pattern(parts: Sequence[Part]) -> str:
    seen: set[str] = set()
    pieces = []
    for part in parts:
        piece = _piece(part)
        if part.field in _POSITION and part.field not in seen:
            seen.add(part.field)
            piece = f"(?P<{part.field}>{piece})"
        pieces.append(piece)
    return "".join(pieces)


def _piece(part: Part) -> str:
    if not part.field:
        return re.escape(part.literal)
    if part.field in ("partition", "offset"):
        width = part.spec.strip("d")
        return rf"[0-9]{{{int(width)},}}" if width else r"(?:0|[1-9][0-9]*)"
    return f"[{re.escape(''.join(sorted(part.characters)))}]+"
