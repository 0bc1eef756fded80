"""The tag of a later life in an object's key: a topic that was recreated is written beside its first life.

Pure; a part of `object_key`. The tag stands behind the topic (`orders@AbCdEfGh`), or, where a template does not name
the topic, as a folder of its own right behind the prefix. Nothing that comes out of an event has an `@` in a key, so
the number of them tells keys with a tag from those without, and which of them begin one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from streams.object_key_fields import Part
from streams.record import TAG_PATTERN

_TAG: Final = re.compile(TAG_PATTERN)
_TAG_CHARACTERS: Final = 8


class LaterLives:
    """Puts tags into a template's keys, where the topic's name does not bring them, and takes them out of any key."""

    def __init__(self, parts: Sequence[Part], prefix: str) -> None:
        self._own = 0
        """How many `@` the template's own text brings to each key."""
        self._before_tags: list[int] = []
        """Which of a key's `@`, counted from 0, stand before a tag."""
        for part in parts:
            if part.field == "topic":
                self._before_tags.append(self._own + len(self._before_tags))
            self._own += (part.literal or part.spec).count("@")
        begins_with_prefix = bool(parts) and parts[0].literal.startswith(prefix)
        self._folder_at = None if self._before_tags else len(prefix) if begins_with_prefix else 0

    def add(self, key: str, tag: str) -> str:
        """The key of an event of a later life; `key` was made with the topic's name in the bucket."""
        at = self._folder_at
        return key if at is None or not tag else f"{key[:at]}@{tag}/{key[at:]}"

    def take_out(self, key: str) -> tuple[str, str]:
        """The key as an event of the first life would have it, and the tag: empty where there is none."""
        if key.count("@") == self._own:
            return key, ""
        return self._without_tags(key) if self._folder_at is None else self._without_folder(key, self._folder_at)

    def _without_folder(self, key: str, at: int) -> tuple[str, str]:
        behind = at + 1 + _TAG_CHARACTERS
        tag = key[at + 1 : behind]
        if key[at : at + 1] != "@" or key[behind : behind + 1] != "/" or not _TAG.fullmatch(tag):
            return key, ""
        return key[:at] + key[behind + 1 :], tag

    def _without_tags(self, key: str) -> tuple[str, str]:
        pieces = key.split("@")
        if len(pieces) != self._own + len(self._before_tags) + 1:
            return key, ""
        tags = {pieces[place + 1][:_TAG_CHARACTERS] for place in self._before_tags}
        if len(tags) != 1 or not _TAG.fullmatch(tag := tags.pop()):
            return key, ""
        plain = pieces[0]
        for number, piece in enumerate(pieces[1:]):
            plain += piece[_TAG_CHARACTERS:] if number in self._before_tags else f"@{piece}"
        return plain, tag
