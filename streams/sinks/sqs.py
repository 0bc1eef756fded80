"""Each event as one SQS message: what is sent where, and what happens to events that a message cannot hold.

`sqs_message` makes the messages, `sqs_batches` gathers them into requests, `sqs_client` sends those. Events past the
size limit, and dead letters, go to the bucket through the S3 sink, where one is configured.
"""

from __future__ import annotations

from typing import Final

from streams.costs import Usage
from streams.errors import RecordRejectedError
from streams.layout import Layout
from streams.record import Record
from streams.settings import Settings
from streams.sinks.s3 import S3Client, S3Sink, make_client
from streams.sinks.sqs_batches import Batches, ComesBack
from streams.sinks.sqs_client import SqsClient
from streams.sinks.sqs_message import Message, MessageRules
from streams.stats import Stats

SERVICE_LIMIT_BYTES: Final = 1024**2
"""SQS's own limit for a message and for a request. Dead letters are held to it alone: what is past the settings' limit
must still find a place."""


class SqsSink:
    """Keeps the sink contract on top of a queue; the ledger is not kept, for it is a proof of what lies in a bucket.

    A message has no name, so writing an event again puts it into a standard queue again; a FIFO queue drops it within
    five minutes, by its deduplication id.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.sqs_queue_url is None:
            raise ValueError("no queue is configured")
        self._rules = message_rules(settings, settings.sqs_queue_url)
        self._max_message_bytes = settings.sqs_max_message_bytes
        self._overflow = _Overflow(settings, self._rules) if settings.s3_bucket else None
        self._queue = _Queue(settings, settings.sqs_queue_url, settings.sqs_max_message_bytes, self._goes_another_way)
        self._dead_letters: _Queue | None = None
        if self._overflow is None and settings.sqs_dead_letter_queue_url is not None:
            self._dead_letters = _Queue(settings, settings.sqs_dead_letter_queue_url, SERVICE_LIMIT_BYTES)
            self._dead_letter_rules = message_rules(settings, settings.sqs_dead_letter_queue_url)

    async def start(self) -> None:
        await self._queue.start()
        if self._dead_letters is not None:
            await self._dead_letters.start()
        if self._overflow is not None:
            await self._overflow.start()

    async def close(self) -> None:
        await self._queue.close()
        if self._dead_letters is not None:
            await self._dead_letters.close()
        if self._overflow is not None:
            await self._overflow.close()

    async def write(self, record: Record) -> int:
        """Send the event's message; the number of bytes is what SQS counts, and the object's, where there is one."""
        try:
            message = self._rules.message(record)
            if message.size_bytes <= self._max_message_bytes:
                try:
                    await self._queue.send(message)
                    return message.size_bytes
                except RecordRejectedError as rejection:  # the queue's own limit may be lower than ours
                    if not self._goes_another_way(rejection):
                        raise
            return await self._write_past_limit(record, message)
        except RecordRejectedError as rejection:
            raise RecordRejectedError(rejection.reason, f"{record.position}: {rejection.detail}") from rejection

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        if self._overflow is not None:
            return await self._overflow.write_dead_letter(record, rejection)
        if self._dead_letters is None:
            raise RecordRejectedError("invalid_request", "there is neither a bucket nor a queue for dead letters")
        message = self._dead_letter_rules.dead_letter(record, rejection)
        if message.size_bytes > SERVICE_LIMIT_BYTES:
            raise _too_large(message, "SQS's limit of 1 MiB")
        await self._dead_letters.send(message)
        return f"{self._dead_letters.url} ({record.position})"

    def usage(self, stats: Stats) -> Usage:
        """Requests as the clients have counted them: how many events share one is known to nobody else."""
        requests = self._queue.billed_requests
        if self._dead_letters is not None:
            requests += self._dead_letters.billed_requests
        if self._overflow is None:
            return Usage(sqs_requests=requests)
        return Usage(self._overflow.puts, self._overflow.objects, self._overflow.object_bytes, requests)

    def _goes_another_way(self, rejection: RecordRejectedError) -> bool:
        """Whether an event that the queue rejects becomes an object with a message that points to it."""
        return rejection.reason == "too_large" and self._overflow is not None

    async def _write_past_limit(self, record: Record, message: Message) -> int:
        """The event as an object, and then a message that points to it: a pointer never points to nothing."""
        if self._overflow is None:
            raise _too_large(message, f"{self._max_message_bytes} (STREAMS_SQS_MAX_MESSAGE_BYTES)")
        with self._queue.expecting(message):
            pointer, object_bytes = await self._overflow.write(record)
            await self._queue.send(pointer)
        return pointer.size_bytes + object_bytes


class _Queue:
    """One queue: its requests in the making, and the client that sends them."""

    def __init__(
        self, settings: Settings, url: str, max_bytes: int, comes_back: ComesBack = lambda rejection: False
    ) -> None:
        self.url = url
        self._client = SqsClient(settings, url)
        self._batches = Batches(
            self._client.send_batch,
            max_events=settings.sqs_batch_events,
            max_bytes=max_bytes,
            linger_seconds=settings.sqs_batch_linger_ms / 1000,
            return_seconds=settings.retry_max_seconds,
            group_events=settings.sqs_group_events,
            comes_back=comes_back,
        )
        self.send = self._batches.send
        self.expecting = self._batches.expecting

    @property
    def billed_requests(self) -> int:
        """Requests that SQS has answered, as it bills them."""
        return self._client.billed_requests

    async def start(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._batches.close()
        await self._client.close()


class _Overflow:
    """The bucket for what does not fit into a queue, written by the S3 sink."""

    def __init__(self, settings: Settings, rules: MessageRules) -> None:
        self._bucket = settings.s3_bucket
        self._rules = rules
        self._client: S3Client = make_client(settings)
        layout = Layout(settings)
        self._values = S3Sink(self._client, layout)
        self._envelopes = S3Sink(self._client, layout, envelope=True)
        self.puts = 0
        self.objects = 0
        self.object_bytes = 0

    async def start(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.close()

    async def write(self, record: Record) -> tuple[Message, int]:
        """Write the event's object; the message that points to it, and the object's bytes."""
        sink = self._envelopes if self._rules.needs_envelope(record) else self._values
        object_key = sink.requests(record)[0].object_key
        self.puts += 1
        object_bytes = await sink.write(record)
        self.objects += 1
        self.object_bytes += object_bytes
        return self._rules.pointer(record, self._bucket, object_key, object_bytes), object_bytes

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        self.puts += 1
        object_key = await self._values.write_dead_letter(record, rejection)
        self.objects += 1
        return object_key


def message_rules(settings: Settings, queue_url: str) -> MessageRules:
    """How messages for this queue are made."""
    return MessageRules(
        envelope=settings.body == "envelope",
        fifo=queue_url.endswith(".fifo"),
        group_by_key=settings.sqs_group_by == "key",
    )


def _too_large(message: Message, limit: str) -> RecordRejectedError:
    return RecordRejectedError(
        "too_large",
        f"the message would have {message.size_bytes} bytes, more than {limit}, and no STREAMS_S3_BUCKET is set for "
        "such events",
    )
