"""What a consumer group has committed, asked so that the answer can be relied on after a crash.

aiokafka's own request neither waits for the end of a transaction that is committing offsets (KIP-447) nor looks at an
error of the whole group, which then reads like "nothing committed". Restore would publish events twice on that.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.1
UNSTABLE_OFFSET_COMMIT = 88
"""Kafka's error code for offsets in a transaction that has not ended yet; aiokafka does not know it."""


class _StableOffsetsResponse(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _StableOffsetsRequest(RequestStruct):
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _StableOffsetsResponse
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class _StableOffsets(Request[_StableOffsetsRequest]):
    API_KEY = 9

    def __init__(self, group: str, partition: TopicPartition) -> None:
        self._group = group
        self._partition = partition

    def build(self, request_struct_class: type[_StableOffsetsRequest]) -> _StableOffsetsRequest:
        topics: list[Any] = [(self._partition.topic, [self._partition.partition], {})]
        return request_struct_class(self._group, topics, True, {})


async def stable_offset(client: AIOKafkaClient, group: str, partition: TopicPartition) -> OffsetAndMetadata | None:
    """The group's committed offset, transactions that were under way included; `None` where nothing is committed.

    Raises `KafkaError` when the coordinator refuses, or cannot say for a minute.
    """
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        try:
            return await _ask(client, group, partition)
        except KafkaError as error:
            passing = error.retriable or getattr(error, "errno", None) == UNSTABLE_OFFSET_COMMIT
            if not passing or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _ask(client: AIOKafkaClient, group: str, partition: TopicPartition) -> OffsetAndMetadata | None:
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    await client.ready(node, group=ConnectionGroup.COORDINATION)
    answer: Any = await client.send(node, _StableOffsets(group, partition), group=ConnectionGroup.COORDINATION)
    _check(answer.error_code)
    for _topic, partitions, _tags in answer.topics:
        for _number, offset, _epoch, metadata, error_code, _more in partitions:
            _check(error_code)
            return OffsetAndMetadata(offset, metadata or "") if offset >= 0 else None
    return None


def _check(error_code: int) -> None:
    if error_code == UNSTABLE_OFFSET_COMMIT:
        error = KafkaError("a transaction is committing offsets of the group")
        error.errno = error_code
        raise error
    if error_code:
        raise for_code(error_code)()
