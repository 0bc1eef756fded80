"""Which offsets are verified, from what Kafka, the ledgers and the bucket know."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from streams.archive.lives import Placed
from streams.errors import ConfigurationError
from streams.kafka.admin import Committed
from streams.kafka.identity import Identity
from streams.kafka.reader import KafkaReader
from streams.ledger import Segment
from streams.proof.inventory import Inventory
from streams.proof.ledger_proof import LedgerIndex, LedgerReader, ListedSegment
from streams.proof.result import EXIT_UNCHECKED, PartitionResult, verdict_of
from streams.proof.scope import Asked, Scope, Scoping
from streams.record import TopicPartition

TP = TopicPartition("orders", 0)
OTHER = TopicPartition("orders", 1)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
IDENTITY = Identity("cluster", "SdosoGFiQNSZ6iuNvoBkyQ")
LIFE = IDENTITY.life()


class Kafka:
    """Two partitions; only the first has a commit."""

    group = "archive"

    def __init__(
        self, committed: int | None, earliest: int, end: int, since: int | None = None, metadata: str = ""
    ) -> None:
        self.commit = committed
        self.metadata = metadata
        self.earliest = earliest
        self.end = end
        self.since = since

    names: tuple[str, ...] = ("orders",)

    async def topics(self, names: Collection[str]) -> dict[str, list[int] | str]:
        """One is there."""
        return {name: [0, 1] if name == "orders" else "the topic does not exist" for name in names}

    async def committed(self, tps: list[TopicPartition]) -> dict[TopicPartition, Committed]:
        """The group's."""
        return {} if self.commit is None else {TP: Committed(self.commit, self.metadata)}

    async def identities(self, topics: Collection[str]) -> dict[str, Identity]:
        """The topic of these tests."""
        return dict.fromkeys(topics, IDENTITY)

    async def ends(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The same for all."""
        return dict.fromkeys(tps, self.end)

    async def beginnings(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The same for all."""
        return dict.fromkeys(tps, self.earliest)

    async def offsets_at(self, tps: list[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int | None]:
        """The same for all."""
        return dict.fromkeys(tps, self.since)


class Ledgers:
    """A ledger of three segments, one an hour."""

    def __init__(self, starts: list[int]) -> None:
        self.starts = starts

    async def index(self, tp: TopicPartition, carried: Segment | None) -> LedgerIndex:
        """As `LedgerReader.index`."""
        hours = [NOW - timedelta(hours=len(self.starts) - number) for number in range(len(self.starts))]
        listed = [ListedSegment(start, start + 1, "", hour) for start, hour in zip(self.starts, hours, strict=True)]
        return LedgerIndex(tp, listed, carried)


class Listing:
    """A bucket with one first object."""

    def __init__(self, first: int | None, ordered: bool = True) -> None:
        self.first = first
        self.ordered = ordered

    async def first_offset(self, tp: TopicPartition) -> int | None:
        """As `Inventory.first_offset`."""
        return self.first


async def scope_of(
    kafka: Kafka,
    asked: Asked,
    starts: list[int] | None = None,
    first: int | None = None,
    placed: Placed = Placed(LIFE),  # noqa: B008 - it is frozen
    ordered: bool = True,
    names: tuple[str, ...] = ("orders",),
) -> Scope:
    """The scope of partition 0."""
    kafka.names = names

    async def place(topic: str, identity: Identity) -> Placed:
        return placed

    scoping = Scoping(
        cast(KafkaReader, kafka),
        cast(LedgerReader, Ledgers(starts or [])),
        cast(Inventory, Listing(first, ordered)),
        place,
        asked,
        parallel=2,
    )
    return await scoping.scope()


async def part_of(kafka: Kafka, asked: Asked = Asked(), **known: Any) -> PartitionResult:  # noqa: B008 - it is frozen
    """What is to be verified of partition 0."""
    return (await scope_of(kafka, asked, **known)).parts[TP]


@pytest.mark.parametrize(("starts", "first", "start"), [([], None, 50), ([20, 40], 5, 5), ([60], 70, 50)])
async def test_begins_at_the_lowest_offset_that_anything_knows(
    starts: list[int], first: int | None, start: int
) -> None:
    """Kafka's earliest, the ledger's first, or the first object."""
    part = await part_of(Kafka(90, 50, 100), starts=starts, first=first)
    assert (start, 90) == (part.start, part.stop)
    assert f"offsets below {start} are known to neither" in part.notes[0]
    assert [(0, start)] == list(part.unverifiable.ranges())
    verdict = verdict_of([part], "archive")
    assert (EXIT_UNCHECKED, "not verifiable") == (verdict.exit_code, verdict.status)


async def test_an_archive_begins_where_its_ledger_does() -> None:
    """The worker has written down where it began; what Kafka had dropped before was never its to write."""
    part = await part_of(Kafka(90, 50, 100), starts=[20, 40])
    assert (20, False) == (part.start, bool(part.unverifiable))
    assert "its ledger begins at offset 20" in part.notes[0]


@pytest.mark.parametrize("asked", [Asked(from_offset=50), Asked(since=NOW)])
async def test_a_head_that_was_not_asked_for_need_not_be_known(asked: Asked) -> None:
    """Who says where to begin takes the answer for what is before upon himself."""
    assert not (await part_of(Kafka(90, 50, 100, since=50), asked, first=50)).unverifiable


async def test_a_head_without_anything_behind_it_is_not_proved_either() -> None:
    """Everything below the commit has left Kafka, and the bucket has nothing."""
    part = await part_of(Kafka(50, 50, 100))
    assert [(0, 50)] == list(part.unverifiable.ranges())


async def test_templates_that_tell_no_first_offset_are_listed_from_the_beginning() -> None:
    """What is listed anyway, whole, is not left out."""
    part = await part_of(Kafka(90, 50, 100), ordered=False)
    assert (0, False) == (part.start, bool(part.unverifiable))


async def test_another_topic_of_the_name_is_not_verified() -> None:
    """Nothing is looked at, and the verdict says why."""
    scope = await scope_of(Kafka(90, 0, 100), Asked(), placed=Placed(LIFE, "not verifiable: another topic"))
    assert {}.keys() == scope.ledgers.keys()
    verdict = verdict_of(list(scope.parts.values()), "archive")
    assert (EXIT_UNCHECKED, "not checked") == (verdict.exit_code, verdict.status)
    assert "another topic" in verdict.sentence


async def test_a_later_life_is_looked_for_under_its_own_names() -> None:
    """The ledger that the commit carries, and the listing."""
    later = Placed(IDENTITY.life(IDENTITY.tag))
    scope = await scope_of(Kafka(90, 0, 100, metadata=f"t:{IDENTITY.topic_id} v1 2"), Asked(), placed=later)
    name = f"orders@{IDENTITY.tag}"
    assert (TopicPartition(name, 0), f"{name}/0") == (scope.ledgers[TP].tp, scope.parts[TP].name)
    assert Segment(name, 0, 2, 90) == scope.ledgers[TP].carried


async def test_a_commit_of_another_topic_counts_as_none() -> None:
    """Its offset is that topic's."""
    part = await part_of(Kafka(90, 0, 100, metadata="t:AAAAAAAAQNSZ6iuNvoBkyQ v1 2"))
    assert 0 == part.stop
    assert "the group's commit is of another topic of this name" in part.notes[0]
    assert "has committed nothing here" in (part.problem or "")


async def test_a_note_about_a_topic_is_made_once() -> None:
    """And not for each of its partitions."""
    scope = await scope_of(Kafka(90, 0, 100), Asked(), placed=Placed(LIFE, note="no topic.json"))
    assert 1 == [note for part in scope.parts.values() for note in part.notes].count("no topic.json")


async def test_ledger_that_is_not_believed_is_not_read() -> None:
    """`--no-ledger` leaves Kafka and the bucket."""
    assert 50 == (await part_of(Kafka(90, 50, 100), Asked(ledger=False), starts=[20])).start


@pytest.mark.parametrize(
    ("hours", "since", "starts", "start"),
    [
        (1.5, 70, [0, 20, 40], 70),  # Kafka still has that time
        (1.5, 50, [0, 20, 40], 40),  # it may not, and the ledger knows
        (9, 50, [0, 20, 40], 0),  # all of the ledger is younger
        (1.5, 50, [], 50),  # nobody knows
        (1.5, None, [0], 90),  # nothing is as young as that
    ],
)
async def test_since(hours: float, since: int | None, starts: list[int], start: int) -> None:
    """From the first event of that time, and rather early than late where Kafka has forgotten it."""
    asked = Asked(since=NOW - timedelta(hours=hours))
    assert start == (await part_of(Kafka(90, 50, 100, since), asked, starts=starts)).start


async def test_commit_behind_the_end_cannot_be_checked() -> None:
    """A topic that was made anew."""
    part = await part_of(Kafka(101, 0, 100))
    assert "committed offset 101 and the partition ends at 100" in (part.problem or "")


async def test_events_that_were_lost_behind_the_commit_are_noted() -> None:
    """The worker will count them when it comes to them; verify says so already."""
    part = await part_of(Kafka(30, 50, 100), first=0)
    assert (0, 30) == (part.start, part.stop)
    assert "20 offsets behind the committed one left Kafka's retention" in part.notes[-1]


@pytest.mark.parametrize(
    ("end", "since", "asked", "checked"),
    [
        (0, None, Asked(), True),
        (1, None, Asked(), False),
        (50, None, Asked(from_offset=49), False),
        (50, None, Asked(from_offset=50), True),
        (50, 40, Asked(since=NOW), False),
        (50, None, Asked(since=NOW), True),  # nothing is as young as that
    ],
)
async def test_partition_without_commit_is_checked_only_where_no_event_was(
    end: int, since: int | None, asked: Asked, checked: bool
) -> None:
    """What nobody claims of its events is no proof of them: the whole is not proved beside it."""
    scope = await scope_of(Kafka(0, 0, end, since), asked)
    part = scope.parts[OTHER]
    assert (0, checked) == (part.stop, part.problem is None)
    if checked:
        assert ["the group has committed nothing here, and Kafka has had no event in the range"] == part.notes
    else:
        assert "the group archive has committed nothing here, and Kafka has had events." in str(part.problem)


async def test_partition_without_commit_spoils_the_proof_of_the_others() -> None:
    """Exit code 2, and the partition is named."""
    parts = list((await scope_of(Kafka(90, 0, 100), Asked())).parts.values())
    parts[0].found = 90
    verdict = verdict_of(parts, "archive")
    assert (EXIT_UNCHECKED, "not checked") == (verdict.exit_code, verdict.status)
    assert "orders/1: the group archive has committed nothing here" in verdict.sentence


async def test_a_topic_that_is_gone_costs_only_its_own_row() -> None:
    """The others are proved, and the whole is not: exit code 2."""
    scope = await scope_of(Kafka(90, 0, 100), Asked(partitions=(0,)), first=0, names=("gone", "orders"))
    assert ["orders/0", "gone"] == [part.name for part in scope.parts.values()]
    assert 90 == scope.offsets
    scope.parts[TP].found = 90
    verdict = verdict_of(list(scope.parts.values()), "archive")
    assert (EXIT_UNCHECKED, "not checked") == (verdict.exit_code, verdict.status)
    assert verdict.sentence.startswith(
        "NOT CHECKED: gone: the topic does not exist. The rest is proved: all 90 events of 1 partition"
    )


async def test_a_topic_that_is_gone_is_not_asked_for_where_another_is_chosen() -> None:
    """With `--topic orders` nothing is said of it; with `--topic gone` only this."""
    asked = Asked(topics=("orders",), partitions=(0,))
    assert [TP] == list((await scope_of(Kafka(90, 0, 100), asked, names=("gone", "orders"))).parts)
    gone = (await scope_of(Kafka(90, 0, 100), Asked(topics=("gone",)), names=("gone", "orders"))).parts
    assert ["not checked"] == [part.status for part in gone.values()]


async def test_one_sentence_for_all_partitions_of_a_topic_that_have_the_same_reason() -> None:
    """A held topic, or another group's name, in the table of a topic with a hundred partitions."""
    scope = await scope_of(Kafka(90, 0, 100), Asked(), placed=Placed(LIFE, "the bucket holds another topic"))
    verdict = verdict_of(list(scope.parts.values()), "archive")
    assert "NOT CHECKED: orders (2 partitions): the bucket holds another topic" == verdict.sentence


async def test_what_does_not_exist_is_refused() -> None:
    """A topic or partition that was asked for and is not there."""
    with pytest.raises(ConfigurationError, match="--topic payments"):
        await scope_of(Kafka(90, 0, 100), Asked(topics=("payments",)))
    with pytest.raises(ConfigurationError, match=r"--topic payments@AbCd-_09: not one of the topics"):
        await scope_of(Kafka(90, 0, 100), Asked(topics=("payments@AbCd-_09",)))
    with pytest.raises(ConfigurationError, match=r"a later life of orders. Give --topic orders:"):
        await scope_of(Kafka(90, 0, 100), Asked(topics=("orders@AbCd-_09",)))
    with pytest.raises(ConfigurationError, match="--partition 7"):
        await scope_of(Kafka(90, 0, 100), Asked(partitions=(7,)))
