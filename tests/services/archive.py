"""The proof: every event that Kafka was given is one object in S3 with the same bytes, and nothing else is there.

It reads S3 with a client of its own and the metadata with a parser of its own, so that an error of the worker's
encoder is not undone by the worker's decoder.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server, StoredObject

SIDECAR_SUFFIX = ".kafka.json"
_OTHERS = re.compile(r"(?:^|/)(?:dead-letter|ledger)/")
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_READERS = 4

Position = tuple[str, int, int]
"""Topic, partition, offset."""
Headers = tuple[tuple[str, bytes | None], ...]
Content = tuple[bytes | None, bytes | None, Headers]
"""Key, value, headers."""


@dataclass(frozen=True)
class ArchivedEvent:
    """An event as read back from S3."""

    object_key: str
    position: Position
    content: Content


class Archive:
    """What a bucket holds under a prefix (`""`: all of it), as events. Dead letters and the ledger are left out."""

    def __init__(self, s3_server: S3Server, bucket: str, prefix: str = "") -> None:
        self._s3_server = s3_server
        self.bucket = bucket
        self.prefix = prefix
        self._pool = urllib3.PoolManager(maxsize=_READERS, retries=False)
        self._signer = S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)

    def keys(self) -> list[str]:
        """The keys of the events: neither sidecars, dead letters nor the ledger."""
        keys = self._s3_server.keys(self.bucket, self.prefix)
        return [key for key in keys if not key.endswith(SIDECAR_SUFFIX) and not _OTHERS.search(key)]

    def events(self) -> list[ArchivedEvent]:
        """Every event, in the order of the object keys."""
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(lambda key: self._event(self.read(key)), self.keys()))

    def read(self, key: str) -> StoredObject:
        """One object. Signed here, as boto3 needs half again as long and fault tests read ten thousands."""
        url = f"{self._s3_server.endpoint_url}/{self.bucket}/{quote(key)}"
        request = AWSRequest("GET", url, headers={"x-amz-content-sha256": _EMPTY_SHA256})
        self._signer.add_auth(request)
        answer = self._pool.request("GET", url, headers=dict(request.headers.items()))
        if answer.status != 200:
            raise AssertionError(f"object {key} cannot be read: {answer.status} {answer.data[:300]!r}")
        metadata = {
            name.lower().removeprefix("x-amz-meta-"): value
            for name, value in answer.headers.items()
            if name.lower().startswith("x-amz-meta-")
        }
        return StoredObject(key, answer.data, metadata, answer.headers.get("content-type", ""))

    def _event(self, stored: StoredObject) -> ArchivedEvent:
        """The event that a raw object and its metadata (or its sidecar) stand for."""
        metadata = stored.metadata
        try:
            topic, partition, offset = metadata["kafka-position"].split("/")
            position = (unquote_to_bytes(topic).decode(), int(partition), int(offset))
        except KeyError as missing:
            raise AssertionError(f"object {stored.key} has no metadata {missing}, only {metadata}") from None
        value = None if metadata.get("kafka-null") == "value" else stored.body
        if value is None:
            assert stored.body == b"", f"object {stored.key} is said to be null and has {len(stored.body)} bytes"
        if "kafka-sidecar" in metadata:
            key, headers = _sidecar(json.loads(self.read(stored.key + metadata["kafka-sidecar"]).body))
        else:
            empty = b"" if metadata.get("kafka-empty") == "key" else None
            key = unquote_to_bytes(metadata["kafka-key"]) if "kafka-key" in metadata else empty
            headers = _headers(metadata)
        return ArchivedEvent(stored.key, position, (key, value, headers))

    def assert_complete(self, expected: Mapping[Position, Content]) -> None:
        """Every expected event is there once, byte for byte, and nothing else is.

        The message of the error lists what is missing, wrong, doubled and unexpected, a few of each.
        """
        found: dict[Position, ArchivedEvent] = {}
        doubled: list[str] = []
        for event in self.events():
            if event.position in found:
                doubled.append(f"{event.position}: {found[event.position].object_key} and {event.object_key}")
            found[event.position] = event
        missing = [str(position) for position in expected if position not in found]
        unexpected = [f"{event.object_key}" for position, event in found.items() if position not in expected]
        wrong = [
            f"{position}: expected {_short(content)}, found {_short(found[position].content)}"
            for position, content in expected.items()
            if position in found and found[position].content != content
        ]
        problems = {"missing": missing, "wrong": wrong, "doubled": doubled, "unexpected": unexpected}
        report = [_report(kind, lines) for kind, lines in problems.items() if lines]
        if report:
            head = f"{len(expected)} events expected in {self.bucket}/{self.prefix}, {len(found)} found"
            raise AssertionError("\n".join([head, *report]))


def assert_complete(s3_server: S3Server, bucket: str, prefix: str, expected: Mapping[Position, Content]) -> None:
    """`Archive(...).assert_complete`, in one call."""
    Archive(s3_server, bucket, prefix).assert_complete(expected)


def next_offsets(expected: Mapping[Position, Content]) -> dict[tuple[str, int], int]:
    """What a group must have committed when every expected event is durable (without gaps at the end)."""
    offsets: dict[tuple[str, int], int] = {}
    for topic, partition, offset in expected:
        offsets[topic, partition] = max(offsets.get((topic, partition), 0), offset + 1)
    return offsets


def _headers(metadata: Mapping[str, str]) -> Headers:
    text = metadata.get("kafka-headers")
    if text is None:
        return ()
    pairs = (pair.partition("=") for pair in text.split("&"))
    return tuple(
        (unquote_to_bytes(name).decode(), unquote_to_bytes(value) if equals else None) for name, equals, value in pairs
    )


def _sidecar(document: Mapping[str, Any]) -> tuple[bytes | None, Headers]:
    headers = tuple((name, _bytes(value, encoding)) for name, value, encoding in document["headers"])
    return _bytes(document["key"], document["key_encoding"]), headers


def _bytes(text: str | None, encoding: str | None) -> bytes | None:
    if text is None:
        return None
    return base64.b64decode(text) if encoding == "base64" else text.encode()


def _short(content: Content) -> str:
    return " ".join(repr(part) if len(repr(part)) < 120 else repr(part)[:117] + "..." for part in content)


def _report(kind: str, lines: Sequence[str]) -> str:
    shown = "\n  ".join(lines[:10])
    more = f"\n  and {len(lines) - 10} more" if len(lines) > 10 else ""
    return f"{len(lines)} {kind}:\n  {shown}{more}"
