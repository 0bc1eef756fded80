"""The headers of an event in which a name is not UTF-8: asked for again, from librdkafka's C interface.

Kafka's protocol says UTF-8, its broker checks nothing, and confluent-kafka's `Message.headers()` raises and forgets the
headers. The C interface that it stands on (rdkafka.h, public and kept stable) gives names as bytes, so a consumer of
our own reads that one event once more, with the same configuration, TLS and login. Only such events come here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Final

from confluent_kafka import KafkaError

from streams.envelope import ESCAPE
from streams.errors import KafkaReadError
from streams.kafka.librdkafka import INT, OK, POINTER, TEXT, end_consumer, librdkafka, make_consumer
from streams.record import Headers, TopicPartition

READ_LIMIT_SECONDS: Final = 15.0
"""After so long without an answer for an event the connections are made anew."""
_POLL_MS: Final = 200
_READ_ON_OFFSETS: Final = 2000
"""Closer than this to where the last one was read, the next is read on to: twenty times faster than beginning again."""
_FINAL: Final = (
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)


class _Message(ctypes.Structure):
    """`rd_kafka_message_t`, as rdkafka.h defines it."""

    _fields_ = (
        ("err", INT),
        ("rkt", POINTER),
        ("partition", ctypes.c_int32),
        ("payload", POINTER),
        ("len", ctypes.c_size_t),
        ("key", POINTER),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("_private", POINTER),
    )


class HeadersLaterError(KafkaReadError):
    """They did not come within the caller's limit, and are still awaited: ask again for the same event."""


@dataclass(slots=True)
class _Asked:
    """What is being read."""

    place: tuple[TopicPartition, int]
    until: float
    why: str = "no answer"


