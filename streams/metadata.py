"""What a raw body cannot say (position, timestamp, key, headers, nulls), as S3 object metadata, and back again.

Pure; sits between `record` and the sinks, and `record_fields_from_metadata` is what makes an exact restore possible.
S3 takes 2 KB of metadata: past that, key and headers go into a sidecar document, which is written before the object,
so that an object that exists is complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes

import orjson

from streams.envelope import (
    ESCAPE,
    MAX_INT64,
    MAX_PARTITION,
    TIMESTAMP_TYPE_NAMES,
    TIMESTAMP_TYPES,
    checked_integer,
    event_document,
    read_event_document,
)
from streams.record import CREATE_TIME, Headers, Record

SIDECAR_SUFFIX: Final = ".kafka.json"
"""What the sidecar's key adds to the key of its object."""

POSITION: Final = "kafka-position"
"""`topic/partition/offset`, which every object of ours carries: one name, for each is signed and sent."""
UNKNOWN: Final = "none"
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")

METADATA_PREFIX: Final = "x-amz-meta-"
MAX_METADATA_BYTES: Final = 2048
"""S3 user guide, "User-defined object metadata": 2 KB; counted with the names' prefix here, to be on the safe side."""


@dataclass(frozen=True, slots=True)
class RecordFields:
    """All of an event but its value, as read back from an object; `to_record` adds the value."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    timestamp_type: int | None
    key: bytes | None
    headers: Headers
    value_is_null: bool

    def to_record(self, body: bytes) -> Record:
        """The event whose raw body this is: an empty body is null where the metadata says so."""
        return Record(
            self.topic,
            self.partition,
            self.offset,
            self.timestamp_ms,
            self.timestamp_type,
            self.key,
            None if self.value_is_null else body,
            self.headers,
        )


def object_metadata(record: Record) -> tuple[dict[str, str], bytes | None]:
    """Metadata by name (without `x-amz-meta-`), and the sidecar document where key and headers would not fit.

    The second is `None` for nearly every event. Values are printable ASCII whatever bytes the event holds.
    """
    metadata = {POSITION: f"{_quoted_topic(record.topic)}/{record.partition}/{record.offset}"}
    if record.timestamp_ms is not None:
        metadata["kafka-timestamp-ms"] = str(record.timestamp_ms)
    if record.timestamp_type != CREATE_TIME or record.timestamp_ms is None:
        metadata["kafka-timestamp-type"] = TIMESTAMP_TYPE_NAMES[record.timestamp_type] or UNKNOWN
    if record.value is None:
        metadata["kafka-null"] = "value"
    if record.key == b"":
        metadata["kafka-empty"] = "key"
    if not record.key and not record.headers:
        return metadata, None
    return _with_key_and_headers(record, metadata)


def record_fields_from_metadata(metadata: Mapping[str, str], sidecar: bytes | None = None) -> RecordFields:
    """What `object_metadata` was told, from what it returned; names in any case, without `x-amz-meta-`.

    Raises `ValueError` when the metadata is not ours, names a sidecar that was not given, or one of another event.
    """
    found = {name.lower(): value for name, value in metadata.items()}
    try:
        topic, partition, offset = _position(found[POSITION])
        key, headers = _key_and_headers(found, sidecar, (topic, partition, offset))
        timestamp_ms = found.get("kafka-timestamp-ms")
        type_name = found.get("kafka-timestamp-type", TIMESTAMP_TYPE_NAMES[CREATE_TIME])
        return RecordFields(
            topic=topic,
            partition=partition,
            offset=offset,
            timestamp_ms=None if timestamp_ms is None else _integer(timestamp_ms, -MAX_INT64 - 1, MAX_INT64),
            timestamp_type=None if type_name == UNKNOWN else TIMESTAMP_TYPES[type_name],
            key=key,
            headers=headers,
            value_is_null=found.get("kafka-null") == "value",
        )
    except KeyError as error:
        raise ValueError(f"not the metadata of an event: {error.args[0]!r} is missing or unknown") from error


def _with_key_and_headers(record: Record, metadata: dict[str, str]) -> tuple[dict[str, str], bytes | None]:
    inline = dict(metadata)
    if record.key:
        inline["kafka-key"] = quote_from_bytes(record.key, safe="")
    if record.headers:
        inline["kafka-headers"] = _headers_text(record.headers)
    # One null header with an empty name has an empty text, and S3 servers drop empty metadata.
    if inline.get("kafka-headers") != "" and _metadata_bytes(inline) <= MAX_METADATA_BYTES:
        return inline, None
    return {**metadata, "kafka-sidecar": SIDECAR_SUFFIX}, orjson.dumps(event_document(record))


def _metadata_bytes(metadata: Mapping[str, str]) -> int:
    return sum(len(METADATA_PREFIX) + len(name) + len(value) for name, value in metadata.items())


def _headers_text(headers: Headers) -> str:
    return "&".join(
        _quoted_name(name) if value is None else f"{_quoted_name(name)}={quote_from_bytes(value, safe='')}"
        for name, value in headers
    )


def _quoted_name(name: str) -> str:
    return quote(name, safe="", errors=ESCAPE)


def _read_header(text: str) -> tuple[str, bytes | None]:
    name, equals, value = text.partition("=")
    return unquote(name, errors=ESCAPE), unquote_to_bytes(value) if equals else None


def _position(text: str) -> tuple[str, int, int]:
    fields = text.split("/")
    if len(fields) != 3:
        raise ValueError(f"not the metadata of an event: {POSITION} is {text!r}")
    topic, partition, offset = fields
    return (
        unquote(topic, errors="strict"),
        _integer(partition, 0, MAX_PARTITION),
        _integer(offset, 0, MAX_INT64),
    )


def _integer(text: str, lowest: int, highest: int) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not the metadata of an event: {text!r} is no whole number")
    return checked_integer(int(text), lowest, highest)


def _key_and_headers(
    found: Mapping[str, str], sidecar: bytes | None, position: tuple[str, int, int]
) -> tuple[bytes | None, Headers]:
    if "kafka-sidecar" in found:
        if sidecar is None:
            raise ValueError(f"key and headers are in the object's sidecar (its key + {found['kafka-sidecar']!r})")
        record = read_event_document(orjson.loads(sidecar), None)
        if (record.topic, record.partition, record.offset) != position:
            raise ValueError(f"the sidecar is that of {record.position}")
        return record.key, record.headers
    text = found.get("kafka-key")
    key = unquote_to_bytes(text) if text is not None else b"" if found.get("kafka-empty") == "key" else None
    text = found.get("kafka-headers")
    return key, () if text is None else tuple(_read_header(header) for header in text.split("&"))


@lru_cache(maxsize=4096)
def _quoted_topic(topic: str) -> str:
    return quote(topic, safe="")
