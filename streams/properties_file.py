"""Java's properties format, as `java.util.Properties.load` reads it: text in, keys and values with their lines out.

Pure; `client_properties` gives the keys their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_WHITE: Final = " \t\f"
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|u|.)", re.DOTALL)
_CONTROL_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
# A key ends at the first "=", ":" or white space that no backslash protects; one "=" or ":" belongs to the separator.
_KEY: Final = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Property:
    """One property; `line` is where it begins, from 1. The value may be a secret, so `repr` leaves it out."""

    key: str
    value: str = field(repr=False)
    line: int


class PropertiesSyntaxError(ValueError):
    """A line that Java would refuse; `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def parse_properties(text: str) -> list[Property]:
    """The properties of a file in its order, repeated keys included. Raises `PropertiesSyntaxError`."""
    properties = []
    for line, logical in _logical_lines(text):
        match = _KEY.match(logical)
        key = match[1] if match else ""
        value = logical[match.end() :] if match else logical
        properties.append(Property(_unescaped(key, line), _unescaped(value, line), line))
    return properties


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations joined, without comments and empty lines, each with its first line's number."""
    pending, first = "", 0
    for number, natural in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        stripped = natural.lstrip(_WHITE)
        if not first and (not stripped or stripped[0] in "#!"):
            continue
        first = first or number
        backslashes = len(stripped) - len(stripped.rstrip("\\"))
        if backslashes % 2:
            pending += stripped[:-1]
            continue
        yield first, pending + stripped
        pending, first = "", 0
    if first:
        yield first, pending


def _unescaped(text: str, line: int) -> str:
    def replace(match: re.Match[str]) -> str:
        escaped = match[1]
        if escaped == "u":
            raise PropertiesSyntaxError(line, "\\u must be followed by four hexadecimal digits")
        return chr(int(escaped[1:], 16)) if escaped[0] == "u" else _CONTROL_ESCAPES.get(escaped, escaped)

    return _ESCAPE.sub(replace, text)
