"""What a verification has found: numbers and offsets for each partition, and the verdict over all of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streams.layout import PLACES
from streams.offset_set import OffsetSet
from streams.record import UNKNOWN_LIFE, Life, TopicPartition, name_in_bucket

EXIT_PROVED: Final = 0
EXIT_WRONG: Final = 1
EXIT_UNCHECKED: Final = 2

WHOLE_TOPIC: Final = -1
"""The partition's number in the row of a topic that could not be described, so that nobody knows its partitions."""
DIFFERENCES_KEPT: Final = 10_000
"""Differences that are described; the offsets of all of them are kept."""


class Difference(NamedTuple):
    """An event whose object is not what Kafka holds, and in what."""

    offset: int
    what: str


@dataclass
class PartitionResult:
    """What became of the offsets `[start, stop)` of a partition; `stop` is the group's committed offset."""

    topic: str
    partition: int
    start: int
    stop: int
    earliest: int = 0
    """The lowest offset that Kafka has."""
    end: int = 0
    """The offset behind Kafka's last event."""
    objects: int = 0
    dead_letters: int = 0
    found: int = 0
    """Offsets with an object or a dead letter."""
    absent: OffsetSet = field(default_factory=OffsetSet)
    """Kafka never delivered them: markers, aborted transactions, compaction."""
    missing: OffsetSet = field(default_factory=OffsetSet)
    """Delivered by Kafka, or made durable as the ledger says, and not in the bucket."""
    repairable: OffsetSet = field(default_factory=OffsetSet)
    """Those of the missing and the wrong ones that Kafka still delivers."""
    lost: OffsetSet = field(default_factory=OffsetSet)
    """They left Kafka's retention before they were written."""
    unverifiable: OffsetSet = field(default_factory=OffsetSet)
    """Not in the bucket, and neither Kafka nor a ledger can say whether they ever held an event."""
    wrong: OffsetSet = field(default_factory=OffsetSet)
    differences: list[Difference] = field(default_factory=list)
    compared: int = 0
    not_comparable: int = 0
    """Events in the bucket whose bytes were to be compared, and which Kafka no longer has."""
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    """Why the partition could not be checked."""
    life: Life = UNKNOWN_LIFE
    """Which topic of that name it is."""

    @property
    def place(self) -> TopicPartition:
        """The partition as it is called in the bucket."""
        return TopicPartition(name_in_bucket(self.topic, self.life), self.partition)

    @property
    def name(self) -> str:
        """`topic/partition`, and `topic@tag/partition` for a later life; the topic alone where it is not there."""
        return self.topic if self.partition == WHOLE_TOPIC else str(self.place)

    @property
    def events(self) -> int:
        """Events that should be in the bucket, as far as is known."""
        return self.found + len(self.missing) + len(self.lost)

    @property
    def faults(self) -> int:
        """Events that are missing, wrong or lost."""
        return len(self.missing) + len(self.wrong) + len(self.lost)

    @property
    def status(self) -> str:
        """In a word or two, the worst first."""
        if self.problem is not None:
            return "not checked"
        for status in ("lost", "missing", "wrong"):
            if getattr(self, status):
                return status
        if self.unverifiable:
            return "not verifiable"
        return "proved" if self.start < self.stop else "nothing to check"

    def note_difference(self, offset: int, what: str) -> None:
        """An event that Kafka has and whose object is not it."""
        self.wrong.add(offset)
        self.repairable.add(offset)
        if len(self.differences) < DIFFERENCES_KEPT:
            self.differences.append(Difference(offset, what))


class Verdict(NamedTuple):
    """The outcome of the whole: a word for machines, the exit code, a sentence for people."""

    status: str
    exit_code: int
    sentence: str


def verdict_of(parts: Sequence[PartitionResult], group: str) -> Verdict:
    """0 only when everything in the range is proved; 1 when anything is missing, wrong or lost; else 2."""
    if any(part.faults for part in parts):
        return Verdict(_worst(parts), EXIT_WRONG, _fault_sentence(parts))
    return verdict_beside_faults(parts, group)


def verdict_beside_faults(parts: Sequence[PartitionResult], group: str) -> Verdict:
    """What there is to say besides what is missing, wrong or lost: what is left once that is repaired."""
    if problems := _problems(parts):
        sentence = f"NOT CHECKED: {'; '.join(problems[:3])}{_more(problems, 3)}"
        rest = [part for part in parts if part.problem is None]
        if any(part.start < part.stop for part in rest) and not any(part.unverifiable for part in rest):
            sentence = f"{sentence.rstrip('.')}. The rest is proved: {_proved_sentence(rest).removeprefix('PROVED: ')}"
        return Verdict("not checked", EXIT_UNCHECKED, sentence)
    if unverifiable := sum(len(part.unverifiable) for part in parts):
        return Verdict("not verifiable", EXIT_UNCHECKED, _unverifiable_sentence(parts, unverifiable))
    if not any(part.start < part.stop for part in parts):
        return Verdict("not checked", EXIT_UNCHECKED, _nothing_sentence(parts, group))
    return Verdict("proved", EXIT_PROVED, _proved_sentence(parts))


