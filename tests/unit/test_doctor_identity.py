"""What `doctor` makes of a topic's identity, without Kafka and S3."""

from __future__ import annotations

import pytest

from streams.archive.lives import Placed
from streams.doctor.findings import Status
from streams.doctor.identity import identity_finding
from streams.kafka.identity import Identity
from tests.unit.memory_reader import settings

FIRST = Identity("cluster", "SdosoGFiQNSZ6iuNvoBkyQ")
SECOND = Identity("cluster", "AbCd-_09QNSZ6iuNvoBkyQ")
WITHOUT_ID = Identity("elsewhere", None)


@pytest.mark.parametrize(
    ("identity", "on_new_topic", "expected", "words"),
    [
        (SECOND, "hold", Status.WRONG, "STREAMS_ON_NEW_TOPIC=new-life"),
        (SECOND, "new-life", Status.WARNING, "orders@AbCd-_09"),
        (WITHOUT_ID, "new-life", Status.WRONG, "no id"),  # there is no name to put it under
    ],
)
def test_another_topic_in_the_bucket(identity: Identity, on_new_topic: str, expected: Status, words: str) -> None:
    """Wrong where the worker holds it; both ids are named, and where to read on."""
    placed = Placed(identity.life(), "not verifiable: another", other=FIRST)
    finding = identity_finding("orders", identity, placed, settings(on_new_topic=on_new_topic))
    assert expected is finding.status
    said = f"{finding.finding} {finding.remedy}"
    for word in (str(FIRST.topic_id), str(identity.topic_id), words, "docs/runbooks/topic-recreated.md"):
        assert word in said


def test_the_same_topic_and_a_later_life_are_well() -> None:
    """The second one has names of its own already, whatever STREAMS_ON_NEW_TOPIC says now."""
    same = identity_finding("orders", FIRST, Placed(FIRST.life()), settings())
    later = identity_finding("orders", SECOND, Placed(SECOND.life(SECOND.tag)), settings())
    assert (Status.OK, Status.OK) == (same.status, later.status)
    assert "under orders@AbCd-_09" in later.finding


def test_topic_json_that_is_damaged_is_worth_a_warning() -> None:
    """The worker goes on, and cannot tell."""
    finding = identity_finding("orders", FIRST, Placed(FIRST.life(), "not verifiable: it cannot be told"), settings())
    assert (Status.WARNING, "it cannot be told") == (finding.status, finding.finding)
