"""From an event to the name of its object: the template of `STREAMS_OBJECT_KEY_TEMPLATE`, compiled once at start.

Pure, no I/O; sits between `record` and the sinks. The same event always gets the same key, which is what turns a
redelivery into an overwrite of the same object, so a template is refused unless its keys are provably unique.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from streams.errors import ConfigurationError
from streams.metadata import SIDECAR_SUFFIX
from streams.object_key_fields import TEMPLATE_SETTING, Part, merge_literals, parse_template, parse_value, rejected
from streams.object_key_lives import LaterLives
from streams.object_key_reading import KeyReading, tells_position, with_topic
from streams.record import UNKNOWN_LIFE, Record, name_in_bucket, parts_of_name

MAX_KEY_BYTES: Final = 1024
"""S3 user guide, "Naming Amazon S3 objects": at most 1,024 bytes of UTF-8."""

# Stands for an event's text where a key is tried out at start: no prefix can hold it, so nothing matches by accident.
_ANY_TEXT: Final = "\0"


class ObjectKeyTemplate:
    """A template that was checked and compiled; `render` is called once per event.

    `topics` is the fixed list of topics, `None` for a pattern: some keys of a single topic can only be read with its
    name. `dead_letter_prefix` and `ledger_prefix` (empty: none) are out of bounds for events: a key that would fall
    under one is rejected, for it might overwrite what is kept there. Raises `ConfigurationError` for a template that
    cannot work.
    """

    def __init__(
        self,
        template: str,
        prefix: str = "",
        dead_letter_prefix: str = "",
        ledger_prefix: str = "",
        topics: Sequence[str] | None = None,
    ) -> None:
        self.template = template
        self.prefix = prefix
        self.reserved_prefixes = tuple(filter(None, (dead_letter_prefix, ledger_prefix)))
        self._parts = merge_literals(parse_template(template, prefix))
        self._needs_value = any(part.field == "value" for part in self._parts)
        self._pattern, self._arguments = _percent_pattern(self._parts)
        self._only_topic = _only(topics)
        self._reading = KeyReading(self._parts, self._only_topic)
        self._lives = LaterLives(self._parts, prefix)
        _check_segments(self._example().replace(_ANY_TEXT, "x"))

    def render(self, record: Record) -> str:
        """The object key of this event.

        Raises `RecordRejectedError`: `key_template` when the event lacks what the template asks for, `key_too_long`
        past 1,024 bytes.
        """
        tag = record.life.tag
        if tag:
            record = replace(record, topic=name_in_bucket(record.topic, record.life), life=UNKNOWN_LIFE)
        if self._arguments is not None:
            key: str = self._pattern % self._arguments(record)
        else:
            document = parse_value(record) if self._needs_value else None
            key = "".join([part.render(record, document) for part in self._parts])
        if tag:
            key = self._lives.add(key, tag)
        length = len(key) if key.isascii() else len(key.encode())
        if length > MAX_KEY_BYTES:
            raise rejected(record, f"the object key has {length} bytes, S3 takes {MAX_KEY_BYTES}", "key_too_long")
        if self.reserves(key):
            raise rejected(record, f"the object key {key!r} is reserved for dead letters, ledgers or sidecars")
        return key

    def reserves(self, key: str) -> bool:
        """Whether a key belongs to dead letters, ledgers or sidecars, where an event would overwrite them."""
        return key.startswith(self.reserved_prefixes) or key.endswith(SIDECAR_SUFFIX)

    # -- back from keys to events -------------------------------------------------------------------------------------

    def parse(self, key: str) -> tuple[str | None, int, int] | None:
        """Topic, partition and offset of the event whose object this is, `None` for a key of something else.

        Right wherever `is_unique` for the topics that this was made with; the topic is `None` where the template
        leaves a single fixed one out. That of a later life is called as in the bucket, `topic@tag`; so it is wherever
        a topic is asked for here.
        """
        if self.reserves(key):
            return None
        if "@" not in key:
            return self._reading.parse(key)
        plain, tag = self._lives.take_out(key)
        found = self._reading.parse(plain)
        if found is None or not tag:
            return found
        return f"{found[0] or self._only_topic or ''}@{tag}", found[1], found[2]

    def listing_prefix(self, topic: str, partition: int) -> str:
        """What the keys of all events of a partition begin with, as far as that is known."""
        return self._lives.add(self._reading.listing_prefix(topic, partition), parts_of_name(topic)[1])

    @property
    def offset_ordered(self) -> bool:
        """Whether a partition's keys list in the order of the offsets, and depend on the event's position alone."""
        return self._arguments is not None and self._reading.offset_ordered

    @property
    def partitions_apart(self) -> bool:
        """Whether a partition's keys, and no others, begin with its `listing_prefix`."""
        return self._reading.partitions_apart

    def key_at(self, topic: str, partition: int, offset: int) -> str | None:
        """The key at a position, `None` where it also depends on what the event holds."""
        if self._arguments is None:
            return None
        key: str = self._pattern % self._arguments(Record(topic, partition, offset, None, None, None, None))
        return self._lives.add(key, parts_of_name(topic)[1])

    def is_unique(self, topics: Sequence[str] | None) -> bool:
        """Whether two events can never get the same key: topic, partition and offset can all be read back from it.

        `topics` is the fixed list of topics, `None` for a pattern. A single fixed topic need not be in the key. The
        answer is careful: `False` also where uniqueness merely cannot be proved.
        """
        only_topic = _only(topics)
        if only_topic is None:
            return tells_position(self._parts)
        return tells_position(with_topic(self._parts, only_topic), with_topic=False)

    def reserved_example(self, topics: Sequence[str] | None) -> str | None:
        """A key that would land on a dead letter or a sidecar whatever the events hold, `None` when there is none."""
        keys = [self._example(topic) for topic in topics or (_ANY_TEXT,)]
        return next((key.replace(_ANY_TEXT, "x") for key in keys if self.reserves(key)), None)

    def _example(self, topic: str = _ANY_TEXT) -> str:
        """The key of an event of which nothing else is known, to see what the template's own text brings."""
        record = Record(topic, 0, 0, 0, 0, None, None)
        unknown = {"key", "header", "value"}
        return "".join(_ANY_TEXT if part.field in unknown else part.render(record, None) for part in self._parts)


