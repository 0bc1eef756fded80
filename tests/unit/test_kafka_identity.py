"""A topic's identity as it is written down: in the bucket, in commits, and in names."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.admin import NO_TOPIC_ID, Topic, _topic
from streams.kafka.identity import (
    Identity,
    decode_identity,
    encode_identity,
    with_topic_id,
    without_topic_id,
)
from streams.record import TAG_PATTERN, Life, name_in_bucket, parts_of_name

FROM_LIBRDKAFKA = "qw+H6yPfS/2Zq7iuNvoBkQ"
"""In the alphabet of base64 that is not meant for names."""


def described(topic_id: str) -> Topic:
    found = _topic(SimpleNamespace(name="orders", topic_id=topic_id, partitions=[]))
    assert isinstance(found, Topic)
    return found


def test_a_topic_s_id_is_fit_for_names() -> None:
    """librdkafka has `+` and `/` where Kafka itself has `-` and `_`: a slash would cut a name in two."""
    topic_id = described(FROM_LIBRDKAFKA).identity
    assert "qw-H6yPfS_2Zq7iuNvoBkQ" == topic_id
    assert re.fullmatch(TAG_PATTERN, Identity("cluster", topic_id).tag)
    assert (topic_id, "v1 7") == without_topic_id(with_topic_id("v1 7", topic_id))
    assert described(NO_TOPIC_ID).identity is None


@given(st.text(max_size=20), st.none() | st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True))
def test_identity_survives_being_written_down(cluster_id: str, topic_id: str | None) -> None:
    """Whatever the cluster is called."""
    identity = Identity(cluster_id, topic_id)
    assert identity == decode_identity(encode_identity("orders", identity))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version":2}',
        b'{"version":1,"cluster_id":5}',
        b'{"version":1,"cluster_id":"c","topic_id":5}',
    ],
)
def test_what_is_no_identity_is_refused(data: bytes) -> None:
    """It proves nothing."""
    with pytest.raises(ValueError, match="identity"):
        decode_identity(data)


@pytest.mark.parametrize("metadata", ["", "v1 7", "v1 7 3.2"])
def test_a_commit_is_read_in_its_two_parts(metadata: str) -> None:
    """The topic's id, and the ledger's notes."""
    topic_id = "SdosoGFiQNSZ6iuNvoBkyQ"
    assert (topic_id, metadata) == without_topic_id(with_topic_id(metadata, topic_id))
    assert (None, metadata) == without_topic_id(with_topic_id(metadata, None))


def test_a_name_in_the_bucket_has_two_parts() -> None:
    """No topic's own name has an `@`."""
    assert ("orders", "AbCd-_09") == parts_of_name(name_in_bucket("orders", Life("c", "i", "AbCd-_09")))
    assert ("orders", "") == parts_of_name(name_in_bucket("orders", Life("c", "i")))
