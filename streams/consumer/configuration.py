"""What librdkafka's consumer is told beyond the connection: the group, the fetches, the memory."""

from __future__ import annotations

from typing import Any, Final

from streams.kafka.connection import client_options
from streams.settings import Settings

MAX_POLL_INTERVAL_MS: Final = 300_000
"""The poller polls at all times, in an outage of the sink, too; who does not for so long leaves the group."""
DEFLATE_MAX_RATIO: Final = 1032
"""Deflate makes nothing smaller than this (zlib's technical notes): what bounds a fetch once it is decompressed."""
MIN_FETCH_BYTES: Final = 128 * 1024
MAX_QUEUE_BYTES: Final = 16 * 1024 * 1024
MAX_QUEUE_EVENTS: Final = 10_000
"""librdkafka asks for no more while it has so many; what is under way then comes on top."""


def consumer_configuration(settings: Settings) -> dict[str, Any]:
    """The whole configuration of the worker's consumer (librdkafka's names)."""
    fetch_bytes = _fetch_bytes(settings)
    return {
        # A client properties file may say otherwise: these decide how soon something comes, and nothing else.
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        **client_options(settings),
        "group.id": settings.consumer_group,
        **_group(settings),
        **({"client.rack": settings.kafka_client_rack} if settings.kafka_client_rack else {}),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # every partition is begun at a known offset; one that left its range is told
        "enable.partition.eof": True,  # the position behind control records at the end
        "isolation.level": "read_committed",
        "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
        "fetch.queue.backoff.ms": 10,
        "fetch.max.bytes": fetch_bytes,
        "max.partition.fetch.bytes": fetch_bytes,
        "message.max.bytes": fetch_bytes,  # else it raises fetch.max.bytes
        "queued.max.messages.kbytes": max(1024, min(MAX_QUEUE_BYTES, settings.max_in_flight_bytes // 4) // 1024),
        "queued.min.messages": MAX_QUEUE_EVENTS,
    }


def _fetch_bytes(settings: Settings) -> int:
    """Of one answer of a broker: what was compressed as well as can be still fits into STREAMS_MAX_IN_FLIGHT_BYTES."""
    return min(settings.kafka_fetch_max_bytes, max(MIN_FETCH_BYTES, settings.max_in_flight_bytes // DEFLATE_MAX_RATIO))


def _group(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"group.protocol": settings.kafka_group_protocol}
    if settings.kafka_group_instance_id:
        options["group.instance.id"] = settings.kafka_group_instance_id
    if settings.kafka_group_protocol == "consumer":
        return options  # KIP-848: session timeout, heartbeat and assignor are the broker's
    session_ms = int(settings.kafka_session_timeout_seconds * 1000)
    return options | {
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": session_ms // 15,
    }
