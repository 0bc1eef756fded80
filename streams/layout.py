"""Where everything is in the bucket: events, dead letters and ledgers, from the settings. Pure.

Written once here, so that the worker that writes and the commands that look for it cannot disagree.
"""

from __future__ import annotations

import re

from streams.object_key import ObjectKeyTemplate
from streams.settings import Settings


class Layout:
    """The names of objects; offsets are padded to 20 digits, so that a listing is in offset order."""

    def __init__(self, settings: Settings) -> None:
        self.template = ObjectKeyTemplate(
            settings.object_key_template, settings.s3_prefix, settings.dead_letter_prefix, settings.ledger_prefix
        )
        self._dead_letters = settings.dead_letter_prefix
        self._ledgers = settings.ledger_prefix
        self._position = re.compile(r"([A-Za-z0-9._-]+)/(0|[1-9][0-9]*)/([0-9]{20})\.json")

    def dead_letter_key(self, topic: str, partition: int, offset: int) -> str:
        """Where the event goes when it can never be written as configured."""
        return f"{self.dead_letter_prefix(topic, partition)}{offset:020d}.json"

    def dead_letter_prefix(self, topic: str | None = None, partition: int | None = None) -> str:
        """What the keys of dead letters begin with: all, a topic's, or a partition's."""
        return _under(self._dead_letters, topic, partition)

    def ledger_key(self, topic: str, partition: int, start: int) -> str:
        """Where the ledger segment that begins at this offset is kept."""
        return f"{self.ledger_prefix(topic, partition)}{start:020d}.json"

    def ledger_prefix(self, topic: str | None = None, partition: int | None = None) -> str:
        """What the keys of ledger segments begin with: all, a topic's, or a partition's."""
        return _under(self._ledgers, topic, partition)

    def parse_dead_letter(self, key: str) -> tuple[str, int, int] | None:
        """Topic, partition and offset of the dead letter under this key, `None` for another object."""
        return self._parse(self._dead_letters, key)

    def parse_ledger(self, key: str) -> tuple[str, int, int] | None:
        """Topic, partition and first offset of the ledger segment under this key, `None` for another object."""
        return self._parse(self._ledgers, key)

    def _parse(self, prefix: str, key: str) -> tuple[str, int, int] | None:
        if not key.startswith(prefix):
            return None
        found = self._position.fullmatch(key, len(prefix))
        return None if found is None else (found[1], int(found[2]), int(found[3]))


def _under(prefix: str, topic: str | None, partition: int | None) -> str:
    if topic is None:
        return prefix
    return f"{prefix}{topic}/" if partition is None else f"{prefix}{topic}/{partition}/"
