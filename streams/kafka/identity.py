"""Which topic a name stands for: how it is written down in the bucket and beside each committed offset. Pure.

Kafka gives each topic an id (KIP-516) and each cluster one. Offsets name an event only together with both: a topic
that is deleted and recreated counts from 0 again, and another cluster may have one of the same name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import orjson

from streams.record import Life

FORMAT_VERSION: Final = 1
TAG_CHARACTERS: Final = 8
"""Of the topic's id, in the names of a later life's objects: 48 bits."""

_NOTE: Final = re.compile(r"t:([A-Za-z0-9_-]{22})(?: |$)")


@dataclass(frozen=True, slots=True)
class Identity:
    """A topic, wherever it is seen. `topic_id` is `None` where the brokers know none (before Kafka 2.8)."""

    cluster_id: str
    topic_id: str | None

    def is_same(self, other: Identity) -> bool:
        """Whether both may be the same topic: what one of them does not know tells nothing apart."""
        if self.topic_id is not None and other.topic_id is not None:
            return self.topic_id == other.topic_id
        return self.cluster_id == other.cluster_id

    @property
    def tag(self) -> str:
        """What stands in the names of its objects where the plain ones are another topic's."""
        return (self.topic_id or self.cluster_id)[:TAG_CHARACTERS]

    def life(self, tag: str = "") -> Life:
        """As each event carries it."""
        return Life(self.cluster_id, self.topic_id, tag)


def encode_identity(topic: str, identity: Identity) -> bytes:
    """The object that says whose events the bucket holds under a name."""
    return orjson.dumps(
        {
            "version": FORMAT_VERSION,
            "topic": topic,
            "cluster_id": identity.cluster_id,
            "topic_id": identity.topic_id,
        }
    )


def decode_identity(data: bytes) -> Identity:
    """The identity in such an object. Raises `ValueError` where it is none."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"no topic's identity: {error}") from error
    if not isinstance(document, dict) or document.get("version") != FORMAT_VERSION:
        raise ValueError(f"no topic's identity of version {FORMAT_VERSION}")
    cluster_id, topic_id = document.get("cluster_id"), document.get("topic_id")
    if not isinstance(cluster_id, str) or not (topic_id is None or isinstance(topic_id, str)):
        raise ValueError("a topic's identity with fields of the wrong type")
    return Identity(cluster_id, topic_id)


def with_topic_id(metadata: str, topic_id: str | None) -> str:
    """A commit's metadata with the topic's id in front; `metadata` is the ledger's part, which may be empty."""
    if topic_id is None:
        return metadata
    return f"t:{topic_id} {metadata}" if metadata else f"t:{topic_id}"


def without_topic_id(metadata: str) -> tuple[str | None, str]:
    """A commit's metadata in its two parts: the topic's id (`None`: not said), and the ledger's."""
    found = _NOTE.match(metadata)
    return (None, metadata) if found is None else (found[1], metadata[found.end() :])
