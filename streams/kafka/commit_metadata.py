"""The metadata of a group's commits, byte for byte, from librdkafka's C interface.

confluent-kafka 2.16 reads it up to a zero byte (`c_part_to_py`), and librdkafka's copy ends where the metadata ends:
what another client has committed (this worker's releases on aiokafka did) comes with whatever lies behind it in memory,
or is not UTF-8 any more and cannot be had. What confluent-kafka has committed holds the zero byte and comes as it was.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from streams.kafka.admin import Committed
from streams.kafka.librdkafka import INT, OK, POINTER, TEXT, end_consumer, librdkafka, make_consumer
from streams.record import TopicPartition

_OPTIONS: Final = {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",  # a transaction that is committing offsets is waited for (KIP-447)
    "log_level": 0,
}


class _Partition(ctypes.Structure):
    """`rd_kafka_topic_partition_t`, as rdkafka.h defines it."""

    _fields_ = (
        ("topic", TEXT),
        ("partition", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("metadata", POINTER),
        ("metadata_size", ctypes.c_size_t),
        ("opaque", POINTER),
        ("err", INT),
        ("_private", POINTER),
    )


class _Partitions(ctypes.Structure):
    """`rd_kafka_topic_partition_list_t`."""

    _fields_ = (("cnt", INT), ("size", INT), ("elems", ctypes.POINTER(_Partition)))


def committed_exactly(
    options: Mapping[str, Any], partitions: Iterable[TopicPartition], limit_seconds: float
) -> dict[TopicPartition, Committed]:
    """What the group has committed, for those partitions that it has committed anything for. Blocks.

    Args:
        options: a consumer's of confluent-kafka, its `group.id` among them.
        partitions: each of a topic that exists.
        limit_seconds: how long to wait for the coordinator.

    Raises:
        KafkaException: the coordinator is away or refuses.
        KafkaReadError: librdkafka does not take the options.
    """
    library = librdkafka()
    consumer = make_consumer(
        {**options, "enable.auto.commit": False, "isolation.level": "read_committed", "log_level": 0}
    )
    asked = library.rd_kafka_topic_partition_list_new(1)
    try:
        for tp in partitions:
            library.rd_kafka_topic_partition_list_add(asked, tp.topic.encode(), tp.partition)
        code = library.rd_kafka_committed(consumer, asked, int(limit_seconds * 1000))
        if code != OK:
            raise KafkaException(KafkaError(code))
        found = _Partitions.from_address(asked)
        return dict(_read(found.elems[index]) for index in range(found.cnt) if found.elems[index].offset >= 0)
    finally:
        library.rd_kafka_topic_partition_list_destroy(asked)
        end_consumer(consumer)


def _read(found: Any) -> tuple[TopicPartition, Committed]:
    if found.err != OK:
        raise KafkaException(KafkaError(found.err))
    metadata = ctypes.string_at(found.metadata, found.metadata_size) if found.metadata else b""
    # One zero byte is confluent-kafka's own; what is not UTF-8 is nobody's ledger.
    text = metadata.removesuffix(b"\0").decode("utf-8", "replace")
    return TopicPartition(found.topic.decode(), found.partition), Committed(found.offset, text)
