"""What a restore is to publish and whether it may: without Kafka and S3."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streams.archive.restore import FixedPlan, Pace, Progress, Restoration, restore_id
from streams.archive.restore_errors import RestoreError, explained
from streams.archive.restore_plan import (
    PartitionPlan,
    Selection,
    plan_restore,
    ranges_text,
    read_ranges,
    target_problems,
)
from streams.archive.target_topic import TargetTopic
from streams.commands.restore import Restore
from streams.errors import RecordRejectedError
from tests.unit.memory_reader import WRITTEN_AT, MemoryReader, event, settings

DAY_MS = 86_400_000
CREATE_TIME_SETTINGS = {"message.timestamp.type": "CreateTime", "cleanup.policy": "delete", "retention.ms": "-1"}


def target(**settings: str) -> TargetTopic:
    return TargetTopic("copy", (0, 1), CREATE_TIME_SETTINGS | settings, 0)


def problems(topic: TargetTopic, plans: list[PartitionPlan], **accepted: bool) -> str:
    options = {"repartition": False, "accept_append_time": False, "accept_retention": False, **accepted}
    return "\n".join(target_problems(topic, plans, 100 * DAY_MS, **options))


async def plan_of(reader: MemoryReader, **fields: object) -> PartitionPlan:
    (plan,) = await plan_restore(reader.archive, Selection("orders", (0,), **fields))  # type: ignore[arg-type] # a test's own
    return plan


def test_same_command_has_the_same_id() -> None:
    """Progress is found again by what was typed, and by nothing else."""
    first = restore_id("bucket", "events/", "copy", ["orders", "since=24h"])
    assert first == restore_id("bucket", "events/", "copy", ["orders", "since=24h"])
    others = [
        restore_id("other", "events/", "copy", ["orders", "since=24h"]),
        restore_id("bucket", "", "copy", ["orders", "since=24h"]),
        restore_id("bucket", "events/", "copy2", ["orders", "since=24h"]),
        restore_id("bucket", "events/", "copy", ["orders", "since=25h"]),
    ]
    assert 5 == len({first, *others})
    assert 10 == len(first)


async def test_plan_counts_what_a_partition_has() -> None:
    """Objects, dead letters, the offsets in between without either, and when it begins."""
    reader = MemoryReader(settings())
    for offset in (3, 4, 9):
        reader.put(event(offset))
    reader.put_letter(event(6))
    plan = await plan_of(reader)
    assert (3, 1, 4) == (plan.objects, plan.dead_letters, plan.events)
    assert (3, 9, 10) == (plan.first_offset, plan.last_offset, plan.stop)
    assert (3, [(5, 6), (7, 9)]) == (plan.without_object, plan.gaps)
    assert 3 == plan.first_time_ms


async def test_asked_range_counts_gaps_to_its_ends() -> None:
    """Offsets that were asked for and are not there are said, whichever end they are at."""
    reader = MemoryReader(settings())
    for offset in (4, 5):
        reader.put(event(offset))
    plan = await plan_of(reader, start=2, stop=8)
    assert ([(2, 4), (6, 8)], 4, 8) == (plan.gaps, plan.without_object, plan.stop)
    nothing = await plan_of(reader, start=20, stop=30)
    assert (0, 0, 30) == (nothing.events, nothing.without_object, nothing.stop)


async def test_much_older_objects_are_not_read_for_a_time() -> None:
    """An event is no younger than its object, but for a day's margin; --read-all reads them all the same."""
    reader = MemoryReader(settings())
    reader.put(event(0), WRITTEN_AT - timedelta(days=3))
    reader.put(event(1), WRITTEN_AT - timedelta(hours=12))
    since_ms = round(WRITTEN_AT.timestamp() * 1000)
    plan = await plan_of(reader, since_ms=since_ms)
    assert (1, 1, 1) == (plan.objects, plan.left_unread, plan.first_time_ms)
    assert 2 == (await plan_of(reader, since_ms=since_ms, read_all=True)).objects


@pytest.mark.parametrize(("timestamp_ms", "expected"), [(9, False), (10, True), (19, True), (20, False), (None, False)])
def test_times_are_from_and_without_the_end(timestamp_ms: int | None, expected: bool) -> None:
    """Two ranges that touch have no event in common; an event without a time is in none."""
    assert expected == Selection("orders", since_ms=10, until_ms=20).holds(event(0, timestamp_ms=timestamp_ms))
    assert Selection("orders").holds(event(0, timestamp_ms=timestamp_ms))


def test_healthy_target_has_no_problems() -> None:
    """Enough partitions, producers' timestamps, nothing deleted."""
    assert "" == problems(target(), [PartitionPlan(1, 0, 5, objects=5, first_time_ms=0)])


