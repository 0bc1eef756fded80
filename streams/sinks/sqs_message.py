"""From an event to an SQS message and back again: body, attributes, size, FIFO identifiers. Pure.

An event is turned into a message by `message`, and a message into an entry of a request by `Message.entry`, the first
time and each time it is tried again. Attributes are those of `streams.metadata`, the names of S3's object metadata;
`kafka-body` says what the body is, where it is not simply the value as text. At most nine, of SQS's ten: seven of
Kafka's, `kafka-body` and `ExtendedPayloadSize`.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from streams.envelope import decode_dead_letter, decode_envelope, encode_dead_letter, encode_envelope
from streams.errors import RecordRejectedError
from streams.kafka.identity import TAG_CHARACTERS
from streams.metadata import POSITION, object_metadata, record_fields_from_metadata
from streams.record import Record

BODY_ATTRIBUTE: Final = "kafka-body"
BASE64: Final = "base64"
"""The body is the value in base64, for it has bytes or characters that SQS does not take."""
NO_BODY: Final = "none"
"""The value is null or empty, which `kafka-null` says; SQS takes no empty body, so a stand-in is there."""
ENVELOPE: Final = "envelope"
DEAD_LETTER: Final = "dead-letter"
IN_BASE64: Final = "-base64"
"""What is added to the two names above where the document itself has characters that SQS does not take."""

STAND_IN_NULL: Final = "null"
STAND_IN_EMPTY: Final = '""'

SIZE_ATTRIBUTE: Final = "ExtendedPayloadSize"
"""Of amazon-sqs-java-extended-client-lib, whose consumers fetch such a message's body from S3 by themselves."""
POINTER_CLASS: Final = "software.amazon.payloadoffloading.PayloadS3Pointer"

MAX_IDENTIFIER_CHARACTERS: Final = 128

# SQS API reference, SendMessage: #x9 #xA #xD #x20-#xD7FF #xE000-#xFFFD #x10000-#x10FFFF.
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(slots=True)
class Message:
    """One message to send. `size_bytes` is what SQS counts: the body, and name, type and value of each attribute.

    `place` is (topic, partition, offset). `group` and `deduplication_id` are `None` but for FIFO queues.
    """

    place: tuple[str, int, int]
    body: str
    attributes: dict[str, str]
    size_bytes: int
    group: str | None = None
    deduplication_id: str | None = None

    def entry(self, identifier: str) -> dict[str, Any]:
        """The entry of a SendMessageBatch request."""
        entry: dict[str, Any] = {
            "Id": identifier,
            "MessageBody": self.body,
            "MessageAttributes": {
                name: {"DataType": _data_type(name), "StringValue": value} for name, value in self.attributes.items()
            },
        }
        if self.group is not None:
            entry["MessageGroupId"] = self.group
            entry["MessageDeduplicationId"] = self.deduplication_id
        return entry


@dataclass(frozen=True, slots=True)
class MessageRules:
    """How a queue's messages are made; `fifo` and `group_by_key` are about message groups."""

    envelope: bool = False
    fifo: bool = False
    group_by_key: bool = True

    def message(self, record: Record) -> Message:
        """The event as a message, whatever its size: its value with attributes, or its envelope.

        The envelope is the body where the settings say so, and where key and headers are past the 2 KB that S3's object
        metadata also has.
        """
        metadata, sidecar = object_metadata(record)
        if self.envelope or sidecar is not None:
            return self._document(record, ENVELOPE, encode_envelope(record))
        body, encoding = _body(record.value)
        if encoding is not None:
            metadata[BODY_ATTRIBUTE] = encoding
        return self._complete(record, body, metadata)

    def pointer(self, record: Record, bucket: str, object_key: str, object_bytes: int) -> Message:
        """The message for an event whose body is an object: the value itself, or the envelope as `message` decides."""
        metadata, sidecar = object_metadata(record)
        if self.envelope or sidecar is not None:
            metadata = {POSITION: metadata[POSITION], BODY_ATTRIBUTE: ENVELOPE}
        metadata[SIZE_ATTRIBUTE] = str(object_bytes)
        pointer = [POINTER_CLASS, {"s3BucketName": bucket, "s3Key": object_key}]
        return self._complete(record, orjson.dumps(pointer).decode(), metadata)

    def dead_letter(self, record: Record, rejection: RecordRejectedError) -> Message:
        """The rejected event's envelope with the reason."""
        document = encode_dead_letter(record, rejection.reason, rejection.detail)
        return self._document(record, DEAD_LETTER, document)

    def needs_envelope(self, record: Record) -> bool:
        """Whether `message` makes an envelope of the event."""
        return self.envelope or object_metadata(record)[1] is not None

    def _document(self, record: Record, kind: str, document: bytes) -> Message:
        body, encoding = _body(document)
        attributes = {POSITION: object_metadata(record)[0][POSITION]}
        attributes[BODY_ATTRIBUTE] = kind if encoding is None else kind + IN_BASE64
        return self._complete(record, body, attributes)

    def _complete(self, record: Record, body: str, attributes: dict[str, str]) -> Message:
        size_bytes = len(body) if body.isascii() else len(body.encode())
        for name, value in attributes.items():
            size_bytes += len(name) + len(value) + 6  # "String" or "Number"
        place = (record.topic, record.partition, record.offset)
        if not self.fifo:
            return Message(place, body, attributes, size_bytes)
        return Message(place, body, attributes, size_bytes, self._group(record), _deduplication_id(record))

    def _group(self, record: Record) -> str:
        if self.group_by_key and record.key is not None:
            return sha256(f"{record.topic}/".encode() + record.key).hexdigest()
        return _identifier(f"{record.topic}/{record.partition}")


