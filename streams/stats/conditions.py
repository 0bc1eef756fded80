"""What is not as it should be right now: each condition with since when, what it means, and what to do.

Whoever notices one begins it and, once it is over, ends it; beginning it again only refreshes its detail. One log line
when it begins, one a minute while it lasts, one when it is over. The page, `/stats`, metrics and readiness read them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, time
from typing import Any, Final

logger = logging.getLogger(__name__)

REPEAT_SECONDS: Final = 60.0


class Kind(StrEnum):
    """Every condition there is; the value is its name in `/stats` and the `condition` label of the metric."""

    BROKERS_DOWN = "kafka_unreachable"
    """No broker answers."""
    COORDINATOR_AWAY = "coordinator_unavailable"
    """The group's coordinator cannot be asked, so positions or commits wait."""
    COMMITS_REFUSED = "commits_refused"
    """Kafka refuses commits; the subject is a topic, or empty for all."""
    COMMITS_LATE = "commits_late"
    """Events are durable, and their offsets could not be committed for a while."""
    NO_LEADER = "partition_without_leader"
    """The subject is `topic/partition`."""
    POSITION_UNKNOWN = "position_unknown"
    """An assigned partition cannot be begun yet; the subject is `topic/partition`."""
    UNREADABLE = "partition_unreadable"
    """What Kafka has at a partition's position cannot be read; the subject is `topic/partition`."""
    END_OFFSETS_OLD = "end_offsets_old"
    """So lag is unknown, and no other condition says why; the subject is `topic/partition`."""
    NOT_JOINED = "group_not_joined"
    """Brokers answer, and this worker is no member of its group (any more, or yet)."""
    TOPIC_GONE = "topic_gone"
    """A topic that was subscribed to is not there any more; the subject is the topic."""
    TOPIC_RECREATED = "topic_recreated"
    """Its name belongs to another topic than the one in the bucket, so it is held; the subject is the topic."""
    IDENTITY_UNKNOWN = "topic_identity_unknown"
    """It cannot be told whether a topic is the one in the bucket; the subject is the topic."""
    SINK_FAILING = "sink_failing"
    """Every write fails at the moment: S3 or SQS."""
    WRITES_FAILING = "writes_failing"
    """Some events do not get through although others do."""
    LEDGER_HELD = "ledger_not_written"
    """The ledger cannot be written, so commits wait for it, or go without it."""


KAFKA: Final = frozenset(Kind) - {Kind.SINK_FAILING, Kind.WRITES_FAILING, Kind.LEDGER_HELD}
"""Those that are about Kafka: while one is active, nobody can say that a worker has caught up."""
CRITICAL: Final = frozenset(
    {
        Kind.BROKERS_DOWN,
        Kind.NOT_JOINED,
        Kind.TOPIC_RECREATED,
        Kind.IDENTITY_UNKNOWN,
        Kind.COMMITS_REFUSED,
        Kind.COMMITS_LATE,
        Kind.COORDINATOR_AWAY,
        Kind.SINK_FAILING,
    }
)
"""Those whose alerts wake somebody up when they last (`helm/streams/files/alerts.yaml`)."""


@dataclass(slots=True)
class Condition:
    """One thing that is not as it should be."""

    kind: Kind
    subject: str
    """A topic, `topic/partition`, or empty for the whole worker."""
    detail: str
    """A sentence that says what is wrong."""
    remedy: str
    """What to do; "Nothing: …" where it ends by itself."""
    blocks_readiness: bool
    """Whether the worker is not ready while it lasts."""
    since: float
    """Monotonic."""
    since_time: float
    """Seconds since the epoch."""
    told_at: float

    @property
    def name(self) -> str:
        """`kind` alone, or `kind subject`."""
        return f"{self.kind.value} {self.subject}".strip()

    def sentence(self, now: float) -> str:
        """Name, how long (`now` monotonic), what is wrong and what to do."""
        return f"{self.name}, for {now - self.since:.0f} s: {self.detail} {self.remedy}"

    @property
    def severity(self) -> str:
        """`critical` or `warning`, in the words of the alerts."""
        return "critical" if self.kind in CRITICAL else "warning"

    def document(self, now: float) -> dict[str, Any]:
        """As `/stats` shows it (`now` monotonic)."""
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "severity": self.severity,
            "detail": self.detail,
            "remedy": self.remedy,
            "blocks_readiness": self.blocks_readiness,
            "since_time": round(self.since_time, 3),
            "for_seconds": round(now - self.since, 1),
        }


class Conditions:
    """All that are active now. Call it from the event loop's thread."""

    def __init__(self) -> None:
        self._active: dict[tuple[Kind, str], Condition] = {}
        self.begun: dict[Kind, int] = dict.fromkeys(Kind, 0)
        """How often each kind has begun."""

    def begin(
        self, kind: Kind, detail: str, remedy: str, *, subject: str = "", blocks_readiness: bool = False
    ) -> Condition:
        """It is so now. One that was active already keeps its beginning and takes over the new words."""
        now = monotonic()
        known = self._active.get((kind, subject))
        if known is not None:
            known.detail, known.remedy, known.blocks_readiness = detail, remedy, blocks_readiness
            if now - known.told_at >= REPEAT_SECONDS:
                known.told_at = now
                logger.log(_level(kind), "%s, for %.0f s now: %s %s", known.name, now - known.since, detail, remedy)
            return known
        found = Condition(kind, subject, detail, remedy, blocks_readiness, now, time(), now)
        self._active[kind, subject] = found
        self.begun[kind] += 1
        logger.log(_level(kind), "%s: %s %s", found.name, detail, remedy)
        return found

    def end(self, kind: Kind, subject: str = "") -> None:
        """It is over; nothing happens where it was not so."""
        found = self._active.pop((kind, subject), None)
        if found is not None:
            logger.warning("%s is over, after %.0f s", found.name, monotonic() - found.since)

    def drop(self, kind: Kind, subject: str = "") -> None:
        """Say nothing more of it: it is not over, and not this worker's any more."""
        self._active.pop((kind, subject), None)

    def end_all_but(self, kind: Kind, subjects: set[str]) -> None:
        """End every condition of this kind whose subject is not among these."""
        for known, subject in [key for key in self._active if key[0] is kind]:
            if subject not in subjects:
                self.end(known, subject)

    def get(self, kind: Kind, subject: str = "") -> Condition | None:
        """The active condition, if it is so."""
        return self._active.get((kind, subject))

    def active(self) -> list[Condition]:
        """The longest first."""
        return sorted(self._active.values(), key=lambda one: one.since)

    def most_serious_first(self) -> list[Condition]:
        """What the worker is not ready for, then what is critical, then the rest; of equal ones the longest first."""
        return sorted(self.active(), key=lambda one: (not one.blocks_readiness, one.severity))

    def of(self, kind: Kind) -> list[Condition]:
        """Those of one kind, the longest first."""
        return [one for one in self.active() if one.kind is kind]


def _level(kind: Kind) -> int:
    return logging.ERROR if kind in CRITICAL else logging.WARNING
