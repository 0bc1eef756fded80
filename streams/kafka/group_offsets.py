"""What a consumer group has committed, asked so that the answer can be relied on: no error is "nothing committed".

Asked with a consumer of the group that joins nothing. The admin client's `list_consumer_group_offsets` ends the process
by SIGSEGV when a broker answers that it is not the group's coordinator, or not yet (librdkafka issue 5040, in 2.16).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as _TopicPartition

from streams.kafka.admin import Committed
from streams.record import TopicPartition

PATIENCE_SECONDS: Final = 60.0
CALL_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.1
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


async def committed_offsets(
    options: Mapping[str, Any],
    group: str,
    partitions: Iterable[TopicPartition],
    patience_seconds: float = PATIENCE_SECONDS,
) -> dict[TopicPartition, Committed | KafkaError | None]:
    """What the group has committed, by partition; `None`: nothing yet.

    A transaction that is committing offsets is waited for (KIP-447), and a coordinator that is away or loading.

    Args:
        options: how to connect (`client_options`).
        group: its name.
        partitions: what is asked about.
        patience_seconds: how long to wait for what passes.

    Raises:
        KafkaException: the coordinator refuses, or could not say in time.
    """
    wanted = [_TopicPartition(tp[0], tp[1]) for tp in partitions]
    consumer = await asyncio.to_thread(Consumer, _options(options, group))
    try:
        answer = await _patiently(consumer, wanted, monotonic() + patience_seconds)
    finally:
        await asyncio.to_thread(consumer.close)
    return {TopicPartition(tp.topic, tp.partition): _committed(tp) for tp in answer}


def _options(options: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {
        **options,
        "group.id": group,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",  # asks for stable offsets, too
        "log_level": 0,
    }


async def _patiently(consumer: Any, wanted: list[Any], deadline: float) -> list[Any]:
    while True:
        try:
            answer = await asyncio.to_thread(consumer.committed, wanted, CALL_SECONDS)
            passing = [tp.error for tp in answer if tp.error is not None and tp.error.code() in _PASSING]
            if not passing:
                return list(answer)
            error = KafkaException(passing[0])
        except KafkaException as raised:
            error = _refusal(consumer) or raised
        if error.args[0].code() not in _PASSING or monotonic() > deadline:
            raise error
        await asyncio.sleep(PAUSE_SECONDS)


def _refusal(consumer: Any) -> KafkaException | None:
    """Why no coordinator is found: `committed` says only that time is up."""
    while (message := consumer.poll(0)) is not None:
        problem = message.error()
        if problem is not None and problem.code() in _REFUSALS:
            return KafkaException(problem)
    return None


def _committed(found: Any) -> Committed | KafkaError | None:
    if found.error is not None:
        error: KafkaError = found.error
        return error
    return Committed(found.offset, found.metadata or "") if found.offset >= 0 else None
