"""The first stage alone: aiokafka fetches and decodes what the worker would read, and nobody uses it."""

from __future__ import annotations

import os

import uvloop
from aiokafka import AIOKafkaConsumer

from bench.stage_app import Meter


async def _fetch() -> None:
    topic, meter = os.environ["STREAMS_TOPICS"], Meter(int(os.environ["BENCH_EVENTS"]))
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=os.environ["STREAMS_KAFKA_BOOTSTRAP_SERVERS"],
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    while True:
        for records in (await consumer.getmany(timeout_ms=1000, max_records=1000)).values():
            for _ in records:
                meter.count()


if __name__ == "__main__":
    uvloop.run(_fetch())
