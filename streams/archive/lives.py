"""Which topics of a name the bucket holds: what is written down there, beside what Kafka says of the topic now.

Between `kafka.identity` (what is written) and the commands that must not take one topic's events for another's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from streams.errors import DamagedObjectError
from streams.kafka.admin import MOCK_CLUSTER
from streams.kafka.identity import TAG_CHARACTERS, Identity, decode_identity
from streams.layout import Layout
from streams.record import UNKNOWN_LIFE, Life, name_in_bucket, parts_of_name
from streams.sinks.s3_reader import S3Reader

MAX_IDENTITY_BYTES: Final = 64 * 1024

NO_IDENTITY_NOTE: Final = (
    "the bucket does not say which topic of this name its objects are of (no topic.json: an archive of an earlier "
    "release, or the worker may not write it), so they were taken for this one's"
)
NO_TOPIC_ID_NOTE: Final = (
    "the brokers give topics no id (Kafka before 2.8): a topic that was deleted and recreated in this cluster cannot "
    "be told from the one in the bucket"
)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where in the bucket a topic's objects are; `problem` says why none are this topic's."""

    life: Life = UNKNOWN_LIFE
    problem: str | None = None
    note: str | None = None
    other: Identity | None = None
    """The topic whose objects have the name, where that is another one and there is nothing of this one."""

    def is_held(self, on_new_topic: str) -> bool:
        """Whether a worker reads nothing of the topic; without an id there is no name to put its events under."""
        return self.other is not None and (on_new_topic == "hold" or self.life.topic_id is None)


@dataclass(frozen=True, slots=True)
class ArchivedLife:
    """A topic of which the bucket holds something under a name; `identity` is `None` where nothing is written down."""

    name: str
    identity: Identity | None
    since: datetime | None

    def describe(self) -> str:
        """`orders@AbCdEfGh (topic id …, since 2026-11-28 12:00 UTC)`."""
        if self.identity is None or self.since is None:
            return f"{self.name} (not written down which topic it is)"
        return f"{self.name} (topic id {self.identity.topic_id or 'unknown'}, since {self.since:%Y-%m-%d %H:%M} UTC)"


async def place_in_bucket(reader: S3Reader, layout: Layout, topic: str, identity: Identity) -> Placed:
    """Under which names the objects of the topic are that Kafka has now."""
    is_mock = identity.cluster_id.startswith(MOCK_CLUSTER)  # `make demo`: it lives no longer than the demo
    note = NO_TOPIC_ID_NOTE if identity.topic_id is None and not is_mock else None
    try:
        known = await written_identity(reader, layout, topic)
        if known is None:
            return Placed(identity.life(), note=NO_IDENTITY_NOTE)
        if known.is_same(identity):
            return Placed(identity.life(), note=note)
        own = None if identity.topic_id is None else await written_identity(reader, layout, topic, identity.tag)
    except DamagedObjectError as error:
        return Placed(identity.life(), f"not verifiable: it cannot be told whose objects the bucket holds: {error}")
    if own is not None and own.is_same(identity):
        return Placed(identity.life(identity.tag), note=note)
    problem = (
        f"not verifiable: the bucket holds another topic of this name ({different_ids(known, identity)}), and nothing "
        "of this one. docs/runbooks/topic-recreated.md says what to do"
    )
    return Placed(identity.life(), problem, other=known)


def different_ids(known: Identity, identity: Identity) -> str:
    """In what the bucket's topic and Kafka's differ."""
    ids = f"its id is {known.topic_id}, Kafka's {identity.topic_id}"
    if known.cluster_id != identity.cluster_id:
        ids += f"; its cluster is {known.cluster_id}, this one {identity.cluster_id}"
    return ids


async def written_identity(reader: S3Reader, layout: Layout, topic: str, tag: str = "") -> Identity | None:
    """Which topic it is, by what is written down. Raises `DamagedObjectError` where that is something else."""
    object_key = layout.identity_key(topic, tag)
    found = await reader.get(object_key, MAX_IDENTITY_BYTES)
    try:
        return None if found is None else decode_identity(found.body)
    except ValueError as error:
        raise DamagedObjectError(f"{object_key}: {error}") from error


async def lives_in_bucket(reader: S3Reader, layout: Layout, topic: str) -> list[ArchivedLife]:
    """The first life of the topic, and each later one of which there is a ledger, oldest first."""
    lives = [await _archived(reader, layout, topic, tag) async for tag in _tags(reader, layout, topic)]
    lives.sort(key=lambda life: (life.since is not None, life.since))
    return [await _archived(reader, layout, topic, ""), *lives]


async def _archived(reader: S3Reader, layout: Layout, topic: str, tag: str) -> ArchivedLife:
    name = name_in_bucket(topic, Life(None, None, tag))
    object_key = layout.identity_key(topic, tag)
    async for page in reader.list(object_key):
        for listed in page:
            if listed.object_key == object_key:
                return ArchivedLife(name, await _identity_or_none(reader, layout, topic, tag), listed.modified_at)
    return ArchivedLife(name, None, None)


async def _identity_or_none(reader: S3Reader, layout: Layout, topic: str, tag: str) -> Identity | None:
    try:
        return await written_identity(reader, layout, topic, tag)
    except DamagedObjectError:
        return None


async def _tags(reader: S3Reader, layout: Layout, topic: str) -> AsyncIterator[str]:
    """The tags of later lives: one LIST for each, which jumps over all that is in it."""
    prefix = layout.ledger_prefix(f"{topic}@").removesuffix("/")
    after = ""
    while True:
        key = await _first_key(reader, prefix, after)
        if key is None:
            return
        folder = key[len(prefix) :].partition("/")[0]
        if len(folder) == TAG_CHARACTERS:
            yield folder
        after = f"{prefix}{folder}0"  # the character behind "/"


async def _first_key(reader: S3Reader, prefix: str, after: str) -> str | None:
    async for page in reader.list(prefix, after=after):
        for listed in page:
            return listed.object_key
    return None


def life_named(name: str) -> Life:
    """The life of a name in the bucket, as far as the name tells it."""
    tag = parts_of_name(name)[1]
    return Life(None, None, tag) if tag else UNKNOWN_LIFE
