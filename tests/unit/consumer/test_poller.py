"""The thread that reads, without a broker: what it hands over, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException

from streams.consumer import poller as module
from streams.consumer.poller import HEADERS_SECONDS, CommitPoint, Listener, Poller, Start, _Reading
from streams.consumer.room import Room
from streams.errors import KafkaReadError
from streams.kafka.header_names import HeadersLaterError
from streams.record import TopicPartition

ORDERS, PAYMENTS = TopicPartition("orders", 0), TopicPartition("payments", 1)


class Message:
    """What confluent-kafka's messages say."""

    def __init__(self, tp: TopicPartition, offset: int, error: int | None = None) -> None:
        self._tp, self._offset = tp, offset
        self._error = None if error is None else KafkaError(error)

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return self._tp.topic

    def partition(self) -> int:
        return self._tp.partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_CREATE_TIME, 1

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return b"x"

    def headers(self) -> Any:
        return None


class BadName(Message):
    """A header's name is not UTF-8."""

    def headers(self) -> Any:
        raise SystemError("no UTF-8")


@pytest.fixture
def told() -> list[tuple[str, Any]]:
    """What the event loop was told."""
    return []


@pytest.fixture
def poller(told: list[tuple[str, Any]]) -> Poller:
    """One whose event loop does at once what it is told, and that reads two partitions."""
    loop = SimpleNamespace(call_soon_threadsafe=lambda what, *arguments: what(*arguments))
    listener = SimpleNamespace(
        arrived=lambda: told.append(("arrived", None)),
        partition_failed=lambda tp, token, error: told.append(("failed", (tp, token))),
        failed=lambda error: told.append(("trouble", error)),
        committed=lambda results: told.append(("committed", list(results))),
        partitions_gone=lambda partitions, lost: told.append(("gone", (partitions, lost))),
    )
    poller = Poller(
        {}, Room(100, 100_000), cast(Listener, listener), cast(asyncio.AbstractEventLoop, loop), revoke_seconds=1
    )
    poller._reading = {tp: _Reading(tp, Start(1, token, 0)) for token, tp in enumerate((ORDERS, PAYMENTS), 7)}
    poller._owned = {ORDERS: 1, PAYMENTS: 1}
    return poller


def handed_over(poller: Poller) -> list[tuple[TopicPartition, int, list[int], int | None]]:
    return [(one.tp, one.token, [record.offset for record in one.records], one.position) for one in poller.handover]


def test_batch_is_whole_before_it_can_be_taken(poller: Poller) -> None:
    """The event loop takes whatever is in the handover at any moment: half a batch would lose the other half."""

    def messages() -> Iterator[Message]:
        for offset in range(3):
            assert 0 == len(poller.handover), "something is handed over while it is still being filled"
            yield Message(ORDERS, offset)

    poller._hand_over(messages())
    assert [(ORDERS, 7, [0, 1, 2], None)] == handed_over(poller)


def test_partitions_and_ends_keep_their_order(poller: Poller) -> None:
    """An end of a partition comes behind its events."""
    end = Message(ORDERS, 2, KafkaError._PARTITION_EOF)
    poller._hand_over([Message(ORDERS, 0), Message(PAYMENTS, 5), Message(ORDERS, 1), end])
    expected = [(ORDERS, 7, [0], None), (PAYMENTS, 8, [5], None), (ORDERS, 7, [1], None), (ORDERS, 7, [], 2)]
    assert expected == handed_over(poller)


def test_partition_that_is_not_read_any_more_is_left_out(poller: Poller) -> None:
    """It was given away while its events were on their way."""
    del poller._reading[ORDERS]
    poller._hand_over([Message(ORDERS, 0), Message(PAYMENTS, 5), Message(ORDERS, 1)])
    assert [(PAYMENTS, 8, [5], None)] == handed_over(poller)