def test_fewer_partitions_are_refused_unless_repartitioned() -> None:
    """Partitions are kept, or the user says that they need not be; one without events does not matter."""
    plans = [PartitionPlan(number, 0, 5, objects=5) for number in (0, 2, 3)]
    assert "lacks 2-3" in problems(target(), plans)
    assert "" == problems(target(), plans, repartition=True)
    assert "" == problems(target(), [PartitionPlan(7, 0, 0)])


def test_topic_that_stamps_events_is_refused() -> None:
    """Timestamps would be those of the restore."""
    topic = target(**{"message.timestamp.type": "LogAppendTime"})
    assert "--accept-append-time" in problems(topic, [])
    assert "" == problems(topic, [], accept_append_time=True)


def test_retention_that_would_delete_the_events_is_refused() -> None:
    """Kafka deletes by the events' own timestamps: they would be gone minutes after the restore."""
    plans = [PartitionPlan(0, 0, 5, objects=5, first_time_ms=90 * DAY_MS)]
    week = {"retention.ms": str(7 * DAY_MS)}
    assert "7 days" in problems(target(**week), plans)
    assert "" == problems(target(**week), plans, accept_retention=True)
    assert "" == problems(target(**week, **{"cleanup.policy": "compact"}), plans)
    assert "" == problems(target(**{"retention.ms": str(30 * DAY_MS)}), plans)


def test_hidden_settings_are_no_problem() -> None:
    """Who may not see them is told so elsewhere, and may restore."""
    hidden = TargetTopic("copy", (0, 1), None, 0)
    assert "" == problems(hidden, [PartitionPlan(0, 0, 5, objects=5, first_time_ms=0)])
    assert (False, False, None, None) == (
        hidden.stamps_events,
        hidden.is_compacted,
        hidden.retention_ms,
        hidden.max_batch_bytes,
    )


@given(st.sets(st.integers(0, 300)))
def test_partitions_survive_their_short_form(partitions: set[int]) -> None:
    """A plan is read back as it was fixed."""
    numbers = tuple(sorted(partitions))
    assert numbers == read_ranges(ranges_text(numbers))
    fixed = FixedPlan(numbers, None, 5)
    assert fixed == FixedPlan.decode(fixed.encode())


def test_many_partitions_fit_into_an_offsets_text() -> None:
    """Kafka takes 4,096 bytes (offset.metadata.max.bytes)."""
    assert len(FixedPlan(tuple(range(10_000)), 1, 2).encode()) < 100


def test_progress_survives_its_text() -> None:
    """It goes on exactly where it was; what another program has committed is refused."""
    progress = Progress(5, 9, 3)
    assert progress == Progress.decode(5, progress.encode())
    assert (False, True) == (progress.done, Progress(9, 9).done)
    for text in ("", "{}", "1", '{"stop":"x"}'):
        with pytest.raises(RestoreError, match="--id"):
            Progress.decode(5, text)
        with pytest.raises(RestoreError, match="--id"):
            FixedPlan.decode(text)


async def test_pace_keeps_to_the_rate() -> None:
    """The second batch waits until the first one's time is over."""
    pace = Pace(1000)
    began = monotonic()
    for _ in range(3):
        await pace.take(50)
    assert 0.1 <= monotonic() - began
    await Pace(None).take(10**9)


async def test_foreign_template_key_is_not_ours() -> None:
    """Events whose key the template cannot make are in the dead letters, and restored from there."""
    reader = MemoryReader(settings(object_key_template="{prefix}{header.tenant}/{topic}/{partition}/{offset}"))
    with pytest.raises(RecordRejectedError):
        reader.put(event(0))
    reader.put_letter(event(0))
    reader.put(event(1, headers=(("tenant", b"a"),)))
    plan = await plan_of(reader)
    assert (1, 1, 0) == (plan.objects, plan.dead_letters, plan.without_object)


class Unseen:
    """A restore whose progress cannot be read."""

    def __init__(self, code: int) -> None:
        self.code = code

    async def fixed_plan(self) -> None:
        """As the coordinator refuses."""
        with explained("read the progress", "orders", "streams-restore-1"):
            raise KafkaException(KafkaError(self.code))


@pytest.mark.parametrize(
    ("code", "execute", "goes_on"),
    [
        (KafkaError.GROUP_AUTHORIZATION_FAILED, False, True),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, True, False),
        (KafkaError._TIMED_OUT, False, False),
    ],
)
async def test_a_dry_run_needs_no_right_to_earlier_progress(
    capsys: pytest.CaptureFixture[str], code: int, execute: bool, goes_on: bool
) -> None:
    """The plan is shown, and what is not known is said; publishing without knowing would publish twice."""
    command, restore = Restore.__new__(Restore), cast(Restoration, Unseen(code))
    if not goes_on:
        with pytest.raises(RestoreError):
            await command._fixed_plan(restore, execute=execute)
        return
    assert await command._fixed_plan(restore, execute=execute) is None
    said = capsys.readouterr().err
    assert "whether an earlier run of this restore has begun is not known" in said
    assert "READ on groups prefixed streams-restore-" in said
