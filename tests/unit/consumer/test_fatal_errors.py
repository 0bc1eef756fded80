"""Fatal errors of librdkafka's consumer, each with its own end; on a broker they are in `tests/integration`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from streams.consumer import WatermarkConsumer
from streams.consumer import consumer as module
from streams.consumer.commits import Commits
from streams.consumer.fatal_errors import cause_of, is_fatal, says_why
from streams.consumer.options import ConsumerOptions
from streams.consumer.poller import CommitResult, Poller
from streams.consumer.watch import KafkaWatch
from streams.errors import KafkaClientError
from streams.record import TopicPartition
from streams.stats import Conditions, Kind

FENCED = KafkaError.FENCED_INSTANCE_ID
UNRELEASED = KafkaError.UNRELEASED_INSTANCE_ID
REFUSED = KafkaError.GROUP_AUTHORIZATION_FAILED
OTHER = KafkaError.GROUP_MAX_SIZE_REACHED


def fatal(code: int) -> KafkaError:
    """As librdkafka gives it with a message: the code behind is only in its words."""
    words = KafkaError(code).str()
    return KafkaError(KafkaError._FATAL, f"Fatal error: {words}: ConsumerGroupHeartbeat fatal error: {words}")


UNNAMED = KafkaError(KafkaError._FATAL)
"""As it answers a commit."""


class Consumer(WatermarkConsumer):
    """Tells what it would have done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.conditions = Conditions()
        self.options = cast(
            ConsumerOptions,
            SimpleNamespace(
                client={"group.instance.id": "pod-0"},
                group="the-group",
                fatal=lambda error: self.done.append(f"exit 2: {error}"),
                stats=SimpleNamespace(conditions=self.conditions),
            ),
        )
        self.assigned_epochs, self.watermarks, self.joined = {}, {}, True
        self._is_dead = self._stop_drained = False
        self._rebalances, self._answered = set(), asyncio.Event()
        self.commits = Commits(lambda points: None, lambda tp, offset: None, self.conditions)
        self._poller = cast(Poller, SimpleNamespace(ask_new_consumer=lambda: self.done.append("new consumer")))
        self.watch = KafkaWatch(cast(Any, None), self, self.conditions, cast(Any, None), cast(Any, None))
        self.watch.subscribed(["orders"])

    def add_future(self, coro: Awaitable[Any]) -> Any:
        return asyncio.ensure_future(coro)

    async def crash(self, reason: BaseException) -> None:
        assert isinstance(reason, KafkaClientError)
        self.done.append(f"crash: {reason}")

    async def sleep(self, n: Any) -> None:
        self.done.append(f"sleep {n}")

    @property
    def should_stop(self) -> bool:
        return False

    def refuse_commit(self, error: KafkaError) -> None:
        self.committed([CommitResult(TopicPartition("orders", 0), 7, error)])


@pytest.fixture
async def consumer() -> Consumer:
    return Consumer()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("code", [FENCED, UNRELEASED, REFUSED])
def test_cause_is_told_by_the_words(code: int) -> None:
    """confluent-kafka has no call that gives the code behind a consumer's fatal error."""
    assert (code, True, True) == (cause_of(fatal(code)), is_fatal(fatal(code)), says_why(fatal(code)))
    assert (code, True, True) == (cause_of(KafkaError(code)), is_fatal(KafkaError(code)), says_why(KafkaError(code)))


def test_errors_that_say_nothing_or_are_none() -> None:
    """A commit is answered with the bare code; one that librdkafka gets over is not fatal."""
    assert (True, False) == (is_fatal(UNNAMED), says_why(UNNAMED))
    assert (True, KafkaError._FATAL) == (is_fatal(fatal(OTHER)), cause_of(fatal(OTHER)))
    assert is_fatal(KafkaError(OTHER, "no room", True))
    assert not is_fatal(KafkaError(KafkaError._TRANSPORT))
    assert not is_fatal(KafkaError(KafkaError.ILLEGAL_GENERATION))


