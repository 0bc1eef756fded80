"""What a consumer group has committed, so that the answer can be relied on: no error is "nothing committed".

Asked by a consumer of librdkafka's C interface that joins nothing. confluent-kafka 2.16 offers two other ways, and both
fail here: the admin client's `list_consumer_group_offsets` ends the process by SIGSEGV when a broker answers that it is
not the group's coordinator (librdkafka issue 5040), and `Consumer.committed` reads the metadata of other clients'
commits past its end (`c_part_to_py` looks for a zero byte, which confluent-kafka itself commits).
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from streams.kafka.admin import Committed
from streams.kafka.librdkafka import INT, OK, POINTER, TEXT, end_consumer, librdkafka, make_consumer
from streams.record import TopicPartition

ASK_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.1
_OPTIONS: Final = {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",  # a transaction that is committing offsets is waited for (KIP-447)
    "log_level": 0,
}
_PASSING: Final = frozenset(
    {
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
    }
)
_REFUSALS: Final = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION})

Answers = dict[TopicPartition, "Committed | KafkaError | None"]


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


class _Message(ctypes.Structure):
    """The head of `rd_kafka_message_t`."""

    _fields_ = (("err", INT),)


class GroupOffsets:
    """Asks a group's coordinator; connects when it is asked for the first time. One question at a time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """`options` are a consumer's (`client_options`), its `group.id` among them."""
        self._options = {**options, **_OPTIONS}
        self._consumer: int | None = None
        self._asking = threading.Lock()

    async def committed(self, partitions: Iterable[TopicPartition], limit_seconds: float = ASK_SECONDS) -> Answers:
        """What the group has committed; `None`: nothing yet, a `KafkaError` where one partition is refused.

        Raises:
            KafkaException: the coordinator is away, loading or refuses, and so until `limit_seconds` had passed.
            KafkaReadError: librdkafka does not take the options.
        """
        wanted = list(partitions)
        return await asyncio.to_thread(self._ask, wanted, limit_seconds) if wanted else {}

    async def close(self) -> None:
        """Let go of the connections; the next question makes new ones."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._asking:
            if self._consumer is not None:
                end_consumer(self._consumer)
                self._consumer = None

    def _ask(self, partitions: list[TopicPartition], limit_seconds: float) -> Answers:
        library = librdkafka()
        with self._asking:
            if self._consumer is None:
                self._consumer = make_consumer(self._options)
            asked = library.rd_kafka_topic_partition_list_new(len(partitions))
            try:
                for tp in partitions:
                    library.rd_kafka_topic_partition_list_add(asked, tp[0].encode(), tp[1])
                code = library.rd_kafka_committed(self._consumer, asked, int(limit_seconds * 1000))
                refusal = self._refusal()
                if code != OK:
                    raise KafkaException(KafkaError(refusal or code))
                return dict(_answers(asked))
            finally:
                library.rd_kafka_topic_partition_list_destroy(asked)

    def _refusal(self) -> int | None:
        """Why no coordinator is found: librdkafka's answer says only that time is up."""
        library, found = librdkafka(), None
        while (address := library.rd_kafka_consumer_poll(self._consumer, 0)) is not None:
            code = _Message.from_address(address).err
            library.rd_kafka_message_destroy(address)
            found = code if code in _REFUSALS else found
        return found


def _answers(asked: int) -> Iterator[tuple[TopicPartition, Committed | KafkaError | None]]:
    found = _Partitions.from_address(asked)
    for index in range(found.cnt):
        one = found.elems[index]
        yield TopicPartition(one.topic.decode(), one.partition), _answer(one)


def _answer(found: Any) -> Committed | KafkaError | None:
    if found.err != OK:
        return KafkaError(found.err)
    if found.offset < 0:
        return None
    metadata = ctypes.string_at(found.metadata, found.metadata_size) if found.metadata else b""
    # One zero byte is confluent-kafka's own; what is not UTF-8 is nobody's ledger.
    return Committed(found.offset, metadata.removesuffix(b"\0").decode("utf-8", "replace"))


async def committed_offsets(
    options: Mapping[str, Any],
    group: str,
    partitions: Iterable[TopicPartition],
    patience_seconds: float = PATIENCE_SECONDS,
) -> Answers:
    """What a group has committed, asked once: whatever passes (a transaction that ends, a coordinator) is waited for.

    Raises:
        KafkaException: the coordinator refuses, or could not say within `patience_seconds`.
    """
    asking, wanted = GroupOffsets({**options, "group.id": group}), list(partitions)
    deadline = monotonic() + patience_seconds
    try:
        while True:
            try:
                found = await asking.committed(wanted, min(ASK_SECONDS, patience_seconds))
                passing = [one for one in found.values() if isinstance(one, KafkaError) and one.code() in _PASSING]
                if not passing:
                    return found
                error = KafkaException(passing[0])
            except KafkaException as raised:
                error = raised
            if error.args[0].code() not in _PASSING or monotonic() > deadline:
                raise error
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await asking.close()
