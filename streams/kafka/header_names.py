"""The headers of an event in which a name is not UTF-8: asked for again, from librdkafka's C interface.

Kafka's protocol says UTF-8, its broker checks nothing, and confluent-kafka's `Message.headers()` raises and forgets the
headers. The C interface that it stands on (rdkafka.h, public and kept stable) gives names as bytes, so a consumer of
our own reads that one event once more, with the same configuration, TLS and login. Only such events come here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Container, Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Final

from confluent_kafka import KafkaError

from streams.envelope import ESCAPE
from streams.errors import KafkaReadError
from streams.kafka.librdkafka import INT, OK, POINTER, TEXT, end_consumer, librdkafka, make_consumer
from streams.record import Headers, TopicPartition

READ_LIMIT_SECONDS: Final = 15.0
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

    def __enter__(self) -> HeaderReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; the next `read` makes new ones."""
        self._next = None
        if self._consumer is not None:
            end_consumer(self._consumer)
            self._consumer = None

    def forget(self, partitions: Container[TopicPartition]) -> None:
        """What was fetched ahead of these is not theirs any more: another topic may have taken the name."""
        if self._next is not None and self._next[0] in partitions:
            self._next = None

    def read(self, tp: TopicPartition, offset: int) -> Headers:
        """The headers of one event; names decoded with `surrogateescape` (PEP 383). Blocks for 15 s at most.

        Raises:
            KafkaReadError: the event is gone, or Kafka does not give it; the next call connects again.
        """
        try:
            if self._consumer is None:
                self._consumer = make_consumer(self._options)
            if not self._reads_on_to(tp, offset):
                _assign(self._consumer, tp, offset)
            found = self._wait_for(tp, offset)
        except KafkaReadError:
            self.close()
            raise
        self._next = (tp, offset + 1)
        return found

    def _reads_on_to(self, tp: TopicPartition, offset: int) -> bool:
        if self._next is None:
            return False
        where, position = self._next
        return where == tp and position <= offset < position + _READ_ON_OFFSETS

    def _wait_for(self, tp: TopicPartition, offset: int) -> Headers:
        deadline, why = monotonic() + READ_LIMIT_SECONDS, "no answer"
        while monotonic() < deadline:
            message = _poll(self._consumer, _POLL_MS)
            if message is None:
                continue
            if message.code in _FINAL:
                raise _unreadable(tp, offset, message.error)
            if message.error:
                # The group's coordinator is looked for, but nothing here needs it.
                why = why if message.code == KafkaError.GROUP_AUTHORIZATION_FAILED else message.error
            elif message.offset == offset:
                return message.headers
            elif message.offset > offset:
                raise _unreadable(tp, offset, "the event has left Kafka")
        raise _unreadable(tp, offset, why)


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
