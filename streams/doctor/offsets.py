"""Lag and time to loss of the whole group: how far behind it is, and when Kafka drops what is not written yet. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streams.doctor.findings import Finding, ok, unchecked, warning, wrong
from streams.record import TopicPartition

WRONG_BELOW_SECONDS: Final = 3600.0
WARNING_BELOW_SECONDS: Final = 24 * 3600.0
WARNING_SHARE: Final = 0.25
"""... of the retention, where that is shorter than WARNING_BELOW_SECONDS."""
PARTITIONS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """Where the group stands in a partition; `end` is the last stable offset, `committed` is `None` before a commit."""

    tp: TopicPartition
    begin: int
    end: int
    committed: int | None

    @property
    def name(self) -> str:
        """`topic/partition`."""
        return str(self.tp)

    @property
    def position(self) -> int:
        """The oldest offset that Kafka still has and that is not durable; a new group begins at the earliest one."""
        return self.begin if self.committed is None else max(self.committed, self.begin)

    @property
    def lag(self) -> int:
        """Offsets between the group and the end."""
        return max(0, self.end - self.position)

    @property
    def gone(self) -> int:
        """Offsets that left retention before the group had committed them."""
        return 0 if self.committed is None else max(0, self.begin - self.committed)


@dataclass(frozen=True, slots=True)
class Risk:
    """When the oldest event of a partition that is not durable falls out of retention, in seconds from now."""

    name: str
    offset: int
    topic: str
    seconds_left: float
    retention_seconds: float

    @property
    def warns(self) -> bool:
        """Whether somebody should hurry."""
        return self.seconds_left < min(WARNING_BELOW_SECONDS, WARNING_SHARE * self.retention_seconds)


def lag(group: str, offsets: Sequence[PartitionOffsets]) -> Finding:
    """How far the group is behind, in all and in the worst partition."""
    check = "kafka lag"
    new = [one for one in offsets if one.committed is None]
    total = sum(one.lag for one in offsets)
    facts = f"{counted(total, 'event')} in {counted(len(offsets), 'partition')}"
    if total:
        worst = max(offsets, key=lambda one: one.lag)
        facts += f", most in {worst.name}: {worst.lag:,} from offset {worst.position}"
    if len(new) == len(offsets):
        facts += f"; group {group} has not committed yet and will begin at the earliest event"
    elif new:
        facts += f"; no commit yet in {counted(len(new), 'partition')}: read from the earliest event there"
    return ok(check, facts)


def lost(offsets: Sequence[PartitionOffsets], servers: str) -> Finding | None:
    """Events that Kafka has dropped before they were written, `None` where there are none."""
    gone = [one for one in offsets if one.gone]
    if not gone:
        return None
    shown = ", ".join(
        f"{one.name} offsets {one.committed} to {one.begin - 1} ({one.gone:,})" for one in gone[:PARTITIONS_SHOWN]
    )
    more = f" and {len(gone) - PARTITIONS_SHOWN} more partitions" if len(gone) > PARTITIONS_SHOWN else ""
    topics = sorted({one.tp.topic for one in gone})
    return wrong(
        "kafka lost to retention",
        f"up to {counted(sum(one.gone for one in gone), 'event')} left Kafka before they were written: {shown}{more}",
        "They cannot be had from Kafka any more. Keep the topic longer, then start the worker (it goes on at the "
        "earliest event that is left):\n" + "\n".join(longer_retention(topic, servers) for topic in topics),
    )


def longer_retention(topic: str, servers: str, seconds: float = 7 * 24 * 3600) -> str:
    """The command that makes a topic keep its events longer."""
    return (
        f"kafka-configs --bootstrap-server {servers} --command-config admin.properties --alter "
        f"--entity-type topics --entity-name {topic} --add-config retention.ms={seconds * 1000:.0f}"
    )


def time_to_loss_finding(risks: Sequence[Risk], behind: int, unknown: Mapping[str, str], servers: str) -> Finding:
    """The partition that loses an event first; `unknown` says why for those of the `behind` where it is not known."""
    check = "kafka time to loss"
    if not behind:
        return ok(check, "no event waits: everything that Kafka holds is committed")
    gaps = _gaps(unknown)
    if not risks:
        return unchecked(check, gaps) if unknown else ok(check, "retention.ms is unlimited: time takes nothing away")
    nearest = min(risks, key=lambda one: one.seconds_left)
    when = f"in {duration(nearest.seconds_left)}" if nearest.seconds_left > 0 else "at any moment"
    facts = (
        f"{nearest.name}: its oldest event that is not written, offset {nearest.offset}, may leave Kafka {when} "
        f"(retention {duration(nearest.retention_seconds)})" + (f"; not known: {gaps}" if unknown else "")
    )
    remedy = (
        "Start workers, or let them catch up (more of them, up to one per partition; STREAMS_MAX_IN_FLIGHT). To win "
        f"time:\n{longer_retention(nearest.topic, servers, 4 * nearest.retention_seconds)}"
    )
    if nearest.seconds_left < WRONG_BELOW_SECONDS and nearest.warns:
        return wrong(check, facts, remedy)
    return warning(check, facts, remedy) if nearest.warns else ok(check, facts)


def _gaps(unknown: Mapping[str, str]) -> str:
    """Reasons, each with the partitions that it is about."""
    names: dict[str, list[str]] = {}
    for name, why in unknown.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{why} ({_some(partitions)})" for why, partitions in names.items())


def _some(names: Sequence[str]) -> str:
    more = len(names) - PARTITIONS_SHOWN
    return ", ".join(names[:PARTITIONS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def duration(seconds: float) -> str:
    """For people: `45 s`, `20 min`, `3.5 h`, `7 days`."""
    if seconds < 120:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days".replace(".0 days", " days")


def counted(number: int, noun: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
