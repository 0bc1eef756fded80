"""One JSON document per event: the body for `STREAMS_BODY=envelope`, dead letters and the sidecars of `metadata`.

Pure, deterministic (no clock: a redelivered event gives the same bytes). The value comes last, and a value that is JSON
is embedded byte for byte, so that it can be cut out of the document again:
`document[-1 - value_length : -1]`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import orjson

from streams.record import CREATE_TIME, LOG_APPEND_TIME, Record

ESCAPE: Final = "surrogateescape"
"""How a header name holds bytes that are not UTF-8 (PEP 383, see `streams.header_names`)."""

TIMESTAMP_TYPE_NAMES: Final[dict[int | None, str | None]] = {
    None: None,
    CREATE_TIME: "create",
    LOG_APPEND_TIME: "append",
}
MAX_PARTITION: Final = 2**31 - 1
MAX_INT64: Final = 2**63 - 1

_BEFORE_VALUE: Final = b'"value":'
_CHARACTERS_SHOWN: Final = 60

TIMESTAMP_TYPES: Final = {name: number for number, name in TIMESTAMP_TYPE_NAMES.items()}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected event as it was kept: the whole event, why it was rejected, and the key it should have had.

    `original_object_key` is `None` where the event never got a key.
    """

    record: Record
    reason: str
    detail: str
    original_object_key: str | None


def encode_envelope(record: Record) -> bytes:
    """The event as one JSON document."""
    return orjson.dumps({**event_document(record), **_value_document(record.value)})


def decode_envelope(document: bytes) -> Record:
    """The event of which `encode_envelope` made this document, byte for byte.

    Raises `ValueError` for anything else.
    """
    return _read(document)[0]


def encode_dead_letter(record: Record, reason: str, detail: str, original_object_key: str | None = None) -> bytes:
    """The envelope of the event with `dead_letter` (reason, detail, original object key) in front of the value."""
    rejection = {
        "reason": reason,
        "detail": _encodable(detail),
        "original_object_key": original_object_key,
    }
    return orjson.dumps({**event_document(record), "dead_letter": rejection, **_value_document(record.value)})


def decode_dead_letter(document: bytes) -> DeadLetter:
    """The dead letter of which `encode_dead_letter` made this document. Raises `ValueError` for anything else."""
    record, fields = _read(document)
    try:
        rejection = fields["dead_letter"]
        reason, detail, object_key = (rejection[name] for name in ("reason", "detail", "original_object_key"))
        if object_key is not None:
            _checked_text(object_key)
        return DeadLetter(record, _checked_text(reason), _checked_text(detail), object_key)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a dead letter: {error!r}") from error


def event_document(record: Record) -> dict[str, Any]:
    """Everything of the event but its value, as JSON can hold it."""
    key, key_encoding = _text(record.key)
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "timestamp_type": TIMESTAMP_TYPE_NAMES[record.timestamp_type],
        "key": key,
        "key_encoding": key_encoding,
        "headers": [_header(name, value) for name, value in record.headers],
    }


def read_event_document(fields: Any, value: bytes | None) -> Record:
    """The inverse of `event_document`, with the value that belongs to it. Raises `ValueError` for other documents."""
    try:
        timestamp_ms = fields["timestamp_ms"]
        return Record(
            topic=_checked_text(fields["topic"]),
            partition=checked_integer(fields["partition"], 0, MAX_PARTITION),
            offset=checked_integer(fields["offset"], 0, MAX_INT64),
            timestamp_ms=None if timestamp_ms is None else checked_integer(timestamp_ms, -MAX_INT64 - 1, MAX_INT64),
            timestamp_type=TIMESTAMP_TYPES[fields["timestamp_type"]],
            key=_bytes(fields["key"], fields["key_encoding"]),
            value=value,
            headers=tuple(_read_header(header) for header in _checked_list(fields["headers"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a document of an event: {error!r}") from error


def checked_integer(found: object, lowest: int, highest: int) -> int:
    """What a document says, where it is a number that Kafka could have given. Raises `ValueError`."""
    if type(found) is not int or not lowest <= found <= highest:
        raise ValueError(f"{_shown(found)} is no whole number from {lowest} to {highest}")
    return found


def _header(name: str, value: bytes | None) -> list[str | None]:
    """Name, value and the value's encoding; a name that is not UTF-8 as base64, which the fourth element then says."""
    text, encoding = _text(value)
    name_text, name_encoding = _text(name.encode("utf-8", ESCAPE))
    return [name_text, text, encoding] if name_encoding == "utf-8" else [name_text, text, encoding, name_encoding]


def _read_header(header: object) -> tuple[str, bytes | None]:
    name, text, encoding, *rest = _checked_list(header)
    (name_encoding,) = rest or ("utf-8",)
    raw_name = _bytes(name, name_encoding)
    if raw_name is None:
        raise ValueError("a header without a name")
    return raw_name.decode("utf-8", ESCAPE), _bytes(text, encoding)


def _value_document(value: bytes | None) -> dict[str, Any]:
    if value is not None and _is_json(value):
        return {"value_encoding": "json", "value_length": len(value), "value": orjson.Fragment(value)}
    text, encoding = _text(value)
    return {"value_encoding": encoding, "value_length": len(value or b""), "value": text}


def _is_json(value: bytes) -> bool:
    # Parsed inside a list because that is how deep it will sit in the document: orjson reads 1,024 levels, and a value
    # that uses them all could be written but never read again. One element: `1,2` is not JSON, but [1,2] is.
    try:
        return len(orjson.loads(b"[%b]" % value)) == 1
    except orjson.JSONDecodeError:
        return False


def _read(document: bytes) -> tuple[Record, dict[str, Any]]:
    try:
        fields = orjson.loads(document)
        if fields["value_encoding"] == "json":
            value: bytes | None = _embedded_value(document, fields["value_length"])
        else:
            value = _bytes(fields["value"], fields["value_encoding"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an envelope: {error!r}") from error
    return read_event_document(fields, value), fields


def _text(raw: bytes | None) -> tuple[str | None, str | None]:
    """Bytes as JSON text and the name of its encoding: readable where they are UTF-8, base64 otherwise."""
    if raw is None:
        return None, None
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii"), "base64"


def _bytes(text: object, encoding: object) -> bytes | None:
    if encoding is None and text is None:
        return None
    if encoding not in ("utf-8", "base64"):
        raise ValueError(f"unknown encoding {_shown(encoding)}")
    if encoding == "utf-8":
        return _checked_text(text).encode()
    try:
        return base64.b64decode(_checked_text(text), validate=True)
    except binascii.Error as error:
        raise ValueError(f"broken base64: {error}") from error


def _embedded_value(document: bytes, length: object) -> bytes:
    """The JSON value at the end of the document, of the length that it names."""
    start = len(document) - 1 - checked_integer(length, 1, len(document))
    if document[max(0, start - len(_BEFORE_VALUE)) : start] != _BEFORE_VALUE or document[-1:] != b"}":
        raise ValueError(f"the value is not the last {length} bytes of the document")
    return document[start:-1]


def _checked_text(found: object) -> str:
    if not isinstance(found, str):
        raise ValueError(f"{_shown(found)} is no text")
    return found


def _checked_list(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"{_shown(found)} is no list")
    return found


def _shown(found: object) -> str:
    text = repr(found)
    return text if len(text) <= _CHARACTERS_SHOWN else f"{text[:_CHARACTERS_SHOWN]}..."


def _encodable(text: str) -> str:
    # A library's message may hold lone surrogates (bytes it could not decode), which JSON cannot.
    return text.encode("utf-8", "replace").decode()
