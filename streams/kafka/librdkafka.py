"""librdkafka's C interface (rdkafka.h, public and kept stable), for the little that confluent-kafka does not pass on.

The library is in this process already. Consumers made here are told what confluent-kafka's are told.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from confluent_kafka import cimpl

from streams.errors import KafkaReadError

OK: Final = 0
_CONSUMER: Final = 1  # rd_kafka_type_t
_NO_CONSUMER_CLOSE: Final = 0x8
_ERROR_BYTES: Final = 512

POINTER, TEXT, INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "rd_kafka_conf_new": (POINTER, ()),
    "rd_kafka_conf_set": (INT, (POINTER, TEXT, TEXT, TEXT, ctypes.c_size_t)),
    "rd_kafka_conf_destroy": (None, (POINTER,)),
    "rd_kafka_new": (POINTER, (INT, POINTER, TEXT, ctypes.c_size_t)),
    "rd_kafka_destroy_flags": (None, (POINTER, INT)),
    "rd_kafka_poll_set_consumer": (INT, (POINTER,)),
    "rd_kafka_oauthbearer_set_token": (
        INT,
        (POINTER, TEXT, ctypes.c_int64, TEXT, ctypes.POINTER(TEXT), ctypes.c_size_t, TEXT, ctypes.c_size_t),
    ),
    "rd_kafka_topic_partition_list_new": (POINTER, (INT,)),
    "rd_kafka_topic_partition_list_add": (POINTER, (POINTER, TEXT, ctypes.c_int32)),
    "rd_kafka_topic_partition_list_set_offset": (INT, (POINTER, TEXT, ctypes.c_int32, ctypes.c_int64)),
    "rd_kafka_topic_partition_list_destroy": (None, (POINTER,)),
    "rd_kafka_committed": (INT, (POINTER, POINTER, INT)),
    "rd_kafka_assign": (INT, (POINTER, POINTER)),
    "rd_kafka_consumer_poll": (POINTER, (POINTER, INT)),
    "rd_kafka_message_destroy": (None, (POINTER,)),
    "rd_kafka_message_errstr": (TEXT, (POINTER,)),
    "rd_kafka_message_headers": (INT, (POINTER, ctypes.POINTER(POINTER))),
    "rd_kafka_header_get_all": (
        INT,
        (
            POINTER,
            ctypes.c_size_t,
            ctypes.POINTER(TEXT),
            ctypes.POINTER(POINTER),
            ctypes.POINTER(ctypes.c_size_t),
        ),
    ),
}


@cache
def librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka has loaded: its symbols are found through the extension module."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def make_consumer(options: Mapping[str, Any]) -> int:
    """A consumer that is told what confluent-kafka's are told."""
    library, said = librdkafka(), ctypes.create_string_buffer(_ERROR_BYTES)
    configuration = library.rd_kafka_conf_new()
    for name, value in options.items():
        if callable(value):
            continue  # callbacks are Python's own matter, except for the one below
        code = library.rd_kafka_conf_set(configuration, name.encode(), _text(value), said, _ERROR_BYTES)
        if code != OK:
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
    code = librdkafka().rd_kafka_oauthbearer_set_token(
        consumer,
        str(token).encode(),
        int(float(expires_at_seconds) * 1000),
        principal.encode(),
        (TEXT * len(pairs))(*pairs),
        len(pairs),
        said,
        _ERROR_BYTES,
    )
    if code != OK:
        raise KafkaReadError(f"librdkafka does not take the OAuth token: {_said(said)}")


def end_consumer(consumer: int) -> None:
    """Let go of its connections; no message of it may be held any more."""
    librdkafka().rd_kafka_destroy_flags(consumer, _NO_CONSUMER_CLOSE)
