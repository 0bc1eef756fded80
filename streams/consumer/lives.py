"""Whether a topic is still the one whose events are in the bucket (KIP-516): a name alone does not say so.

Asked whenever partitions are begun, and looked at again while they are read. A topic that was deleted and recreated, or
another cluster's topic of the same name, is held, so that nothing in the bucket is overwritten, or, with
STREAMS_ON_NEW_TOPIC=new-life, written under names of its own. Where it cannot be told, that is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from confluent_kafka import KafkaError, KafkaException

from streams.errors import SinkRefusedError, SinkUnavailableError
from streams.kafka.admin import KafkaAdmin, Topic
from streams.kafka.identity import Identity
from streams.record import Life, TopicPartition
from streams.stats import Conditions, Kind

logger = logging.getLogger(__name__)

OnNewTopic = Literal["hold", "new-life"]

HOLD_REMEDY: Final = (
    "Nothing is overwritten meanwhile, and all other topics go on. To archive the new topic beside the old one, under "
    "names with its id, set STREAMS_ON_NEW_TOPIC=new-life and restart; docs/runbooks/topic-recreated.md has the "
    "other ways."
)


HIDDEN: Final = frozenset({"access_denied", "kms"})
"""S3 says these of an object that is not there, too, to whoever may not list the bucket."""


@runtime_checkable
class IdentityStore(Protocol):
    """Where it is written down whose events are under a topic's name (a sink that keeps objects)."""

    async def read_identity(self, topic: str, tag: str) -> Identity | None:
        """What is written down, `None` where nothing is.

        Raises:
            SinkUnavailableError, SinkRefusedError: it cannot be read.
            ValueError: what is there is none.
        """

    async def create_identity(self, topic: str, tag: str, identity: Identity) -> bool:
        """Write it down, unless something is there already; whether it was written. Raises as `read_identity` does."""


class Wait(NamedTuple):
    """Why something must not be begun (yet)."""

    kind: Kind
    """The condition that it is."""
    detail: str
    reason: str = ""
    """The sink's own, where it is the bucket that does not answer."""


