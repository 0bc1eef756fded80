"""From the name of an object back to its event: an object key template, read the other way round.

Pure. Here it is proved that topic, partition and offset can be cut out of any key (`ObjectKeyTemplate.is_unique`), and
here they are cut out, by the same rules; with them what verify, get and restore ask S3 for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from streams.object_key_fields import Part, literal_part, merge_literals
from streams.record import Record

_POSITION: Final = ("topic", "partition", "offset")


class KeyReading:
    """What can be told of the keys that a template's parts make.

    `only_topic` is the one topic whose events there are, where it is known: it is read as literal text where the
    position can only be told so (`{topic}{partition}/{offset}`).
    """

    def __init__(self, parts: Sequence[Part], only_topic: str | None = None) -> None:
        self._parts = tuple(parts)
        self._complete = {"partition", "offset"} <= {part.field for part in parts}
        self._topic_of_all: str | None = None
        read = self._parts
        if only_topic is not None and not tells_position(read):
            self._topic_of_all = only_topic if any(part.field == "topic" for part in parts) else None
            read = tuple(with_topic(read, only_topic))
        self._readable = _Readable(read)
        groups = _groups(read, self._readable)
        self._topic, self._partition, self._offset = (groups.get(field, [""])[0] for field in _POSITION)
        self._repeated = {field: names for field, names in groups.items() if len(names) > 1}
        self._pattern = re.compile(_pattern(read))
        head = self._head()
        self.offset_ordered = _begins_with_offset(self._parts[head:])
        self.partitions_apart = self._tells_partitions_apart(head)

    def parse(self, key: str) -> tuple[str | None, int, int] | None:
        """Topic (`None` where the key does not name it), partition and offset; `None` for any other key."""
        found = self._pattern.fullmatch(key) if self._complete else None
        if found is None:
            return None
        if self._repeated and not self._agree(found):
            return None
        topic = found[self._topic] if self._topic else self._topic_of_all
        return topic, int(found[self._partition]), int(found[self._offset])

    def _agree(self, found: re.Match[str]) -> bool:
        """Whether a field that the template names twice says the same both times."""
        return all(len({_value(field, found[name]) for name in names}) == 1 for field, names in self._repeated.items())

    def listing_prefix(self, topic: str, partition: int) -> str:
        """The beginning of the keys of a partition's events, up to the first thing that differs between them."""
        record = Record(topic, partition, 0, None, None, None, None)
        return "".join(part.render(record, None) for part in self._parts[: self._head()])

    def _head(self) -> int:
        """How many parts are the same for all events of a partition, from the left."""
        varying = (index for index, part in enumerate(self._parts) if part.field not in ("", "topic", "partition"))
        return next(varying, len(self._parts))

    def _tells_partitions_apart(self, head: int) -> bool:
        """Whether the keys of a partition, and they alone, begin with its `listing_prefix`."""
        fields = [part.field for part in self._parts]
        needed = [field for field in ("topic", "partition") if field in fields]
        if self._topic_of_all is not None or "partition" not in needed:
            return False
        readable = fields[: min(head, self._readable.left)]
        return all(field in readable for field in needed)


class _Readable:
    """Which parts can be cut out of any key again, reading from the left, from the right, or as what is left.

    A part can be cut out when its length never changes, or when the text beside it (a literal, or the key's end)
    cannot be part of it.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.left = 0
        while self.left < len(parts) and _ends_visibly(parts, self.left, 1):
            self.left += 1
        self.right = len(parts) - 1
        while self.right > self.left and _ends_visibly(parts, self.right, -1):
            self.right -= 1

    def __contains__(self, index: int) -> bool:
        return self.right <= self.left or not self.left <= index <= self.right

    @property
    def fields(self) -> set[str]:
        """The fields that can be read back."""
        return {part.field for index, part in enumerate(self.parts) if index in self}


def tells_position(parts: Sequence[Part], *, with_topic: bool = True) -> bool:
    """Whether topic (or all but that), partition and offset can be read back from any key of these parts."""
    needed = set(_POSITION) if with_topic else {"partition", "offset"}
    return needed <= _Readable(parts).fields


def with_topic(parts: Sequence[Part], topic: str) -> list[Part]:
    """The parts with the topic's name as literal text."""
    return merge_literals(literal_part(topic) if part.field == "topic" else part for part in parts)


def _ends_visibly(parts: Sequence[Part], index: int, step: int) -> bool:
    part = parts[index]
    if not part.field or part.fixed_width:
        return True
    beside = index + step
    if not 0 <= beside < len(parts):
        return True
    neighbour = parts[beside].literal
    return bool(neighbour) and neighbour[0 if step == 1 else -1] not in part.characters


def _begins_with_offset(parts: Sequence[Part]) -> bool:
    return bool(parts) and parts[0].field == "offset" and parts[0].fixed_width


def _groups(parts: Sequence[Part], readable: _Readable) -> dict[str, list[str]]:
    """The names of the groups of each field: those that can be read back, else (the template is not unique) any."""
    found: dict[str, list[str]] = {}
    for field in _POSITION:
        places = [index for index, part in enumerate(parts) if part.field == field]
        sure = [index for index in places if index in readable]
        if places:
            found[field] = [_group(index) for index in sure or places[:1]]
    return found


def _group(index: int) -> str:
    return f"part{index}"


def _pattern(parts: Sequence[Part]) -> str:
    return "".join(
        f"(?P<{_group(index)}>{part.pattern})" if part.field in _POSITION else part.pattern
        for index, part in enumerate(parts)
    )


def _value(field: str, text: str) -> str | int:
    return text if field == "topic" else int(text)