async def test_instance_id_that_is_not_released_is_tried_again_and_again(consumer: Consumer) -> None:
    """Each new consumer may meet the same; the condition says why, and ends with the first assignment."""
    for _ in range(2):
        consumer.failed(fatal(UNRELEASED))
        await settle()
    assert [f"sleep {module.JOIN_AGAIN_SECONDS}", "new consumer"] * 2 == consumer.done
    said = consumer.conditions.get(Kind.NOT_JOINED)
    assert said is not None
    assert ("pod-0" in said.detail, "session timeout" in said.detail, said.blocks_readiness) == (True, True, True)
    assert "tries again" in said.remedy
    assert not consumer.joined


async def test_fenced_instance_says_so_and_ends(consumer: Consumer) -> None:
    """Once, however often the client says it."""
    consumer.failed(fatal(FENCED))
    consumer.failed(fatal(FENCED))
    await settle()
    assert ["crash: fenced: another worker has the same STREAMS_KAFKA_GROUP_INSTANCE_ID, pod-0"] == consumer.done
    said = consumer.conditions.get(Kind.NOT_JOINED)
    assert said is not None
    assert ("fenced" in said.detail, "pod-0" in said.detail, said.blocks_readiness) == (True, True, True)
    assert "give each its own" in said.remedy


@pytest.mark.parametrize("error", [fatal(REFUSED), KafkaError(REFUSED)])
async def test_group_that_may_not_be_used_is_no_matter_of_a_restart(error: KafkaError, consumer: Consumer) -> None:
    """Exit code 2, whatever the protocol."""
    consumer.failed(error)
    (done,) = consumer.done
    assert done.startswith("exit 2: this user may not use the consumer group the-group")


async def test_any_other_fatal_error_ends_the_worker(consumer: Consumer) -> None:
    """A restart heals it: the process has no way to."""
    consumer.failed(fatal(OTHER))
    await settle()
    assert [f"crash: {fatal(OTHER).str()}"] == consumer.done


async def test_commit_tells_what_kills_the_consumer_first(consumer: Consumer) -> None:
    """Where the group refuses it; the bare `_FATAL` waits for the message that says why."""
    consumer.refuse_commit(UNNAMED)
    await settle()
    assert [] == consumer.done
    consumer.refuse_commit(KafkaError(REFUSED))
    assert ["exit 2"] == [done.split(":")[0] for done in consumer.done]


async def test_fenced_commit_ends_the_worker(consumer: Consumer) -> None:
    """The answer may come before the message."""
    consumer.refuse_commit(KafkaError(FENCED))
    consumer.failed(fatal(FENCED))
    await settle()
    assert ["crash"] == [done.split(":")[0] for done in consumer.done]


@pytest.mark.parametrize("code", [FENCED, UNRELEASED, REFUSED, OTHER])
async def test_who_stops_already_goes_on_with_that(code: int, consumer: Consumer) -> None:
    """Its writes finish; only the last commit has no chance, so it waits less for it."""
    assert module.COMMIT_SECONDS == consumer._commit_seconds
    consumer._stop_drained = True
    consumer.failed(fatal(code))
    await settle()
    assert [] == consumer.done
    assert module.COMMIT_WITHOUT_KAFKA_SECONDS == consumer._commit_seconds


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(REFUSED, module.COMMIT_WITHOUT_KAFKA_SECONDS), (KafkaError.TOPIC_AUTHORIZATION_FAILED, module.COMMIT_SECONDS)],
)
async def test_last_commit_waits_less_where_the_group_refuses_it(
    error: int, seconds: float, consumer: Consumer
) -> None:
    """One topic's refusal says nothing of the others."""
    consumer.commits.answered([CommitResult(TopicPartition("orders", 0), 7, KafkaError(error))])
    assert consumer.conditions.of(Kind.COMMITS_REFUSED)
    assert seconds == consumer._commit_seconds