class HeaderReader:
    """Reads the headers of single events; for one thread. It connects when it is asked for the first time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """`options` are a consumer's of confluent-kafka (`client_options`), a `group.id` among them."""
        self._options = {
            **options,
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "auto.offset.reset": "error",
            "queued.min.messages": 1,
            "queued.max.messages.kbytes": 1024,
            "log_level": 0,
        }
        self._consumer: int | None = None
        self._next: tuple[TopicPartition, int] | None = None
        self._asked: _Asked | None = None

    def __enter__(self) -> HeaderReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; the next `read` makes new ones."""
        self._next = self._asked = None
        if self._consumer is not None:
            end_consumer(self._consumer)
            self._consumer = None

    def forget(self, partitions: Container[TopicPartition]) -> None:
        """What was fetched ahead of these is not theirs any more: another topic may have taken the name."""
        if self._next is not None and self._next[0] in partitions:
            self._next = None
        if self._asked is not None and self._asked.place[0] in partitions:
            self._asked = None

    def read(self, tp: TopicPartition, offset: int, limit_seconds: float = READ_LIMIT_SECONDS) -> Headers:
        """The headers of one event; names decoded with `surrogateescape` (PEP 383). Blocks for `limit_seconds` at most.

        Raises:
            HeadersLaterError: the limit has passed before Kafka's answer, or another event's is awaited still.
            KafkaReadError: the event is gone, or Kafka does not give it; the next call connects again.
        """
        try:
            asked = self._ask((tp, offset))
            found = self._wait_for(asked, monotonic() + limit_seconds)
        except HeadersLaterError:
            raise
        except KafkaReadError:
            self.close()
            raise
        self._next, self._asked = (tp, offset + 1), None
        return found

    def _ask(self, place: tuple[TopicPartition, int]) -> _Asked:
        """Begin to read there, unless that is so already."""
        now = monotonic()
        if self._asked is not None and self._asked.place != place:
            if now < self._asked.until:
                raise HeadersLaterError(f"{place[0]}/{place[1]} waits for the headers of another event")
            self._asked = None  # whoever asked does not any more
        if self._asked is None:
            if self._consumer is None:
                self._consumer = make_consumer(self._options)
            reads_on, self._next = self._reads_on_to(*place), None  # until it has come, nobody knows how far it is
            if not reads_on:
                _assign(self._consumer, *place)
            self._asked = _Asked(place, now + READ_LIMIT_SECONDS)
        return self._asked

    def _reads_on_to(self, tp: TopicPartition, offset: int) -> bool:
        if self._next is None:
            return False
        where, position = self._next
        return where == tp and position <= offset < position + _READ_ON_OFFSETS

    def _wait_for(self, asked: _Asked, limit: float) -> Headers:
        """Until `limit` (monotonic)."""
        tp, offset = asked.place
        while (left := min(limit, asked.until) - monotonic()) > 0:
            message = _poll(self._consumer, min(_POLL_MS, int(left * 1000) + 1))
            if message is None:
                continue
            if message.code in _FINAL:
                raise _unreadable(tp, offset, message.error)
            if message.error:
                # The group's coordinator is looked for, but nothing here needs it.
                asked.why = asked.why if message.code == KafkaError.GROUP_AUTHORIZATION_FAILED else message.error
            elif message.offset == offset:
                return message.headers
            elif message.offset > offset:
                raise _unreadable(tp, offset, "the event has left Kafka")
        if limit < asked.until:
            raise HeadersLaterError(f"the headers of {tp}/{offset} have not come yet")
        raise _unreadable(tp, offset, asked.why)


def _unreadable(tp: TopicPartition, offset: int, why: str) -> KafkaReadError:
    return KafkaReadError(
        f"{tp}/{offset} has a header whose name is not UTF-8, and reading it again failed: {why}. "
        "Are the brokers up, and is the topic's retention long enough?"
    )


class _Fetched:
    """What of a delivered message is needed, copied: librdkafka cannot close while one of its messages is held."""

    __slots__ = ("code", "error", "headers", "offset")

    def __init__(self, address: int) -> None:
        message = _Message.from_address(address)
        self.code: int = message.err
        self.offset: int = message.offset
        self.error = "" if self.code == OK else str(KafkaError(self.code, _error_text(address)))
        self.headers = tuple(_headers(address)) if self.code == OK else ()


def _poll(consumer: int | None, milliseconds: int) -> _Fetched | None:
    library = librdkafka()
    address = library.rd_kafka_consumer_poll(consumer, milliseconds)
    if address is None:
        return None
    try:
        return _Fetched(address)
    finally:
        library.rd_kafka_message_destroy(address)


def _error_text(address: int) -> str:
    said = librdkafka().rd_kafka_message_errstr(address)
    return bytes(said or b"").decode("utf-8", "replace")


def _headers(address: int) -> Iterator[tuple[str, bytes | None]]:
    library, headers = librdkafka(), POINTER()
    if library.rd_kafka_message_headers(address, ctypes.byref(headers)) != OK:
        return  # it has none
    name, value, size = TEXT(), POINTER(), ctypes.c_size_t()
    index = 0
    while (
        library.rd_kafka_header_get_all(headers, index, ctypes.byref(name), ctypes.byref(value), ctypes.byref(size))
        == OK
    ):
        content = None if value.value is None else ctypes.string_at(value.value, size.value)
        yield (name.value or b"").decode("utf-8", ESCAPE), content
        index += 1


def _assign(consumer: int, tp: TopicPartition, offset: int) -> None:
    library, topic = librdkafka(), tp.topic.encode()
    partitions = library.rd_kafka_topic_partition_list_new(1)
    try:
        library.rd_kafka_topic_partition_list_add(partitions, topic, tp.partition)
        library.rd_kafka_topic_partition_list_set_offset(partitions, topic, tp.partition, offset)
        code = library.rd_kafka_assign(consumer, partitions)
    finally:
        library.rd_kafka_topic_partition_list_destroy(partitions)
    if code != OK:
        raise _unreadable(tp, offset, str(KafkaError(code)))