def check_object_key(template: ObjectKeyTemplate, topics: Sequence[str] | None, allow_overwrite: bool) -> None:
    """Refuse, at start, a template that would let one event overwrite another or a dead letter.

    Raises `ConfigurationError`; `allow_overwrite` (STREAMS_ALLOW_OVERWRITE) accepts events that overwrite each other,
    never events that overwrite dead letters or sidecars.
    """
    reserved = template.reserved_example(topics)
    if reserved is not None:
        raise ConfigurationError(
            f"{TEMPLATE_SETTING}: {template.template!r} gives keys such as {reserved!r}, which are kept for "
            f"dead letters and ledgers ({', '.join(f'{prefix!r}...' for prefix in template.reserved_prefixes)}) or "
            f"sidecars (...{SIDECAR_SUFFIX!r}). Change the template, STREAMS_S3_PREFIX, STREAMS_DEAD_LETTER_PREFIX or "
            "STREAMS_LEDGER_PREFIX."
        )
    if not allow_overwrite and not template.is_unique(topics):
        raise ConfigurationError(
            f"{TEMPLATE_SETTING}: {template.template!r} can give two events the same key, and the later one would "
            "overwrite the earlier. Put {topic}, {partition} and {offset} into it, kept apart by '/' (one fixed topic "
            "may be left out), or set STREAMS_ALLOW_OVERWRITE=true if overwriting is meant."
        )


def _only(topics: Sequence[str] | None) -> str | None:
    return topics[0] if topics is not None and len(topics) == 1 else None


def _percent_pattern(parts: Sequence[Part]) -> tuple[str, Callable[[Record], Any] | None]:
    """The fast path: one `%` format for templates of topic, partition and offset, which no event can fail."""
    fields = [part for part in parts if part.field]
    if not fields or any(part.field not in ("topic", "partition", "offset") for part in fields):
        return "", None
    pattern = "".join(
        part.literal.replace("%", "%%") if not part.field else "%s" if part.field == "topic" else f"%{part.spec}"
        for part in parts
    )
    return pattern, attrgetter(*(part.field for part in fields))


def _check_segments(key: str) -> None:
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ConfigurationError(
            f"{TEMPLATE_SETTING}: it gives keys such as {key!r}; a key may not begin or end with '/', nor hold '//', "
            "'/./' or '/../' (S3 clients change such keys)."
        )
