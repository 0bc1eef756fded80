"""Where everything is in the bucket: events, dead letters and ledgers, from the settings. Pure.

Written once here, so that the worker that writes and the commands that look for it cannot disagree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from streams.object_key import ObjectKeyTemplate
from streams.record import TAG_PATTERN
from streams.settings import Settings

PLACES: Final = "STREAMS_S3_BUCKET, STREAMS_S3_PREFIX and STREAMS_OBJECT_KEY_TEMPLATE"
"""The settings that say where events are: what to check where none is found."""

_PARTITION: Final = rf"([A-Za-z0-9._-]+(?:@{TAG_PATTERN})?)/(0|[1-9][0-9]*)"


class Layout:
    """The names of objects; offsets are padded to 20 digits, so that a listing is in offset order.

    A topic is called here what it is called in the bucket (`streams.record.name_in_bucket`).
    """

    def __init__(self, settings: Settings) -> None:
        self.template = ObjectKeyTemplate(
            settings.object_key_template,
            settings.s3_prefix,
            settings.dead_letter_prefix,
            settings.ledger_prefix,
            settings.topic_names or None,
        )
        self._dead_letters = settings.dead_letter_prefix
        self._ledgers = settings.ledger_prefix
        self._dead_letter = re.compile(rf"{_PARTITION}/([0-9]{{20}})\.json")
        self._segment = re.compile(rf"{_PARTITION}/([0-9]{{20}})-([0-9]{{20}})-[0-9a-f]+\.json")

    def dead_letter_key(self, topic: str, partition: int, offset: int) -> str:
        """Where the event goes when it can never be written as configured."""
        return f"{self.dead_letter_prefix(topic, partition)}{offset:020d}.json"

    def dead_letter_prefix(self, topic: str | None = None, partition: int | None = None) -> str:
        """What the keys of dead letters begin with: all, a topic's, or a partition's."""
        return _under(self._dead_letters, topic, partition)

    def ledger_key(self, topic: str, partition: int, start: int, stop: int, digest: str) -> str:
        """Where the ledger segment of these offsets with this content is kept: one never overwrites another."""
        return f"{self.ledger_prefix(topic, partition)}{start:020d}-{stop:020d}-{digest}.json"

    def identity_key(self, topic: str, tag: str = "") -> str:
        """Where it is written down which topic of this name the bucket holds; `tag` is that of a later life."""
        return f"{self._ledgers}{topic}{'@' if tag else ''}{tag}/topic.json"

    def ledger_prefix(self, topic: str | None = None, partition: int | None = None) -> str:
        """What the keys of ledger segments begin with: all, a topic's, or a partition's."""
        return _under(self._ledgers, topic, partition)

    def parse_dead_letter(self, key: str) -> tuple[str, int, int] | None:
        """Topic, partition and offset of the dead letter under this key, `None` for another object."""
        if not key.startswith(self._dead_letters):
            return None
        found = self._dead_letter.fullmatch(key, len(self._dead_letters))
        return None if found is None else (found[1], int(found[2]), int(found[3]))

    def parse_ledger(self, key: str) -> tuple[str, int, int, int] | None:
        """Topic, partition, first offset and stop of the ledger segment under this key, `None` for another object."""
        if not key.startswith(self._ledgers):
            return None
        found = self._segment.fullmatch(key, len(self._ledgers))
        return None if found is None else (found[1], int(found[2]), int(found[3]), int(found[4]))


def common_prefix(prefixes: Sequence[str]) -> str:
    """What all of these begin with."""
    return os.path.commonprefix(prefixes)  # noqa: RUF071 - prefixes of keys are text and no paths


def _under(prefix: str, topic: str | None, partition: int | None) -> str:
    if topic is None:
        return prefix
    return f"{prefix}{topic}/" if partition is None else f"{prefix}{topic}/{partition}/"
