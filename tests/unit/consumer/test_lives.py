"""Whose events the bucket holds: what a worker may conclude from what S3 answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from streams.consumer.lives import OnNewTopic, TopicLives, Wait
from streams.errors import SinkRefusedError, SinkUnavailableError
from streams.kafka.admin import KafkaAdmin, Topic
from streams.kafka.identity import Identity
from streams.record import Life, TopicPartition
from streams.stats import Conditions, Kind

FIRST = Identity("cluster", "SdosoGFiQNSZ6iuNvoBkyQ")
SECOND = Identity("cluster", "AbCd-_09QNSZ6iuNvoBkyQ")


class Admin:
    """A cluster with one topic."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    async def cluster_id(self, topics: Iterable[str]) -> str:
        return self.identity.cluster_id

    async def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        return {name: Topic(name, self.identity.topic_id, ()) for name in names}


class Store:
    """A bucket that may refuse reading: as S3 does of what is not there, where listing is not allowed."""

    def __init__(self, known: dict[str, Identity], refuses: str | None = None, *, away: bool = False) -> None:
        self.known = known
        self.refuses = refuses
        self.away = away

    async def read_identity(self, topic: str, tag: str) -> Identity | None:
        if self.away:
            raise SinkUnavailableError("connection", "no answer")
        if self.refuses is not None:
            raise SinkRefusedError(self.refuses, "S3 said so", "Do this.")
        return self.known.get(tag)

    async def create_identity(self, topic: str, tag: str, identity: Identity) -> bool:
        return self.known.setdefault(tag, identity) is identity


async def life_of(
    store: Store, identity: Identity = FIRST, on_new_topic: OnNewTopic = "hold"
) -> tuple[Life | Wait, Conditions]:
    conditions = Conditions()
    lives = TopicLives(cast(KafkaAdmin, Admin(identity)), store, conditions, on_new_topic)
    return (await lives.of(["orders"]))["orders"], conditions


async def test_a_denied_read_of_what_is_not_there_is_no_denial() -> None:
    """S3 answers 403 for a missing object to whoever may not list: the conditional PUT tells."""
    store = Store({}, refuses="access_denied")
    life, conditions = await life_of(store)
    assert (FIRST.life(), {"": FIRST}) == (life, store.known)
    assert conditions.get(Kind.IDENTITY_UNKNOWN, "orders") is None


@pytest.mark.parametrize("reason", ["access_denied", "kms"])
async def test_a_denied_read_of_what_is_there_is_said(reason: str) -> None:
    """Nobody can tell whose it is; events go on."""
    life, conditions = await life_of(Store({"": SECOND}, refuses=reason))
    assert FIRST.life() == life
    assert conditions.get(Kind.IDENTITY_UNKNOWN, "orders") is not None


async def test_a_missing_bucket_is_not_written_to() -> None:
    """Only a denial may mean that there is nothing."""
    store = Store({}, refuses="bucket_missing")
    await life_of(store)
    assert {} == store.known


async def test_a_bucket_that_is_away_is_waited_for() -> None:
    """It is the sink's trouble, and no condition of the topic."""
    life, conditions = await life_of(Store({}, away=True))
    assert (Wait(Kind.SINK_FAILING, "no answer", "connection"), []) == (life, conditions.active())


async def test_a_recreated_topic_is_held_or_gets_names_of_its_own() -> None:
    """As STREAMS_ON_NEW_TOPIC says; nothing that is written down is changed."""
    store = Store({"": FIRST})
    held, conditions = await life_of(store, SECOND)
    assert isinstance(held, Wait)
    assert Kind.TOPIC_RECREATED is held.kind
    assert conditions.get(Kind.TOPIC_RECREATED, "orders") is not None
    life, _ = await life_of(store, SECOND, "new-life")
    assert (SECOND.life("AbCd-_09"), {"": FIRST, "AbCd-_09": SECOND}) == (life, store.known)


async def test_another_life_that_has_begun_goes_on_without_the_setting() -> None:
    """STREAMS_ON_NEW_TOPIC=new-life is taken out after the incident: what is written down is not held again."""
    store = Store({"": FIRST, SECOND.tag: SECOND})
    life, conditions = await life_of(store, SECOND)
    assert SECOND.life(SECOND.tag) == life
    assert conditions.get(Kind.TOPIC_RECREATED, "orders") is None


