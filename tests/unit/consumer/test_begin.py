"""Where partitions begin: an answer that is missing is waited for, never taken for "nothing committed"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.consumer import begin as module
from streams.consumer.begin import Beginnings, Begun
from streams.consumer.lives import TopicLives, Wait
from streams.kafka.admin import Committed, KafkaAdmin
from streams.kafka.group_offsets import GroupOffsets
from streams.record import UNKNOWN_LIFE, Life, TopicPartition
from streams.stats import Conditions, Kind, Stats
from streams.stats.counts import SilentBucket

THIS, OTHER = "SdosoGFiQNSZ6iuNvoBkyQ", "AAAAAAAAQNSZ6iuNvoBkyQ"
FIRST, SECOND = TopicPartition("orders", 0), TopicPartition("orders", 1)


class SameTopic(TopicLives):
    """Every topic is what it was."""

    def __init__(self) -> None:
        self.same: bool | None = True
        self.bucket_silent_for = 0

    async def of(self, topics: Collection[str]) -> Mapping[str, Life | Wait]:
        if self.bucket_silent_for:
            self.bucket_silent_for -= 1
            return dict.fromkeys(topics, Wait(Kind.SINK_FAILING, "no answer", "connection"))
        return dict.fromkeys(topics, Life("cluster", THIS))

    async def is_same(self, topic: str, life: Life) -> bool | None:
        return self.same

    def is_held(self, topic: str) -> bool:
        return False

    def let_go(self, topic: str) -> None:
        """Nothing was held."""


class Coordinator:
    """Answers from lists: an int is KafkaError's code for the whole question, a mapping the answer."""

    def __init__(self, committed: list[Any], beginnings: list[Any]) -> None:
        self._committed = committed
        self._beginnings = beginnings
        self.asked = 0

    async def committed(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        self.asked += 1
        return self._next(self._committed, partitions)

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        return self._next(self._beginnings, partitions) if list(partitions) else {}

    def _next(self, answers: list[Any], partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return {tp: answer[tp] for tp in partitions}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "MAX_PAUSE_SECONDS", 0.0)


def beginnings_of(kafka: Coordinator, stats: Stats, lives: TopicLives) -> Beginnings:
    return Beginnings(cast(KafkaAdmin, kafka), cast(GroupOffsets, kafka), stats, lives)


async def look_up(
    coordinator: Coordinator, ours: set[TopicPartition] | None = None, conditions: Conditions | None = None
) -> list[dict[TopicPartition, Begun]]:
    begun: list[dict[TopicPartition, Begun]] = []
    beginnings = beginnings_of(coordinator, Stats(conditions=conditions or Conditions()), SameTopic())
    is_ours = (lambda tp: True) if ours is None else ours.__contains__
    await beginnings.look_up([FIRST, SECOND], is_ours, lambda found: begun.append(dict(found)))
    return begun


def positions(begun: list[dict[TopicPartition, Begun]]) -> dict[TopicPartition, tuple[int | None, int]]:
    return {tp: (one.committed, one.position) for part in begun for tp, one in part.items()}


async def test_committed_offset_or_the_first_event() -> None:
    """A partition with a commit is begun there, another one at its first offset."""
    coordinator = Coordinator([{FIRST: Committed(7, ""), SECOND: None}], [{SECOND: 3}])
    assert {FIRST: (7, 7), SECOND: (None, 3)} == positions(await look_up(coordinator))


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._TIMED_OUT,
    ],
)
async def test_coordinator_that_cannot_say_is_asked_again(error: int) -> None:
    """The group is never rewound to the beginning for it."""
    coordinator = Coordinator(
        [error, error, {FIRST: Committed(7, ""), SECOND: Committed(9, "")}], [{FIRST: 0, SECOND: 0}]
    )
    assert {FIRST: (7, 7), SECOND: (9, 9)} == positions(await look_up(coordinator))


async def test_partition_without_leader_waits_alone() -> None:
    """The other one is begun at once."""
    no_leader = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
    coordinator = Coordinator([{FIRST: None, SECOND: None}], [{FIRST: 5, SECOND: no_leader}, {SECOND: 2}])
    begun = await look_up(coordinator)
    assert [{FIRST}, {SECOND}] == [set(part) for part in begun]
    assert {FIRST: (None, 5), SECOND: (None, 2)} == positions(begun)


COMMITTED = {FIRST: Committed(7, ""), SECOND: Committed(9, "")}


