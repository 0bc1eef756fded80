"""Outages of the sink and of the ledger begin and end in the words of the conditions."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streams.errors import SinkRefusedError
from streams.record import Record
from streams.stats import Kind, LedgerFailure, SinkWatch, Stats, counts, watched_sink

REFUSED = SinkRefusedError("access_denied", "AccessDenied: no.", "Allow s3:PutObject on events/*.")


class Story:
    """A worker's writes and the clock, second by second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(counts, "monotonic", lambda: self.now)
        self.stats = Stats()
        self.watch = SinkWatch(self.stats)

    def fail(self, *offsets: int, reason: str = "connection") -> None:
        """These writes fail."""
        for offset in offsets:
            self.stats.retrying(record(offset), reason, f"{reason}: no answer", 1)

    def succeed(self, offset: int) -> None:
        """This write is durable."""
        self.stats.no_longer_waiting(record(offset))
        self.stats.written("orders", 0.1, 1)

    def tick(self, seconds: float = 1.0) -> list[Kind]:
        """Time goes by; what is active then."""
        self.now += seconds
        self.watch.tick(self.now)
        return [one.kind for one in self.stats.conditions.active()]


def record(offset: int) -> Record:
    return Record("orders", 0, offset, None, None, None, b"v")


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(monkeypatch)


def test_outage_begins_after_two_seconds_and_ends_with_the_first_write(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    """With the first event that waits, why, and what to do; and a line that says that it is over."""
    with caplog.at_level(logging.WARNING):
        story.fail(7, 8)
        assert [] == story.tick() == story.tick()
        assert [Kind.SINK_FAILING] == story.tick()
        story.succeed(8)
        assert [] == story.tick()
    begun, over = (entry.getMessage() for entry in caplog.records)
    assert begun.startswith("sink_failing: The sink only fails at the moment, and 2 events wait for it; the first is ")
    assert "orders/0/7: connection: no answer. Nothing is lost" in begun
    assert "Check that this worker reaches the sink" in begun
    assert over.startswith("sink_failing is over, after")


def test_refusal_says_its_remedy_once(story: Story) -> None:
    """The remedy is the sink's own, and the detail does not repeat it."""
    story.stats.retrying(record(1), "access_denied", str(REFUSED), 1, REFUSED.remedy)
    for _ in range(3):
        story.tick()
    (condition,) = story.stats.conditions.active()
    assert REFUSED.remedy == condition.remedy
    assert "orders/0/1: access_denied: AccessDenied: no. Nothing" in condition.detail


def test_short_failures_are_nothing(story: Story) -> None:
    """A throttled write now and then is what the limit lives on."""
    for offset in range(0, 40, 2):
        story.fail(offset)
        story.succeed(offset)
        story.fail(offset + 1)
        assert [] == story.tick(0.5)
        story.succeed(offset + 1)
        assert [] == story.tick(0.5)


def test_event_that_fails_while_others_succeed(story: Story) -> None:
    """It looks like an outage once, is told for what it is then, and ends when the event is durable."""
    seen = []
    for second in range(60):
        if second % 4 == 0:
            story.succeed(100 + second)
        else:
            story.fail(1)
        seen.append(story.tick())
    assert [Kind.WRITES_FAILING] == seen[-1]
    begun = story.stats.conditions.begun
    assert (1, 1) == (begun[Kind.WRITES_FAILING], begun[Kind.SINK_FAILING])
    story.succeed(1)
    assert [] == story.tick()


def test_event_that_fails_on_a_busy_worker_is_never_an_outage(story: Story) -> None:
    """With many writes in between, and throttled ones now and then."""
    for second in range(12):
        story.fail(1)
        story.succeed(100 + second)
        story.tick()
    begun = story.stats.conditions.begun
    assert (1, 0) == (begun[Kind.WRITES_FAILING], begun[Kind.SINK_FAILING])


def test_what_backs_off_after_an_outage_does_not_fail(story: Story) -> None:
    """Events that were not tried again yet are no sign of trouble."""
    story.fail(1, 2, 3)
    story.tick()
    story.tick()
    assert [Kind.SINK_FAILING] == story.tick()
    story.succeed(1)
    assert [] == story.tick()
    assert [] == story.tick(15)
    story.fail(2)
    story.succeed(3)
    assert [Kind.WRITES_FAILING] == story.tick(15)


def test_bucket_that_cannot_be_asked_is_an_outage_until_it_answers(story: Story) -> None:
    """No event waits for it: no partition is begun. It is told once, however many there are."""
    story.stats.bucket_silent("connection", "no answer", 400)
    assert [] == story.tick() == story.tick()
    assert [Kind.SINK_FAILING] == story.tick()
    (condition,) = story.stats.conditions.active()
    assert "cannot be asked whose events it holds, so 400 partitions are not begun yet" in condition.detail
    assert "connection: no answer. Nothing is lost" in condition.detail
    assert "Check that this worker reaches the sink" in condition.remedy
    story.fail(7)
    assert [Kind.SINK_FAILING] == story.tick()
    assert "1 event waits for it" in condition.detail, "a write says more"
    story.succeed(7)
    story.stats.silent_bucket = None
    assert [] == story.tick()


def test_bucket_that_cannot_be_asked_though_it_is_written_to(story: Story) -> None:
    """Is the lesser trouble while writes get through, and an outage once none does for a minute."""
    for _ in range(12):
        story.stats.bucket_silent("throttled", "slow down", 1)
        story.succeed(1)
        story.tick()
    (condition,) = story.stats.conditions.active()
    assert Kind.WRITES_FAILING is condition.kind
    assert "so 1 partition is not begun yet: throttled: slow down." in condition.detail
    story.tick(counts.SILENT_BUCKET_SECONDS + 1)
    story.stats.bucket_silent("throttled", "slow down", 1)
    story.tick()
    assert [Kind.SINK_FAILING] == story.tick(120)


@pytest.mark.parametrize(
    ("held_for", "blocks", "words"),
    [(None, False, "commits carry what it holds"), (30, False, "commits wait for it"), (61, True, "it has a hole")],
)
def test_ledger_that_cannot_be_written(story: Story, held_for: int | None, blocks: bool, words: str) -> None:
    """Its consequence grows with the time; past a minute of held commits the worker is not ready."""
    story.stats.ledger_failing["orders", 0] = LedgerFailure("orders/0, offsets 0 to 9", "no", "Allow it.", story.now)
    assert [] == story.tick()
    story.stats.ledger_held_since = None if held_for is None else story.now + 1 - held_for
    assert [Kind.LEDGER_HELD] == story.tick()
    (condition,) = story.stats.conditions.active()
    assert (blocks, "Allow it.") == (condition.blocks_readiness, condition.remedy)
    assert words in condition.detail
    assert "orders/0, offsets 0 to 9: no" in condition.detail
    story.stats.ledger_failing.clear()
    story.stats.ledger_held_since = None
    assert [] == story.tick()


async def test_commands_watch_while_they_write() -> None:
    """As the worker does with its own clock."""
    stats = Stats()
    async with asyncio.timeout(10), watched_sink(stats, 0.05):
        stats.retrying(record(1), "connection", "no answer", 1)
        while not stats.conditions.active():
            await asyncio.sleep(0.05)
