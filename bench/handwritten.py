"""What a good engineer would write in an afternoon: aiokafka, an asynchronous S3 client, a window of writes in flight.

The bar for the worker. It is quick because of what it leaves out: no retries, dead letters, metadata, metrics,
bound on bytes, adaptive limit, or care at a rebalance. It loses nothing in the plain case: what it commits is, for
each partition, the lowest offset that is not stored yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Put = Callable[[str, bytes], Awaitable[object]]

_COMMIT_INTERVAL_SECONDS = 0.5


class Partition:
    """The offsets of one partition that are in flight, in delivery order."""

    def __init__(self) -> None:
        self._pending: dict[int, None] = {}
        self._next = 0

    def started(self, offset: int) -> None:
        """A write of `offset` begins."""
        self._pending[offset] = None
        self._next = offset + 1

    def stored(self, offset: int) -> None:
        """The write of `offset` is durable."""
        del self._pending[offset]

    @property
    def front(self) -> int:
        """The lowest offset that is not stored: what may be committed."""
        return next(iter(self._pending), self._next)


@asynccontextmanager
async def obstore_client(endpoint_url: str, bucket: str, in_flight: int) -> AsyncIterator[Put]:
    """obstore, tuned: its pool keeps every connection, one request per object."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        bucket,
        endpoint=endpoint_url,
        region=os.environ["STREAMS_S3_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "pool_max_idle_per_host": str(in_flight)},
    )

    def put(key: str, body: bytes) -> Awaitable[object]:
        return obstore.put_async(store, key, body, use_multipart=False)

    yield put


@asynccontextmanager
async def aiobotocore_client(endpoint_url: str, bucket: str, in_flight: int) -> AsyncIterator[Put]:
    """aiobotocore, tuned: a connection for each write in flight, no parameter validation, few checksums."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(
        max_pool_connections=in_flight,
        s3={"addressing_style": "path"},
        parameter_validation=False,
        request_checksum_calculation="when_required",
    )
    region = os.environ["STREAMS_S3_REGION"]
    session = get_session()
    async with session.create_client("s3", endpoint_url=endpoint_url, region_name=region, config=config) as client:

        def put(key: str, body: bytes) -> Awaitable[object]:
            answer: Awaitable[object] = client.put_object(Bucket=bucket, Key=key, Body=body)
            return answer

        yield put


class Archiver:
    """Consumer, window and commits."""

    def __init__(self, consumer: AIOKafkaConsumer, put: Put, in_flight: int) -> None:
        self._consumer = consumer
        self._put = put
        self._in_flight = in_flight
        self._window = asyncio.Semaphore(in_flight)
        self._partitions: defaultdict[TopicPartition, Partition] = defaultdict(Partition)
        self._writes: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._stopping = False

    def stop(self) -> None:
        """Take no more events; those in flight are finished."""
        self._stopping = True

    async def run(self) -> None:
        """Archive until stopped or until a write fails: there are no retries here."""
        commits = asyncio.create_task(self._commit_now_and_then())
        while not self._stopping:
            for partition, records in (await self._consumer.getmany(timeout_ms=200)).items():
                await self._start_writes(self._partitions[partition], records)
        await asyncio.gather(*self._writes, return_exceptions=True)
        commits.cancel()
        await self._commit()
        if self._failure is not None:
            raise self._failure

    async def _start_writes(self, partition: Partition, records: list[ConsumerRecord]) -> None:
        for record in records:
            await self._window.acquire()
            if self._stopping:
                return
            partition.started(record.offset)
            write = asyncio.create_task(self._write(record, partition))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write(self, record: ConsumerRecord, partition: Partition) -> None:
        topic, number, offset = record.topic, record.partition, record.offset
        try:
            await self._put(f"{topic}/{number}/{offset:020d}.json", record.value)
            partition.stored(offset)
        except Exception as error:
            self._failure = error
            self.stop()
        finally:
            self._window.release()

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_INTERVAL_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        if self._partitions:
            await self._consumer.commit({name: partition.front for name, partition in self._partitions.items()})


async def main() -> None:
    """Archive the topic in the environment until SIGTERM."""
    in_flight = int(os.environ["STREAMS_MAX_IN_FLIGHT"])
    make_client = {"obstore": obstore_client, "aiobotocore": aiobotocore_client}[os.environ["STREAMS_S3_CLIENT"]]
    consumer = AIOKafkaConsumer(
        os.environ["STREAMS_TOPICS"],
        bootstrap_servers=os.environ["STREAMS_KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["STREAMS_CONSUMER_GROUP"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with make_client(os.environ["STREAMS_S3_ENDPOINT_URL"], os.environ["STREAMS_S3_BUCKET"], in_flight) as put:
        await consumer.start()
        try:
            archiver = Archiver(consumer, put, in_flight)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, archiver.stop)
            await archiver.run()
        finally:
            await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main())