class TopicLives:
    """What is known of the topics' identities. Without a store (SQS) nothing can be overwritten, so nothing is held."""

    ask_again_seconds = 60.0
    """So often is a topic asked about whose identity cannot be told."""

    def __init__(
        self,
        admin: KafkaAdmin,
        store: IdentityStore | None,
        conditions: Conditions,
        on_new_topic: OnNewTopic,
    ) -> None:
        self._admin = admin
        self._store = store
        self._conditions = conditions
        self._on_new_topic = on_new_topic
        self._places = asyncio.Semaphore(16)
        self._told_no_ids = False
        self.changed: Callable[[str, str], None] = lambda topic, topic_id: None
        """Told of a topic that is another one than the one that is being read, and of its id now."""
        self.begin_again: Callable[[str], None] = lambda topic: None
        """Told of a topic that was trusted and whose events belong elsewhere in the bucket, or nowhere (it is held)."""

    async def of(self, topics: Collection[str]) -> Mapping[str, Life | Wait]:
        """The life of each topic, or why its partitions must not be begun (yet)."""
        try:
            cluster_id = await self._admin.cluster_id(topics)
            found = await self._admin.topics(topics)
        except KafkaException as error:
            return dict.fromkeys(topics, _unread(error.args[0]))
        lives = await asyncio.gather(*(self._life(name, cluster_id, found[name]) for name in topics))
        return dict(zip(topics, lives, strict=True))

    async def _life(self, name: str, cluster_id: str, topic: Topic | KafkaError) -> Life | Wait:
        if isinstance(topic, KafkaError):
            return _unread(topic)
        identity = Identity(cluster_id, topic.identity)
        self._note_no_id(identity)
        async with self._places:
            life = await self._place(name, identity)
        if isinstance(life, Life):
            self._conditions.end(Kind.TOPIC_RECREATED, name)
        return life

    async def _place(self, name: str, identity: Identity) -> Life | Wait:
        """Where in the bucket this topic's events belong."""
        if self._store is None:
            return identity.life()
        try:
            place = await self._place_in(self._store, name, identity)
        except SinkUnavailableError as error:
            return Wait(Kind.SINK_FAILING, error.detail, error.reason)
        except (SinkRefusedError, ValueError) as error:
            return self._unknown(name, identity, error)
        self._conditions.end(Kind.IDENTITY_UNKNOWN, name)
        return place

    async def _place_in(self, store: IdentityStore, name: str, identity: Identity) -> Life | Wait:
        first = await self._known(store, name, "", identity)
        if first.is_same(identity):
            return identity.life()
        if identity.topic_id is None:
            return self._hold(name, first, identity)
        if self._on_new_topic == "hold" and not await self._has_begun(store, name, identity):
            return self._hold(name, first, identity)
        own = await self._known(store, name, identity.tag, identity)
        return identity.life(identity.tag) if own.is_same(identity) else self._hold(name, own, identity)

    async def _has_begun(self, store: IdentityStore, name: str, identity: Identity) -> bool:
        """Whether the topic has names of its own already: what STREAMS_ON_NEW_TOPIC=new-life began goes on without."""
        try:
            own = await store.read_identity(name, identity.tag)
        except SinkRefusedError as error:
            if error.reason not in HIDDEN:
                raise
            return False
        return own is not None and own.is_same(identity)

    async def _known(self, store: IdentityStore, name: str, tag: str, identity: Identity) -> Identity:
        """What is written down, which from now on is this topic where nothing was."""
        for _ in range(2):
            denied: SinkRefusedError | None = None
            try:
                known = await store.read_identity(name, tag)
            except SinkRefusedError as error:
                if error.reason not in HIDDEN:
                    raise
                known, denied = None, error
            if known is not None:
                return known
            if await store.create_identity(name, tag, identity):
                return identity
            if denied is not None:
                raise denied
        raise SinkUnavailableError("conflict", "two workers wrote down a topic's identity at once")

    def _hold(self, name: str, known: Identity, identity: Identity) -> Wait:
        other = (
            "another cluster's" if known.cluster_id != identity.cluster_id else "an earlier topic's, which was deleted"
        )
        detail = (
            f"{name} is not the topic whose events are in the bucket (its id is {identity.topic_id}, theirs is "
            f"{known.topic_id}; they are {other}), so it is held."
        )
        self._conditions.begin(Kind.TOPIC_RECREATED, detail, HOLD_REMEDY, subject=name, blocks_readiness=True)
        return Wait(Kind.TOPIC_RECREATED, detail)

    def _unknown(self, name: str, identity: Identity, error: Exception) -> Life:
        """Said, and trusted: a bucket that answers nothing cannot be told from a new one."""
        detail, remedy = _what_to_do(error)
        self._conditions.begin(
            Kind.IDENTITY_UNKNOWN,
            f"It cannot be told whether {name} is the topic whose events are in the bucket: {detail}",
            f"{remedy} It is asked again every minute. Until then a topic that is deleted and recreated while no "
            "worker runs overwrites its predecessor's objects.",
            subject=name,
        )
        return identity.life()

    async def ask_again(self) -> None:
        """Ask about the topics that are trusted because it cannot be told whose events the bucket holds.

        A held one is left alone: what holds it asks by itself.
        """
        trusted = [one.subject for one in self._conditions.of(Kind.IDENTITY_UNKNOWN) if not self.is_held(one.subject)]
        if not trusted:
            return
        for name, life in (await self.of(trusted)).items():
            if self.is_held(name) or (isinstance(life, Life) and life.tag):
                logger.error(
                    "%s was written under its plain names while topic.json could not be read, and these are another "
                    "topic's: objects with the same offsets were overwritten since this worker began to read it",
                    name,
                )
                self.begin_again(name)

    def _note_no_id(self, identity: Identity) -> None:
        if identity.topic_id is None and not self._told_no_ids:
            self._told_no_ids = True
            logger.warning(
                "the brokers give topics no id (Kafka before 2.8), so a topic that is recreated is only noticed where "
                "it ends before what was read of the old one"
            )

    async def is_same(self, topic: str, life: Life) -> bool | None:
        """Whether the topic is still in this life, `None` while that cannot be told.

        Not whether it is in the life that was seen last: that one may be the next already, through another partition.
        """
        try:
            found = (await self._admin.topics([topic]))[topic]
        except KafkaException:
            return None
        if isinstance(found, KafkaError):
            return None
        return found.identity is None or life.topic_id is None or found.identity == life.topic_id

    def look(self, topics: Mapping[str, Topic], read: Collection[tuple[str, str | None]]) -> None:
        """The metadata as it is now: a topic that has become another one while it was read is noticed here.

        `read` are names and ids of the topics that are being read. Of one name there may be two at a moment, when one
        partition was begun after the topic was recreated and another before.
        """
        for name, topic_id in read:
            topic = topics.get(name)
            if topic is not None and topic.identity is not None and topic.identity != topic_id:
                logger.warning("%s was deleted and recreated (id %s, before %s)", name, topic.identity, topic_id)
                self.changed(name, topic.identity)

    def is_held(self, topic: str) -> bool:
        """Whether a condition already says why the topic is not read."""
        return self._conditions.get(Kind.TOPIC_RECREATED, topic) is not None

    def let_go(self, topic: str) -> None:
        """What held the topic is over."""
        self._conditions.end(Kind.TOPIC_RECREATED, topic)

    def hold_truncated(self, tp: TopicPartition, position: int, end: int, *, was_read: bool) -> None:
        """The partition ends before the position: new events take offsets that may be written already.

        Where nothing was read yet (`was_read`), the position is the group's offset, which anybody may have set.
        """
        if not was_read:
            self._conditions.begin(
                Kind.TOPIC_RECREATED,
                f"The group's offset of {tp} is {position}, and the partition ends at {end}, so it is held: either it "
                "has lost its end (an unclean leader election, or a recreated topic on brokers without topic ids), or "
                "somebody has set the offset.",
                f"If the offset was set by mistake: stop the group's workers, set it to the first offset that is not "
                "in the bucket (kafka-consumer-groups --reset-offsets), and start them. Else it goes on by itself once "
                f"the partition has grown to {position}; events until then are left out: "
                "docs/runbooks/topic-recreated.md.",
                subject=tp.topic,
                blocks_readiness=True,
            )
            return
        self._conditions.begin(
            Kind.TOPIC_RECREATED,
            f"{tp} ends at {end}, before offset {position}, up to which it was read: it has lost its end (an unclean "
            "leader election, or a recreated topic on brokers without topic ids), so it is held: new events would "
            "overwrite the objects of those that are lost.",
            f"It goes on by itself once the partition has grown to {position}; events until then are left out. To take "
            "them, move the group's offset and the objects in the way: docs/runbooks/topic-recreated.md.",
            subject=tp.topic,
            blocks_readiness=True,
        )


def _unread(error: KafkaError) -> Wait:
    return Wait(Kind.POSITION_UNKNOWN, f"its identity could not be read: {error.name()}")


def _what_to_do(error: Exception) -> tuple[str, str]:
    """What is wrong with topic.json, and the remedy: the error's own, but where a right to it is missing."""
    if not isinstance(error, SinkRefusedError):
        return (
            f"topic.json in the bucket is damaged ({error}).",
            "Put an earlier version of it back. Where there is none, remove it, if you are sure that it is the same "
            "topic: it is written again.",
        )
    if error.reason not in HIDDEN:
        return f"{error.reason}: {error.detail}", error.remedy
    return (
        f"{error.reason}: {error.detail}",
        "Allow s3:GetObject and s3:PutObject on topic.json under STREAMS_LEDGER_PREFIX (and kms:Decrypt with a KMS "
        "key); `faust -A streams doctor` tries it.",
    )