def test_event_that_cannot_be_read_whole_is_read_again(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing behind it is handed over, and its partition goes back to it; others go on."""
    started: list[dict[TopicPartition, Start]] = []
    monkeypatch.setattr(poller, "_read_from", started.append)

    def cannot(tp: TopicPartition, offset: int, limit_seconds: float) -> Any:
        raise KafkaReadError("the leader is away")

    monkeypatch.setattr(poller._headers, "read", cannot)
    poller._hand_over([Message(ORDERS, 0), BadName(ORDERS, 1), Message(ORDERS, 2), Message(PAYMENTS, 5)])
    assert [(ORDERS, 7, [0], None), (PAYMENTS, 8, [5], None)] == handed_over(poller)
    assert [{ORDERS: Start(1, 7, 1)}] == started


def test_end_of_a_partition_is_not_counted_before_what_is_read_again(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position behind an event that was not handed over would be committed, and the event never written."""
    monkeypatch.setattr(poller, "_read_from", lambda starts: None)

    def cannot(tp: TopicPartition, offset: int, limit_seconds: float) -> Any:
        raise KafkaReadError("the leader is away")

    monkeypatch.setattr(poller._headers, "read", cannot)
    ends = [Message(tp, offset, KafkaError._PARTITION_EOF) for tp, offset in ((ORDERS, 3), (PAYMENTS, 6))]
    poller._hand_over([BadName(ORDERS, 1), Message(ORDERS, 2), Message(PAYMENTS, 5), *ends])
    assert [(PAYMENTS, 8, [5], None), (PAYMENTS, 8, [], 6)] == [one for one in handed_over(poller) if one[2] or one[3]]


def test_events_of_one_hand_over_share_the_time_for_their_headers(
    poller: Poller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many partitions wait for Kafka: it is polled, SIGTERM is heard, and none of the events is passed over."""
    partitions = [TopicPartition("orders", number) for number in range(40)]
    poller._reading = {tp: _Reading(tp, Start(1, 7, 0)) for tp in partitions}
    limits: list[float] = []
    started: list[dict[TopicPartition, Start]] = []
    monkeypatch.setattr(poller, "_read_from", started.append)

    def silence(tp: TopicPartition, offset: int, limit_seconds: float) -> Any:
        limits.append(limit_seconds)
        time.sleep(max(0.0, min(limit_seconds, 0.2)))
        raise HeadersLaterError("not yet")

    monkeypatch.setattr(poller._headers, "read", silence)
    began = time.monotonic()
    poller._hand_over([BadName(tp, 3) for tp in partitions])
    assert time.monotonic() - began < 2 * HEADERS_SECONDS
    assert HEADERS_SECONDS >= limits[0] > 0 >= limits[-1]
    assert [{tp: Start(1, 7, 3) for tp in partitions}] == started
    assert "" == caplog.text, "Kafka is given time before anything is said"


async def test_drain_that_takes_too_long_is_cancelled(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it any more: its partitions are given away."""
    monkeypatch.setattr(module, "REVOKE_GRACE_SECONDS", -0.8)
    began, ended = asyncio.Event(), asyncio.Event()

    async def drain(partitions: set[TopicPartition]) -> dict[TopicPartition, CommitPoint]:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return {}

    poller._loop = asyncio.get_running_loop()
    poller._listener.partitions_revoked = drain  # type: ignore[method-assign] # a stand-in of this module
    others = asyncio.all_tasks()
    assert {} == await asyncio.to_thread(poller._drain, {ORDERS})
    assert began.is_set()
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.sleep(0)
    assert others == asyncio.all_tasks(), "a task is left behind"


def test_drain_after_the_event_loop_is_closed_ends_the_thread(poller: Poller) -> None:
    """It asks nobody; a coroutine that is never awaited would be a warning, which is an error here."""
    loop = asyncio.new_event_loop()
    loop.close()
    poller._loop = loop
    assert {} == poller._drain({ORDERS})
    assert poller._stopping


def test_error_of_a_partition_is_told_with_what_it_is_about(poller: Poller, told: list[tuple[str, Any]]) -> None:
    """So that an error of an earlier reading can be told apart."""
    poller._hand_over([Message(ORDERS, 0, KafkaError._AUTO_OFFSET_RESET)])
    assert ("failed", (ORDERS, 7)) in told


def test_commit_of_an_earlier_assignment_is_not_sent(poller: Poller) -> None:
    """The partition may have been somebody else's in between."""
    sent: list[list[int]] = []
    poller._consumer = SimpleNamespace(
        commit=lambda offsets, asynchronous: sent.append([one.offset for one in offsets])
    )
    poller._commit({ORDERS: CommitPoint(5, "", 1), PAYMENTS: CommitPoint(6, "", 0)})
    assert [[5]] == sent


def test_lost_partitions_are_given_up_although_librdkafka_has_them_no_more(
    poller: Poller, told: list[tuple[str, Any]]
) -> None:
    """It empties the assignment by itself when the session has timed out; the thread goes on."""

    def refuse(partitions: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG))

    poller._consumer = SimpleNamespace(incremental_unassign=refuse)
    poller._on_lost(None, [SimpleNamespace(topic="orders", partition=0)])
    assert ("gone", ({ORDERS}, True)) in told
    assert {PAYMENTS} == set(poller._reading)


def test_partitions_that_were_not_begun_are_given_away(poller: Poller, told: list[tuple[str, Any]]) -> None:
    """confluent-kafka gives all of them back by itself, and fails, where the callback asks for nothing."""
    given_back: list[int] = []
    poller._consumer = SimpleNamespace(incremental_unassign=lambda places: given_back.append(len(places)))
    poller._reading.clear()
    poller._stopping = True
    poller._on_revoke(None, [SimpleNamespace(topic="orders", partition=0)])
    assert [0] == given_back
    assert ("gone", ({ORDERS}, False)) in told


def test_partition_that_left_while_all_was_paused_is_read_when_it_comes_again(poller: Poller) -> None:
    """librdkafka remembers the pause; a start takes it back, but not while the room is full."""
    resumed: list[int] = []
    poller._consumer = SimpleNamespace(
        incremental_assign=lambda places: None,
        incremental_unassign=lambda places: None,
        pause=lambda places: None,
        resume=lambda places: resumed.append(len(places)),
    )
    poller._full_paused = True
    poller._start({ORDERS: Start(1, 9, 0)})
    assert [] == resumed
    poller._full_paused = False
    poller._start({ORDERS: Start(1, 10, 0)})
    assert [1] == resumed


def test_partition_that_was_held_is_read_when_it_comes_again(poller: Poller) -> None:
    """It was held for an event of an earlier assignment; the next one begins without that."""
    paused: list[int] = []
    poller._consumer = SimpleNamespace(
        incremental_assign=lambda places: None,
        incremental_unassign=lambda places: None,
        pause=lambda places: paused.append(len(places)),
        resume=lambda places: None,
    )
    poller._pause({ORDERS})
    poller._on_lost(None, [SimpleNamespace(topic="orders", partition=0)])
    poller._owned[ORDERS] = 2
    poller._start({ORDERS: Start(2, 9, 0)})
    assert [1] == paused
    assert ORDERS in poller._reading


class _Group:
    """A consumer that writes down what it is told; leaving takes the partitions back."""

    def __init__(self, said: list[str], revoke: Any = None) -> None:
        self._said = said
        self._revoke = revoke

    def close(self) -> None:
        self._said.append("close")
        if self._revoke is not None:
            self._revoke()

    def incremental_unassign(self, places: list[Any]) -> None:
        self._said.append(f"unassign {len(places)}")

    def subscribe(self, topics: list[str], **_: Any) -> None:
        self._said.append(f"subscribe {topics}")


@pytest.mark.parametrize("revoked", [True, False])
def test_new_consumer_takes_the_old_ones_place(
    revoked: bool, poller: Poller, told: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitions are given away once, whether the old one says so or not, and the topics are subscribed to."""
    said: list[str] = []
    places = [SimpleNamespace(topic=tp.topic, partition=tp.partition) for tp in (ORDERS, PAYMENTS)]
    monkeypatch.setattr(poller, "_drain", lambda partitions: {})
    old: _Group = _Group(said, (lambda: poller._on_revoke(old, places)) if revoked else None)
    monkeypatch.setattr(poller, "_consumer", old)
    monkeypatch.setattr(poller, "_new_consumer", lambda: _Group(said))
    poller._subscribe(["orders", "payments"])
    poller.ask_new_consumer()
    poller._serve_inbox()
    subscribed = "subscribe ['orders', 'payments']"
    assert [subscribed, "close", *(["unassign 2"] if revoked else []), subscribed] == said
    assert [("gone", ({ORDERS, PAYMENTS}, False))] == told
    assert not poller._reading
    assert not poller._owned
