"""One agent, two kinds of bookkeeping: stock Faust's and ours, over the same sink, for `test_stock_faust`.

`faust -A tests.integration.apps.bookkeeping worker`, with `STREAMS_TEST_BOOKKEEPING` set to `stock` or `streams`. The
sink writes a file for each offset below `STREAMS_TEST_DIRECTORY`; while a file `block-OFFSET` is there, the write of
that offset does not finish.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import faust

from streams.application import create_app
from streams.errors import RecordRejectedError
from streams.record import Record

DIRECTORY = Path(os.environ["STREAMS_TEST_DIRECTORY"])


class FileSink:
    """Writes `offset-N`, and waits as long as it is told to."""

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def write(self, record: Record) -> int:
        while (DIRECTORY / f"block-{record.offset}").exists():
            await asyncio.sleep(0.05)
        return (DIRECTORY / f"offset-{record.offset}").write_bytes(record.value or b"")

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        raise AssertionError(f"{record.position} was rejected: {rejection}")


def stock_app() -> faust.App:
    """What one would write with Faust alone: manual acknowledgement after the write, many actors."""
    sink = FileSink()
    app = faust.App(
        os.environ["STREAMS_CONSUMER_GROUP"],
        broker=f"kafka://{os.environ['STREAMS_KAFKA_BOOTSTRAP_SERVERS']}",
        broker_commit_interval=0.3,
        broker_heartbeat_interval=1.0,
        broker_session_timeout=6.0,
        consumer_auto_offset_reset="earliest",
        datadir=DIRECTORY / "data",
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_port=int(os.environ["STREAMS_WEB_PORT"]),  # `faust worker` serves it, whatever `web_enabled` says
    )

    @app.agent(app.topic(os.environ["STREAMS_TOPICS"], key_serializer="raw", value_serializer="raw"), concurrency=100)
    async def archive(stream: Any) -> None:
        stream = stream.noack()
        async for event in stream.events():
            message = event.message
            await sink.write(
                Record(message.topic, message.partition, message.offset, None, None, message.key, message.value)
            )
            await stream.ack(event)

    return app


app = stock_app() if os.environ["STREAMS_TEST_BOOKKEEPING"] == "stock" else create_app(sink=FileSink())
