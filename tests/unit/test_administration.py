"""Who may change what in a running worker, and that everything is on record."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from streams.administration import ActionRefusedError, Administration
from streams.consumer import WatermarkConsumer
from streams.logs import change_level
from streams.settings import Settings
from tests.unit.status_of_nobody import StatusOfNobody

TOKEN = "a-token-of-24-characters"
PEER = "192.0.2.7"


class PausingConsumer:
    """Remembers what is paused, as the consumer does."""

    def __init__(self) -> None:
        self.paused: set[str] = set()

    def pause(self, topic: str) -> None:
        self.paused.add(topic)

    def resume(self, topic: str) -> None:
        self.paused.discard(topic)


def administration(consumer: PausingConsumer | None = None) -> Administration:
    """Of a worker that reads orders and payments with at most 100 writes in flight."""
    settings = cast(
        Settings,
        SimpleNamespace(
            admin_token=SimpleNamespace(get_secret_value=lambda: TOKEN), max_in_flight=100, log_level="info"
        ),
    )
    found = cast(WatermarkConsumer | None, consumer)
    return Administration(settings, StatusOfNobody().delivery, lambda: found, lambda: ["payments", "orders"])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer ü\udc80",
    ],
)
def test_only_the_whole_token_is_accepted(header: str | None) -> None:
    """Nothing else opens the door, and nothing that a client sends breaks it."""
    assert administration().allows(f"Bearer {TOKEN}")
    assert not administration().allows(header)


@pytest.mark.parametrize("token", ["hunter2", "x" * 15])
def test_short_token_is_refused(token: str) -> None:
    """A token that can be guessed stops the worker at its start, unread."""
    needed = {"kafka_bootstrap_servers": "a:1", "topics": "a", "consumer_group": "g", "s3_bucket": "bucket"}
    with pytest.raises(ValidationError) as mistake:
        Settings(**cast(Any, needed), admin_token=cast(Any, token))
    assert token not in str(mistake.value)


def test_topic_is_paused_and_resumed_on_record(caplog: pytest.LogCaptureFixture) -> None:
    """The consumer is told, the pages show since when, the log says who and what."""
    consumer = PausingConsumer()
    acting = administration(consumer)
    change = acting.pause(b'{"topic": "orders"}', PEER)
    assert ("running", "paused", {"orders"}) == (change["old"], change["new"], consumer.paused)
    since = acting.document()["paused_topics"]["orders"]
    acting.pause(b'{"topic": "orders"}', PEER)
    assert {"orders": since} == acting.document()["paused_topics"]
    acting.resume(b'{"topic": "orders"}', PEER)
    assert (set(), {}) == (consumer.paused, acting.document()["paused_topics"])
    assert [("paused", "running"), ("running", "paused")] == [
        (change["old"], change["new"]) for change in acting.document()["changes"]
    ]
    lines = [record.getMessage() for record in caplog.records if record.name == "streams.audit"]
    assert f"{PEER} changed topic 'orders': running → paused" == lines[0]
    assert 3 == len(lines)


def test_unknown_topic_is_refused() -> None:
    """The answer names those that there are."""
    with pytest.raises(ActionRefusedError, match="this worker reads orders, payments") as refusal:
        administration(PausingConsumer()).pause(b'{"topic": "other"}', PEER)
    assert 422 == refusal.value.status


def test_starting_worker_cannot_be_paused() -> None:
    """There is no consumer yet."""
    with pytest.raises(ActionRefusedError, match="starting") as refusal:
        administration().pause(b'{"topic": "orders"}', PEER)
    assert 503 == refusal.value.status


def test_most_writes_in_flight_stays_within_what_memory_was_sized_for() -> None:
    """From 1 to STREAMS_MAX_IN_FLIGHT, and back."""
    acting = administration()
    assert (100, 7) == tuple(acting.change_max_in_flight(b'{"maximum": 7}', PEER)[name] for name in ("old", "new"))
    assert 100 == acting.change_max_in_flight(b'{"maximum": 100}', PEER)["new"]
    for wrong in (0, -1, 101):
        with pytest.raises(ActionRefusedError, match="maximum"):
            acting.change_max_in_flight(b'{"maximum": %d}' % wrong, PEER)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"topic": 1}', b'{"topic": ""}', b'{"topic": "orders", "x": 1}', b"\xff"],
)
def test_body_that_is_not_what_was_asked_for_is_refused(body: bytes) -> None:
    """One clear refusal, and nothing is changed."""
    consumer = PausingConsumer()
    with pytest.raises(ActionRefusedError) as refusal:
        administration(consumer).pause(body, PEER)
    assert (422, set()) == (refusal.value.status, consumer.paused)


def test_log_level_is_changed_as_if_it_had_been_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that log every step are quiet at info, those that log secrets always; the audit log never is."""
    acting = administration()
    root = logging.getLogger().level
    try:
        acting.change_log_level(b'{"level": "debug"}', PEER)
        assert logging.DEBUG == logging.getLogger("faust").getEffectiveLevel()
        assert logging.INFO == logging.getLogger("botocore").getEffectiveLevel()
        acting.change_log_level(b'{"level": "error"}', PEER)
        assert (logging.ERROR, logging.WARNING) == (
            logging.getLogger("streams").getEffectiveLevel(),
            logging.getLogger("faust").getEffectiveLevel(),
        )
        assert logging.getLogger("streams.audit").isEnabledFor(logging.INFO)
        assert "error" == acting.document()["log_level"]
        with pytest.raises(ActionRefusedError, match="level"):
            acting.change_log_level(b'{"level": "loud"}', PEER)
    finally:
        change_level("info")
        logging.getLogger().setLevel(root)


def test_refusals_are_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever guesses tokens gets one line, not a million."""
    acting = administration()
    for _ in range(1000):
        acting.note_refusal(PEER, "/admin/pause", "wrong token")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "streams.audit"]
    assert PEER in line
    assert TOKEN not in line
