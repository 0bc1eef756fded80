"""Compares what was published with what lies in the bucket, object by object and byte by byte.

It reads with boto3, which is not the library that the worker writes with, and looks at the object's key and body and at
the metadata that names its place in Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from demo.broker import Position, Published
from demo.errors import DemoError

if TYPE_CHECKING:
    from botocore.client import BaseClient

ACCESS_KEY = "demo"
SECRET_KEY = "demo-secret"
REGION = "us-east-1"


def object_key(topic: str, position: Position) -> str:
    """The worker's default: `{prefix}{topic}/{partition}/{offset}.json`, without a prefix, the offset in 20 digits."""
    partition, offset = position
    return f"{topic}/{partition}/{offset:020d}.json"


class Bucket:
    """A bucket of the embedded S3, made on construction."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._client: BaseClient = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        self._client.create_bucket(Bucket=name)

    def keys(self, topic: str) -> set[str]:
        """What is under a topic's name; the ledger has a place of its own."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{topic}/")
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def mistake(self, topic: str, position: Position, value: bytes) -> str | None:
        """What is wrong with this message's object, if anything."""
        key = object_key(topic, position)
        answer = self._client.get_object(Bucket=self.name, Key=key)
        body = answer["Body"].read()
        if body != value:
            return f"{key} holds {body!r} instead of {value!r}"
        place = f"{topic}/{position[0]}/{position[1]}"
        found = answer["Metadata"].get("kafka-position")
        return None if found == place else f"{key} says that it is {found} instead of {place}"


def verify(bucket: Bucket, topic: str, published: Published, advance: Callable[[int], None]) -> int:
    """Returns how many objects were verified, which is every message; raises at the first that is not right.

    `advance` is told how many are done.
    """
    expected = {object_key(topic, position) for position in published}
    found = bucket.keys(topic)
    if found != expected:
        missing, unknown = sorted(expected - found), sorted(found - expected)
        raise DemoError(
            f"{len(missing)} objects are missing {missing[:3]} and {len(unknown)} are unexpected {unknown[:3]}."
        )
    for done, (position, value) in enumerate(published.items(), start=1):
        mistake = bucket.mistake(topic, position, value)
        if mistake:
            raise DemoError(mistake)
        advance(done)
    return len(published)


def verify_committed(committed: Mapping[int, int], published: Published) -> None:
    """The consumer group must stand right behind the last message of every partition."""
    expected: dict[int, int] = {}
    for partition, offset in published:
        expected[partition] = max(expected.get(partition, 0), offset + 1)
    if dict(committed) != expected:
        raise DemoError(f"The committed offsets are {dict(committed)} instead of {expected}.")
