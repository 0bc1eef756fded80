"""Publishing events with header names that confluent-kafka cannot pass on, though Kafka and librdkafka can.

confluent-kafka takes names as `str` and hands them on as zero-terminated UTF-8: a name whose bytes are not UTF-8 (its
surrogates, PEP 383) crashes the process, one with a zero byte is cut there. librdkafka takes a name with its length.
Its library is in this process already, so those few events go to its public function directly.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, cimpl

from streams.record import Headers, Record

ESCAPE: Final = "surrogateescape"

# From rdkafka.h: the kinds of an argument, and the flag that has key and value copied.
_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _TIMESTAMP, _HEADERS = 1, 3, 4, 5, 7, 8, 10
_COPY: Final = 0x2


class _Memory(ctypes.Structure):
    _fields_ = (("start", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Content(ctypes.Union):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("int", ctypes.c_int),
        ("int32", ctypes.c_int32),
        ("int64", ctypes.c_int64),
        ("memory", _Memory),
        ("pointer", ctypes.c_void_p),
        ("_", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    """`rd_kafka_vu_t`."""

    _fields_ = (("kind", ctypes.c_int), ("content", _Content))


def needs_raw_names(headers: Headers) -> bool:
    """Whether confluent-kafka would crash at a name or change it."""
    return any(not _is_plain(name) for name, _ in headers)


def _is_plain(name: str) -> bool:
    if "\0" in name:
        return False
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def produce_raw_names(producer: Producer, topic: str, record: Record, *, partition: int, timestamp_ms: int) -> None:
    """What `producer.produce` does, with any header names and without a delivery report.

    That it could not be delivered is known when the transaction is committed.

    Raises:
        KafkaException: the event was not taken.
    """
    library = _library()
    headers = library.rd_kafka_headers_new(len(record.headers))
    for name, value in record.headers:
        raw = name.encode("utf-8", ESCAPE)
        library.rd_kafka_header_add(headers, raw, len(raw), value, len(value or b""))
    arguments = (_Argument * 7)(
        _Argument(_TOPIC, _Content(text=topic.encode())),
        _Argument(_PARTITION, _Content(int32=partition)),
        _Argument(_VALUE, _Content(memory=_memory(record.value))),
        _Argument(_KEY, _Content(memory=_memory(record.key))),
        _Argument(_FLAGS, _Content(int=_COPY)),
        _Argument(_TIMESTAMP, _Content(int64=timestamp_ms)),
        _Argument(_HEADERS, _Content(pointer=headers)),
    )
    error = library.rd_kafka_produceva(_handle(producer), arguments, len(arguments))
    if error:
        code, text = library.rd_kafka_error_code(error), library.rd_kafka_error_string(error).decode()
        library.rd_kafka_error_destroy(error)
        library.rd_kafka_headers_destroy(headers)  # they are ours again
        raise KafkaException(KafkaError(code, text))


def _memory(content: bytes | None) -> _Memory:
    return _Memory(content, len(content or b""))


def _handle(producer: Producer) -> ctypes.c_void_p:
    """librdkafka's own object: the first field of confluent-kafka's (`Handle` in confluent_kafka.h)."""
    return ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)


@cache
def _library() -> Any:
    """librdkafka as confluent-kafka has loaded it: symbols are looked up in what its extension is linked with."""
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ssize_t
    library.rd_kafka_headers_new.argtypes, library.rd_kafka_headers_new.restype = (ctypes.c_size_t,), pointer
    library.rd_kafka_headers_destroy.argtypes, library.rd_kafka_headers_destroy.restype = (pointer,), None
    library.rd_kafka_header_add.argtypes = (pointer, text, size, text, size)
    library.rd_kafka_produceva.argtypes = (pointer, ctypes.POINTER(_Argument), ctypes.c_size_t)
    library.rd_kafka_produceva.restype = pointer
    library.rd_kafka_error_code.argtypes = (pointer,)
    library.rd_kafka_error_string.argtypes, library.rd_kafka_error_string.restype = (pointer,), text
    library.rd_kafka_error_destroy.argtypes, library.rd_kafka_error_destroy.restype = (pointer,), None
    return library
