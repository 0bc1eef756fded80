"""The headers of an event in which a name is not UTF-8: asked for again, from librdkafka's C interface.

Kafka's protocol says UTF-8, its broker checks nothing, and confluent-kafka's `Message.headers()` raises and forgets the
headers. The C interface that it stands on (rdkafka.h, public and kept stable) gives names as bytes, so a consumer of
our own reads that one event once more, with the same configuration, TLS and login. Only such events come here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from time import monotonic
from types import TracebackType
from typing import Any, Final

from confluent_kafka import KafkaError, cimpl

from streams.envelope import ESCAPE
from streams.errors import KafkaReadError
from streams.record import Headers, TopicPartition

READ_LIMIT_SECONDS: Final = 15.0
_POLL_MS: Final = 200
_READ_ON_OFFSETS: Final = 2000
"""Closer than this to where the last one was read, the next is read on to: twenty times faster than beginning again."""
_ERROR_BYTES: Final = 512
_CONSUMER: Final = 1  # rd_kafka_type_t
_OK: Final = 0
_NO_CONSUMER_CLOSE: Final = 0x8
_FINAL: Final = (
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)

_POINTER, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "rd_kafka_conf_new": (_POINTER, ()),
    "rd_kafka_conf_set": (_INT, (_POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)),
    "rd_kafka_conf_destroy": (None, (_POINTER,)),
    "rd_kafka_new": (_POINTER, (_INT, _POINTER, _TEXT, ctypes.c_size_t)),
    "rd_kafka_destroy_flags": (None, (_POINTER, _INT)),
    "rd_kafka_poll_set_consumer": (_INT, (_POINTER,)),
    "rd_kafka_oauthbearer_set_token": (
        _INT,
        (_POINTER, _TEXT, ctypes.c_int64, _TEXT, ctypes.POINTER(_TEXT), ctypes.c_size_t, _TEXT, ctypes.c_size_t),
    ),
    "rd_kafka_topic_partition_list_new": (_POINTER, (_INT,)),
    "rd_kafka_topic_partition_list_add": (_POINTER, (_POINTER, _TEXT, ctypes.c_int32)),
    "rd_kafka_topic_partition_list_set_offset": (_INT, (_POINTER, _TEXT, ctypes.c_int32, ctypes.c_int64)),
    "rd_kafka_topic_partition_list_destroy": (None, (_POINTER,)),
    "rd_kafka_assign": (_INT, (_POINTER, _POINTER)),
    "rd_kafka_consumer_poll": (_POINTER, (_POINTER, _INT)),
    "rd_kafka_message_destroy": (None, (_POINTER,)),
    "rd_kafka_message_errstr": (_TEXT, (_POINTER,)),
    "rd_kafka_message_headers": (_INT, (_POINTER, ctypes.POINTER(_POINTER))),
    "rd_kafka_header_get_all": (
        _INT,
        (
            _POINTER,
            ctypes.c_size_t,
            ctypes.POINTER(_TEXT),
            ctypes.POINTER(_POINTER),
            ctypes.POINTER(ctypes.c_size_t),
        ),
    ),
}


class _Message(ctypes.Structure):
    """`rd_kafka_message_t`, as rdkafka.h defines it."""

    _fields_ = (
        ("err", _INT),
        ("rkt", _POINTER),
        ("partition", ctypes.c_int32),
        ("payload", _POINTER),
        ("len", ctypes.c_size_t),
        ("key", _POINTER),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("_private", _POINTER),
    )


@cache
def _librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka has loaded: its symbols are found through the extension module."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


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
            _librdkafka().rd_kafka_destroy_flags(self._consumer, _NO_CONSUMER_CLOSE)
            self._consumer = None

    def read(self, tp: TopicPartition, offset: int) -> Headers:
        """The headers of one event; names decoded with `surrogateescape` (PEP 383). Blocks for 15 s at most.

        Raises:
            KafkaReadError: the event is gone, or Kafka does not give it; the next call connects again.
        """
        try:
            if self._consumer is None:
                self._consumer = _connected(self._options)
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
        self.error = "" if self.code == _OK else str(KafkaError(self.code, _error_text(address)))
        self.headers = tuple(_headers(address)) if self.code == _OK else ()


def _poll(consumer: int | None, milliseconds: int) -> _Fetched | None:
    library = _librdkafka()
    address = library.rd_kafka_consumer_poll(consumer, milliseconds)
    if address is None:
        return None
    try:
        return _Fetched(address)
    finally:
        library.rd_kafka_message_destroy(address)


def _error_text(address: int) -> str:
    said = _librdkafka().rd_kafka_message_errstr(address)
    return bytes(said or b"").decode("utf-8", "replace")


def _headers(address: int) -> Iterator[tuple[str, bytes | None]]:
    library, headers = _librdkafka(), _POINTER()
    if library.rd_kafka_message_headers(address, ctypes.byref(headers)) != _OK:
        return  # it has none
    name, value, size = _TEXT(), _POINTER(), ctypes.c_size_t()
    index = 0
    while (
        library.rd_kafka_header_get_all(headers, index, ctypes.byref(name), ctypes.byref(value), ctypes.byref(size))
        == _OK
    ):
        content = None if value.value is None else ctypes.string_at(value.value, size.value)
        yield (name.value or b"").decode("utf-8", ESCAPE), content
        index += 1


def _assign(consumer: int, tp: TopicPartition, offset: int) -> None:
    library, topic = _librdkafka(), tp.topic.encode()
    partitions = library.rd_kafka_topic_partition_list_new(1)
    try:
        library.rd_kafka_topic_partition_list_add(partitions, topic, tp.partition)
        library.rd_kafka_topic_partition_list_set_offset(partitions, topic, tp.partition, offset)
        code = library.rd_kafka_assign(consumer, partitions)
    finally:
        library.rd_kafka_topic_partition_list_destroy(partitions)
    if code != _OK:
        raise _unreadable(tp, offset, str(KafkaError(code)))


def _connected(options: Mapping[str, Any]) -> int:
    """A consumer that is told what confluent-kafka's are told."""
    library, said = _librdkafka(), ctypes.create_string_buffer(_ERROR_BYTES)
    configuration = library.rd_kafka_conf_new()
    for name, value in options.items():
        if callable(value):
            continue  # callbacks are Python's own matter, except for the one below
        code = library.rd_kafka_conf_set(configuration, name.encode(), _text(value), said, _ERROR_BYTES)
        if code != _OK:
            library.rd_kafka_conf_destroy(configuration)
            raise KafkaReadError(f"librdkafka takes no {name}: {_said(said)}")
    consumer: int | None = library.rd_kafka_new(_CONSUMER, configuration, said, _ERROR_BYTES)
    if consumer is None:
        library.rd_kafka_conf_destroy(configuration)
        raise KafkaReadError(f"librdkafka made no consumer: {_said(said)}")
    library.rd_kafka_poll_set_consumer(consumer)
    if (ask_for_token := options.get("oauth_cb")) is not None:
        _log_in(consumer, ask_for_token, str(options.get("sasl.oauthbearer.config", "")))
    return consumer


def _text(value: Any) -> bytes:
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


def _said(buffer: Any) -> str:
    return bytes(buffer.value).decode("utf-8", "replace")


def _log_in(consumer: int, ask_for_token: Callable[[str], tuple[Any, ...]], configuration: str) -> None:
    """Give it a token of a callback as confluent-kafka takes one: (token, expiry in seconds[, principal[, {…}]])."""
    token, expires_at_seconds, *rest = ask_for_token(configuration)
    principal = str(rest[0]) if rest else ""
    pairs = [str(text).encode() for pair in (rest[1] if len(rest) > 1 else {}).items() for text in pair]
    said = ctypes.create_string_buffer(_ERROR_BYTES)
    code = _librdkafka().rd_kafka_oauthbearer_set_token(
        consumer,
        str(token).encode(),
        int(float(expires_at_seconds) * 1000),
        principal.encode(),
        (_TEXT * len(pairs))(*pairs),
        len(pairs),
        said,
        _ERROR_BYTES,
    )
    if code != _OK:
        raise KafkaReadError(f"librdkafka does not take the OAuth token: {_said(said)}")