@pytest.mark.parametrize(
    "error",
    [KafkaError.COORDINATOR_LOAD_IN_PROGRESS, dict.fromkeys((FIRST, SECOND), KafkaError(KafkaError._WAIT_COORD))],
)
async def test_coordinator_that_is_away_is_told_once_for_all_partitions(error: Any) -> None:
    """Whether it refuses the whole question or each partition of it."""
    conditions = Conditions()
    await look_up(Coordinator([*[error] * 4, COMMITTED], [{}]), conditions=conditions)
    assert (1, 0) == (conditions.begun[Kind.COORDINATOR_AWAY], conditions.begun[Kind.POSITION_UNKNOWN])
    assert [] == conditions.active()


async def test_coordinator_is_not_told_beside_the_outage_of_all_brokers() -> None:
    """That says it already."""
    conditions = Conditions()
    conditions.begin(Kind.BROKERS_DOWN, "No broker answers.", "Look.")
    await look_up(Coordinator([*[KafkaError._TIMED_OUT] * 4, COMMITTED], [{}]), conditions=conditions)
    assert 0 == conditions.begun[Kind.COORDINATOR_AWAY]


async def test_what_concerns_one_partition_is_told_of_it_until_it_is_over() -> None:
    """Unless it is known that it has no leader: a partition is not counted twice."""
    conditions = Conditions()
    conditions.begin(Kind.NO_LEADER, "No leader.", "Wait.", subject=str(SECOND))
    failed = dict.fromkeys((FIRST, SECOND), KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    beginnings: list[Any] = [*[failed] * 4, {FIRST: 0, SECOND: 0}]
    await look_up(Coordinator([{FIRST: None, SECOND: None}], beginnings), conditions=conditions)
    assert (1, 0) == (conditions.begun[Kind.POSITION_UNKNOWN], conditions.begun[Kind.COORDINATOR_AWAY])
    assert [Kind.NO_LEADER] == [one.kind for one in conditions.active()]


async def test_bucket_that_is_silent_is_noted_for_the_sink_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not told of any partition: `SinkWatch` tells it once."""
    stats = Stats(silent_bucket=SilentBucket("connection", "no answer", 2, 0.0, 0.0))
    lives = SameTopic()
    lives.bucket_silent_for = module.TELL_AFTER_TRIES
    noted: list[tuple[str, str, int]] = []
    monkeypatch.setattr(stats, "bucket_silent", lambda *words: noted.append(words))
    beginnings = beginnings_of(Coordinator([COMMITTED], [{}]), stats, lives)
    await beginnings.look_up([FIRST, SECOND], lambda tp: True, lambda found: None)
    assert [("connection", "no answer", 2)] == noted
    assert stats.silent_bucket is None
    assert 0 == sum(stats.conditions.begun.values())


async def test_partition_that_went_to_somebody_else_is_not_begun() -> None:
    """Nor asked for any more."""
    coordinator = Coordinator([KafkaError.NOT_COORDINATOR, {FIRST: Committed(7, "")}], [{}])
    assert {FIRST: (7, 7)} == positions(await look_up(coordinator, ours={FIRST}))


class Log(Coordinator):
    """A partition with a beginning and an end."""

    def __init__(self, beginning: int, end: int) -> None:
        super().__init__([{}], [{FIRST: beginning}])
        self._end = end

    async def ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        return {FIRST: self._end}


@pytest.mark.parametrize(("position", "expected"), [(3, 10), (15, 15)])
async def test_return_to_what_kafka_has(position: int, expected: int) -> None:
    """Retention has overtaken the position; or nothing was wrong with it after all."""
    beginnings = beginnings_of(Log(10, 20), Stats(), SameTopic())
    assert expected == await beginnings.return_to_range(FIRST, position, UNKNOWN_LIFE, lambda: True)


async def test_another_topic_than_before_is_not_gone_on_with() -> None:
    """Its offsets mean other events."""
    lives = SameTopic()
    lives.same = False
    beginnings = beginnings_of(Log(0, 20), Stats(), lives)
    assert await beginnings.return_to_range(FIRST, 30, UNKNOWN_LIFE, lambda: True) is None


async def test_commit_of_another_topic_of_the_name_counts_as_none() -> None:
    """A commit that was made for the deleted topic says nothing of the new one."""
    answers = {FIRST: Committed(7, f"t:{OTHER} v1 7"), SECOND: Committed(9, f"t:{THIS} v1 9")}
    begun = await look_up(Coordinator([answers], [{FIRST: 0}]))
    assert {FIRST: (None, 0), SECOND: (9, 9)} == positions(begun)
    assert "v1 9" == begun[0][SECOND].metadata