@pytest.mark.parametrize(
    ("reason", "remedy"), [("bucket_missing", "Do this."), ("access_denied", "Allow s3:GetObject")]
)
async def test_the_remedy_is_that_of_what_is_wrong(reason: str, remedy: str) -> None:
    """A right to topic.json helps nobody whose bucket is missing."""
    _, conditions = await life_of(Store({"": SECOND}, refuses=reason))
    told = conditions.get(Kind.IDENTITY_UNKNOWN, "orders")
    assert told is not None
    assert told.remedy.startswith(remedy)
    assert 1 == f"{told.detail} {told.remedy}".count(remedy)


class Trusted:
    """A topic that is read although the bucket has not answered; the bucket does so now."""

    def __init__(self, known: dict[str, Identity], on_new_topic: OnNewTopic = "hold") -> None:
        self.store, self.conditions = Store(known, refuses="bucket_missing"), Conditions()
        self.lives = TopicLives(cast(KafkaAdmin, Admin(FIRST)), self.store, self.conditions, on_new_topic)
        self.begun_again: list[str] = []
        self.lives.begin_again = self.begun_again.append

    async def ask_again(self) -> set[Kind]:
        """What is still told after the bucket was mended."""
        assert {"orders": FIRST.life()} == await self.lives.of(["orders"])
        await self.lives.ask_again()
        assert {Kind.IDENTITY_UNKNOWN} == {one.kind for one in self.conditions.active()}, "it is still missing"
        self.store.refuses = None
        await self.lives.ask_again()
        return {one.kind for one in self.conditions.active()}


@pytest.mark.parametrize("known", [{}, {"": FIRST}])
async def test_a_trusted_topic_is_written_down_once_the_bucket_answers(known: dict[str, Identity]) -> None:
    """And nothing else changes for it."""
    trusted = Trusted(known)
    assert set() == await trusted.ask_again()
    assert ({"": FIRST}, []) == (trusted.store.known, trusted.begun_again)


async def test_a_trusted_topic_that_is_another_one_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """Loudly: its events have overwritten some by now."""
    trusted = Trusted({"": SECOND})
    assert {Kind.TOPIC_RECREATED} == await trusted.ask_again()
    assert ({"": SECOND}, ["orders"]) == (trusted.store.known, trusted.begun_again)
    assert "were overwritten" in caplog.text


async def test_a_trusted_topic_that_is_another_one_gets_names_of_its_own() -> None:
    """With STREAMS_ON_NEW_TOPIC=new-life."""
    trusted = Trusted({"": SECOND}, "new-life")
    assert set() == await trusted.ask_again()
    assert ({"": SECOND, FIRST.tag: FIRST}, ["orders"]) == (trusted.store.known, trusted.begun_again)


def test_each_topic_that_is_read_is_compared() -> None:
    """A partition of the recreated topic that is begun already hides no other that is read as the old one."""
    changed: list[tuple[str, str]] = []
    lives = TopicLives(cast(KafkaAdmin, Admin(SECOND)), None, Conditions(), "new-life")
    lives.changed = lambda topic, topic_id: changed.append((topic, topic_id))
    now = {"orders": Topic("orders", SECOND.topic_id, ())}
    lives.look(now, {("orders", SECOND.topic_id)})
    assert [] == changed
    lives.look(now, {("orders", FIRST.topic_id), ("orders", SECOND.topic_id)})
    assert [("orders", SECOND.topic_id)] == changed


@pytest.mark.parametrize(
    ("was_read", "said"),
    [
        (True, "it has lost its end"),
        (False, "either it has lost its end"),
    ],
)
def test_position_beyond_the_end_is_only_called_a_loss_where_it_was_read(was_read: bool, said: str) -> None:
    """An offset that nothing was read from yet may have been set by anybody."""
    conditions = Conditions()
    lives = TopicLives(cast(KafkaAdmin, Admin(FIRST)), None, conditions, "hold")
    lives.hold_truncated(TopicPartition("orders", 1), 5000, 100, was_read=was_read)
    condition = conditions.get(Kind.TOPIC_RECREATED, "orders")
    assert condition is not None
    assert said in condition.detail
    assert ("somebody has set the offset" in condition.detail) is not was_read
    assert ("--reset-offsets" in condition.remedy) is not was_read