def read_message(body: str, attributes: Mapping[str, str], payload: bytes | None = None) -> Record:
    """The event of a message that a queue has handed out, byte for byte.

    Args:
        body: the message's body.
        attributes: the text values of its attributes, by name.
        payload: the object's bytes, for a message that points to one (`payload_location`).

    Raises:
        ValueError: the message is not ours, or points to an object and `payload` was not given.
    """
    encoding = attributes.get(BODY_ATTRIBUTE)
    if SIZE_ATTRIBUTE in attributes:
        if payload is None:
            raise ValueError(f"the event is in S3: {body}")
        content = payload
    elif encoding is not None and encoding.endswith(BASE64):
        content = _from_base64(body)
    else:
        content = b"" if encoding == NO_BODY else body.encode()
    return _read_content(content, (encoding or "").removesuffix(IN_BASE64), attributes)


def payload_location(body: str, attributes: Mapping[str, str]) -> tuple[str, str] | None:
    """Bucket and key of the object that a message points to; `None` for a message that is complete.

    Raises `ValueError` for a pointer that is none.
    """
    if SIZE_ATTRIBUTE not in attributes:
        return None
    try:
        pointer = orjson.loads(body)[1]
        bucket, object_key = pointer["s3BucketName"], pointer["s3Key"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"not a pointer to an object: {error!r}") from error
    if not isinstance(bucket, str) or not isinstance(object_key, str):
        raise ValueError("not a pointer to an object: bucket or key is no text")
    return bucket, object_key


def _read_content(content: bytes, kind: str, attributes: Mapping[str, str]) -> Record:
    if kind == ENVELOPE:
        return decode_envelope(content)
    if kind == DEAD_LETTER:
        return decode_dead_letter(content).record
    if kind not in ("", BASE64, NO_BODY):
        raise ValueError(f"{BODY_ATTRIBUTE} is {kind!r}, which is unknown")
    return record_fields_from_metadata(attributes).to_record(content)


def _body(content: bytes | None) -> tuple[str, str | None]:
    """Bytes as a body that SQS takes, and what `kafka-body` says of it (`None`: they are the body, as text)."""
    if not content:
        return STAND_IN_NULL if content is None else STAND_IN_EMPTY, NO_BODY
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return b64encode(content).decode("ascii"), BASE64
    if _FORBIDDEN.search(text):
        return b64encode(content).decode("ascii"), BASE64
    return text, None


def _from_base64(body: str) -> bytes:
    try:
        return b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError(f"broken base64: {error}") from error


def _data_type(name: str) -> str:
    return "Number" if name == SIZE_ATTRIBUTE else "String"


def _deduplication_id(record: Record) -> str:
    """The event's position, with the topic's identity in it: a topic that is recreated counts from 0 again."""
    topic_id = record.life.topic_id
    if topic_id is None:
        return _identifier(record.position)
    return _identifier(f"{record.topic}@{topic_id[:TAG_CHARACTERS]}/{record.partition}/{record.offset}")


def _identifier(text: str) -> str:
    """A name that SQS takes: at most 128 characters. Those of a topic's name, `@` and `/`, are all allowed."""
    return text if len(text) <= MAX_IDENTIFIER_CHARACTERS else sha256(text.encode()).hexdigest()