def _problems(parts: Iterable[PartitionResult]) -> list[str]:
    """Why partitions could not be checked: one sentence for all of a topic that have the same reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        if part.problem is not None:
            names.setdefault((part.topic, part.problem), []).append(part.name)
    return [f"{several(topic, found)}: {problem}" for (topic, problem), found in names.items()]


def several(topic: str, names: Sequence[str]) -> str:
    """The one partition, or how many of the topic."""
    return names[0] if len(names) == 1 else f"{topic} ({len(names):,} partitions)"


def _worst(parts: Iterable[PartitionResult]) -> str:
    found = {part.status for part in parts}
    return next((status for status in ("lost", "missing", "wrong") if status in found), "wrong")


def _fault_sentence(parts: Sequence[PartitionResult]) -> str:
    missing, wrong, lost = (sum(len(getattr(part, kind)) for part in parts) for kind in ("missing", "wrong", "lost"))
    where = count_of(sum(1 for part in parts if part.missing), "partition")
    said = []
    if missing:
        said.append(f"MISSING: {count_of(missing, 'event')} of {where} {_is(missing)} not in the bucket")
    if wrong:
        said.append(f"WRONG: {count_of(wrong, 'object')} {_is(wrong)} not what Kafka holds")
    if lost:
        they_were = "it was" if lost == 1 else "they were"
        said.append(f"LOST: {count_of(lost, 'offset')} left Kafka's retention before {they_were} written")
    return "; ".join(said) + ". " + _remedy(parts, missing + wrong, wrong)


def _remedy(parts: Sequence[PartitionResult], faults: int, wrong: int) -> str:
    repairable = sum(len(part.repairable) for part in parts)
    command = f"faust -A streams repair{' --content all' if wrong else ''}"
    if not faults:
        return "Nothing can bring them back: raise the topic's retention, or run more workers."
    if not repairable:
        return "Kafka no longer has them, so they cannot be repaired from it."
    which = "all of them" if repairable == faults else f"{repairable:,} of them"
    kept = f"Kafka still has {'it' if faults == 1 else which}."
    if empty := topics_without_objects(parts):
        return f"{kept} {look_elsewhere(empty)} If they are right, run: {command}"
    return f"{kept} Run: {command}"


def topics_without_objects(parts: Iterable[PartitionResult]) -> list[str]:
    """Those that miss events and of which not one is in the bucket: it may have been looked for in the wrong place."""
    found: dict[str, list[PartitionResult]] = {}
    for part in parts:
        found.setdefault(part.place.topic, []).append(part)
    return [
        topic
        for topic, ours in found.items()
        if any(part.missing for part in ours) and not any(part.found for part in ours)
    ]


def look_elsewhere(topics: Sequence[str]) -> str:
    """What to do before anything is repaired: with a wrong prefix the archive would be written a second time."""
    shown = f"{', '.join(topics[:3])}{_more(topics, 3)}"
    return f"Not one object of {shown} was found in the range: first check {PLACES}, or a second archive is written."


def _unverifiable_sentence(parts: Iterable[PartitionResult], count: int) -> str:
    proved = sum(part.found for part in parts)
    return (
        f"NOT VERIFIABLE: nothing is known to be missing and {count_of(proved, 'event')} {_is(proved)} in the bucket, "
        f"but for {count_of(count, 'offset')} without an object neither Kafka (any more) nor a ledger can say whether "
        f"{'it' if count == 1 else 'they'} held an event. Where the archive is meant to begin later, say so: --from or "
        "--since."
    )


def _nothing_sentence(parts: Sequence[PartitionResult], group: str) -> str:
    if not any(part.stop for part in parts):
        return (
            f"NOT CHECKED: the group {group} has committed no offsets of these partitions. Is STREAMS_CONSUMER_GROUP "
            "right, and has its worker run?"
        )
    return "NOT CHECKED: the range holds no committed offset. Widen --from or --since."


def _proved_sentence(parts: Sequence[PartitionResult]) -> str:
    events, letters = sum(part.events for part in parts), sum(part.dead_letters for part in parts)
    some = [part for part in parts if part.start < part.stop]
    all_of = "the event" if events == 1 else f"all {count_of(events, 'event')}"
    aside = f" ({letters:,} as dead letters)" if letters else ""
    sentence = (
        f"PROVED: {all_of} of {count_of(len(some), 'partition')} up to the committed offsets "
        f"{_is(events)} in the bucket{aside}."
    )
    if compared := sum(part.compared for part in parts):
        sentence += f" {compared:,} compared with Kafka byte for byte."
    return sentence


def count_of(count: int, thing: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _more(problems: Sequence[str], shown: int) -> str:
    return f"; and {len(problems) - shown} more" if len(problems) > shown else ""
