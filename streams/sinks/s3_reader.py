"""What commands read from the bucket (and delete there): listings, objects, with retries of their own.

The worker never comes here. obstore lists ten times faster than botocore parses; its quirk is that a prefix ends at a
path segment, so one that does not is listed from its folder and cut here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

import obstore
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from streams.errors import DamagedObjectError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.settings import Settings
from streams.sinks.s3_errors import PERMISSION_REMEDY
from streams.sinks.s3_obstore import ObstoreClient

PAGE_OBJECTS: Final = 1000
"""S3 API reference, ListObjectsV2: at most 1,000 keys an answer."""
DEFAULT_PATIENCE_SECONDS: Final = 60.0
MAX_EVENT_OBJECT_BYTES: Final = 1536 * 1024**2
"""No event gives a larger object: Kafka's clients send at most 1,000,000,000 bytes (`message.max.bytes` of librdkafka),
and an envelope holds any bytes in base64, four for three."""
MAX_SEGMENT_OBJECT_BYTES: Final = 1024**2
"""A ledger segment has at most a thousand gaps (`streams.ledger`), some 50 bytes each."""
_LONGEST_PAUSE_SECONDS: Final = 5.0
# What obstore says of a key that is not a path to it; such an object is not one of ours.
_STRANGE_KEY: Final = "empty path segment"
_RIGHTS: Final = {
    "LIST": "s3:ListBucket on arn:aws:s3:::{bucket}",
    "GET": "s3:GetObject on arn:aws:s3:::{bucket}/* (and kms:Decrypt, where a KMS key encrypts it)",
    "HEAD": "s3:GetObject and s3:ListBucket on arn:aws:s3:::{bucket} and its objects",
    "DELETE": "s3:DeleteObject on arn:aws:s3:::{bucket}/*",
}

T = TypeVar("T")


class ListedObject(NamedTuple):
    """An object as a listing shows it."""

    object_key: str
    size_bytes: int
    modified_at: datetime


class FetchedObject(NamedTuple):
    """An object as it is; metadata by name without `x-amz-meta-`, in lower case."""

    object_key: str
    body: bytes
    metadata: dict[str, str]
    modified_at: datetime


class S3Reader:
    """Reads the bucket of the settings; use it with `async with`.

    Throttling, timeouts and outages are waited out for `patience_seconds` a request, and then raise
    `SinkUnavailableError`; a refusal raises `SinkRefusedError` with its remedy at once. `requests` counts what was
    sent, by kind (`LIST`, `GET`, `HEAD`, `DELETE`).
    """

    def __init__(self, settings: Settings, *, patience_seconds: float = DEFAULT_PATIENCE_SECONDS) -> None:
        self._client = ObstoreClient(settings)
        self._bucket = settings.s3_bucket
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(SinkUnavailableError),
            wait=wait_random_exponential(multiplier=settings.retry_base_seconds, max=_LONGEST_PAUSE_SECONDS),
            stop=stop_after_delay(patience_seconds),
            reraise=True,
        )
        self.requests: Counter[str] = Counter()

    async def __aenter__(self) -> S3Reader:
        await self._client.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ListedObject]]:
        """The objects whose keys begin with `prefix` and come behind `after`, in the order of their keys (UTF-8).

        Pages of at most 1,000, one LIST request each.
        """
        folder = prefix[: prefix.rfind("/") + 1]
        last = after if folder == prefix else max(after, prefix[:-1])  # all keys that begin with prefix are behind that
        pages: Any = None

        async def next_page() -> Any:
            """One that failed is asked for anew, behind the last key that came."""
            nonlocal pages
            try:
                if pages is None:
                    store = await self._client.store()
                    pages = aiter(obstore.list(store, folder or None, offset=last or None, chunk_size=PAGE_OBJECTS))
                return await anext(pages, None)
            except BaseException:
                pages = None
                raise

        while page := await self._attempt("LIST", next_page):
            last = page[-1]["path"]
            found = [ListedObject(meta["path"], meta["size"], meta["last_modified"]) for meta in page]
            yield found if folder == prefix else [one for one in found if one.object_key.startswith(prefix)]
            if len(page) < PAGE_OBJECTS or (last > prefix and not last.startswith(prefix)):
                return

    async def get(self, object_key: str, max_bytes: int = MAX_EVENT_OBJECT_BYTES) -> FetchedObject | None:
        """The object, `None` where there is none.

        Raises `DamagedObjectError` for one of more than `max_bytes`, of which nothing is read.
        """

        async def fetch() -> FetchedObject | None:
            answer = await obstore.get_async(await self._client.store(), object_key)
            size_bytes = answer.meta["size"]
            if size_bytes > max_bytes:
                raise DamagedObjectError(
                    f"{object_key} has {size_bytes:,} bytes, and nothing that is written there has more than "
                    f"{max_bytes:,}: it is none of ours and was not read"
                )
            body = bytes(await answer.bytes_async())
            metadata = {name.lower(): str(value) for name, value in answer.attributes.items()}
            return FetchedObject(object_key, body, metadata, answer.meta["last_modified"])

        return await self._attempt("GET", lambda: _or_none(fetch()))

    async def exists(self, object_key: str) -> bool:
        """Whether there is such an object."""

        async def head() -> bool:
            await obstore.head_async(await self._client.store(), object_key)
            return True

        return await self._attempt("HEAD", lambda: _or_none(head())) is not None

    async def delete(self, object_key: str) -> None:
        """Take the object away; one that is gone already is fine."""

        async def delete() -> None:
            await obstore.delete_async(await self._client.store(), object_key)

        await self._attempt("DELETE", lambda: _or_none(delete()))

    async def _attempt(self, kind: str, request: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            self.requests[kind] += 1
            try:
                return await request()
            except StreamsError:
                raise
            except Exception as error:
                # Not chained: obstore's text holds S3's whole answer (see s3_obstore).
                raise self._meaning(kind, error) from None

        return await self._retrying.copy()(once)

    def _meaning(self, kind: str, error: Exception) -> StreamsError:
        if _STRANGE_KEY in str(error):
            return SinkRefusedError(
                "refused",
                "the listing holds a key with an empty segment ('//'), which is none of ours.",
                "Move that object elsewhere, or give the events a prefix of their own (STREAMS_S3_PREFIX).",
            )
        meaning = self._client.translate(error)
        if isinstance(meaning, SinkRefusedError) and meaning.remedy == PERMISSION_REMEDY:
            remedy = (
                f"Allow {_RIGHTS[kind].format(bucket=self._bucket)} in the IAM policy of whoever runs this command "
                "(the worker itself does not need it)."
            )
            return SinkRefusedError(meaning.reason, meaning.detail, remedy)
        return meaning


async def _or_none(request: Awaitable[T]) -> T | None:
    """`None` where S3 has no such object; a bucket that is missing is another matter."""
    try:
        return await request
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise
        return None
