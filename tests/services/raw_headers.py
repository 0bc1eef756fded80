"""Publishes header names that are not UTF-8, which confluent-kafka's producer cannot: aiokafka's builder in Python can.

Kafka's protocol forbids such names and its broker takes them; other clients write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Literal
from unittest.mock import patch

from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator
from aiokafka.producer import producer as aiokafka_producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

NOT_UTF8 = b"caf\xe9"
ESCAPED = "caf\udce9"
"""The same name as PEP 383 decodes it."""


class RawName(str):
    """A header name that goes to Kafka as the bytes of `NOT_UTF8`, whatever it is."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return NOT_UTF8


RAW_NAME = RawName("x")
RawHeaders = Sequence[tuple[str, bytes | None]]


async def produce_raw_headers(
    bootstrap_servers: str,
    topic: str,
    events: Iterable[tuple[bytes, RawHeaders]],
    *,
    partition: int = 0,
    compression: Literal["gzip"] | None = None,
) -> None:
    """Publish `(value, headers)` and return when all are acknowledged; `RAW_NAME` is the name that is not UTF-8."""
    with ExitStack() as patches:
        for module in (aiokafka_producer, message_accumulator):
            patches.enter_context(patch.object(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy))
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, compression_type=compression) as producer:
            for value, headers in events:
                await producer.send(topic, value, headers=list(headers), partition=partition)
            await producer.flush()
