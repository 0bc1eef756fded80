"""Each event as one S3 object: from a record to the requests that make it durable.

`S3Sink` decides what is written, under which key and in which order; an `S3Client` (`s3_obstore`, `s3_aiobotocore`)
sends it and turns the library's errors into ours. Both clients are given the same requests, so that they differ in
speed only.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from streams.costs import Usage, billed_failures
from streams.envelope import encode_dead_letter, encode_envelope
from streams.errors import RecordRejectedError, SinkRefusedError
from streams.kafka.identity import Identity, decode_identity, encode_identity
from streams.layout import Layout
from streams.ledger import Segment, encode_segment, segment_digest
from streams.metadata import SIDECAR_SUFFIX, object_metadata
from streams.record import Record, name_in_bucket
from streams.settings import Settings
from streams.stats import Stats

JSON: Final = "application/json"
NO_METADATA: Final[dict[str, str]] = {}


class PutRequest(NamedTuple):
    """One object to write, whole.

    `metadata` has names without `x-amz-meta-` and printable ASCII values, and nobody changes it. `content_type` is that
    of the settings where it is `None`. `object_key` has no empty, `.` or `..` segment and no control character
    (`streams.object_key` sees to it): obstore would strip an outer `/` in silence and refuse the rest.
    """

    object_key: str
    body: bytes
    metadata: dict[str, str] = NO_METADATA
    content_type: str | None = None


class S3Client(Protocol):
    """One way to send requests to a bucket: no retries, no state of events, errors as `s3_errors` classifies them."""

    async def start(self) -> None:
        """Build the client on the running event loop; no network needed. Raises `ConfigurationError`."""

    async def put(self, request: PutRequest) -> None:
        """Write the object, replacing one of the same key; returns when S3 has confirmed it with an ETag.

        Raises `RecordRejectedError`, `SinkUnavailableError` or `SinkRefusedError`.
        """

    async def create(self, request: PutRequest) -> bool:
        """The same, unless there is an object of this key already; whether it was written. Raises as `put` does."""

    async def get(self, object_key: str) -> bytes | None:
        """A small object's body, `None` where there is none. Raises as `put` does."""

    async def close(self) -> None:
        """Let go of connections."""


class S3Sink:
    """Keeps the sink contract on top of an `S3Client`."""

    def __init__(self, client: S3Client, layout: Layout, *, envelope: bool = False) -> None:
        self._client = client
        self._layout = layout
        self._render = layout.template.render
        self._envelope = envelope
        self._sidecars = 0
        self._identities = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> S3Sink:
        return cls(make_client(settings), Layout(settings), envelope=settings.body == "envelope")

    async def start(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.close()

    async def write(self, record: Record) -> int:
        """Write the event's object; its sidecar first, where it has one, so that an object that exists is complete."""
        request, sidecar = self.requests(record)
        try:
            if sidecar is not None:
                await self._client.put(sidecar)
                self._sidecars += 1
            await self._client.put(request)
        except RecordRejectedError as rejection:
            raise RecordRejectedError(rejection.reason, f"{record.position}: {rejection.detail}") from rejection
        return len(request.body) + (0 if sidecar is None else len(sidecar.body))

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        topic = name_in_bucket(record.topic, record.life)
        object_key = self._layout.dead_letter_key(topic, record.partition, record.offset)
        body = encode_dead_letter(record, rejection.reason, rejection.detail, self._object_key(record))
        await self._client.put(PutRequest(object_key, body, content_type=JSON))
        return object_key

    async def write_ledger(self, segment: Segment) -> str:
        body = encode_segment(segment)
        place = (segment.topic, segment.partition, segment.start, segment.stop)
        object_key = self._layout.ledger_key(*place, segment_digest(body))
        await self._client.put(PutRequest(object_key, body, content_type=JSON))
        return object_key

    async def read_identity(self, topic: str, tag: str) -> Identity | None:
        body = await self._client.get(self._layout.identity_key(topic, tag))
        return None if body is None else decode_identity(body)

    async def create_identity(self, topic: str, tag: str, identity: Identity) -> bool:
        body = encode_identity(topic, identity)
        try:
            created = await self._client.create(
                PutRequest(self._layout.identity_key(topic, tag), body, content_type=JSON)
            )
        except SinkRefusedError:
            self._identities += 1
            raise
        self._identities += 1
        return created

    def usage(self, stats: Stats) -> Usage:
        """Every PUT is one of those that `stats` counts, or of a sidecar or a topic's identity."""
        objects = stats.events.total() + stats.dead_letters.total() + stats.ledger_segments + self._sidecars
        failures = billed_failures(stats.retries) + stats.ledger_write_errors + self._identities
        return Usage(s3_puts=objects + failures, s3_objects=objects, s3_bytes=stats.sent_bytes.total())

    def requests(self, record: Record) -> tuple[PutRequest, PutRequest | None]:
        """The object that the event becomes and its sidecar (`None` for nearly every event).

        Raises `RecordRejectedError` where the key template cannot be filled in.
        """
        object_key = self._render(record)
        if self._envelope:
            return PutRequest(object_key, encode_envelope(record)), None
        metadata, sidecar = object_metadata(record)
        request = PutRequest(object_key, record.value or b"", metadata)
        if sidecar is None:
            return request, None
        return request, PutRequest(object_key + SIDECAR_SUFFIX, sidecar, content_type=JSON)

    def _object_key(self, record: Record) -> str | None:
        try:
            return self._render(record)
        except RecordRejectedError:
            return None


def make_client(settings: Settings) -> S3Client:
    """The client that `STREAMS_S3_CLIENT` names, not started."""
    # Imported here: the other client's library costs memory for nothing.
    if settings.s3_client == "aiobotocore":
        from streams.sinks.s3_aiobotocore import AiobotocoreClient

        return AiobotocoreClient(settings)
    from streams.sinks.s3_obstore import ObstoreClient

    return ObstoreClient(settings)
