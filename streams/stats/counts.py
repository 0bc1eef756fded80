"""What the worker counts while it works, and the one page that shows it.

`Stats` is plain arithmetic, cheap enough for every event; `/stats`, `/metrics`, the health rules and the periodic log
line all read it and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from time import monotonic, time

from streams.errors import RecordRejectedError
from streams.record import Record
from streams.stats.conditions import Conditions
from streams.stats.recent_errors import DEAD_LETTER, HELD, LEDGER_HOLE, LOST, REFUSED, RETRIED, RecentErrors

LATENCY_BOUNDS_SECONDS: tuple[float, ...] = tuple(
    round(base * 10**exponent, 6) for exponent in range(-3, 2) for base in (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8)
)
"""Upper bounds of the latency buckets, 1 ms to 80 s, ten a decade: a percentile is right to within a quarter."""

RATE_WINDOWS_SECONDS = (10, 60)
LATENCY_WINDOW_SECONDS = 60
SILENT_BUCKET_SECONDS = 60.0
"""A bucket that cannot be asked for so long while nothing is written either is an outage."""


@dataclass(slots=True)
class Waiting:
    """An event whose write has failed at least once and is being retried."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    attempts: int
    since: float
    """Monotonic time of the first failure."""
    last: float
    """Monotonic time of the last failure."""

    @property
    def position(self) -> str:
        """Topic, partition and offset, as log lines name an event."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True)
class LedgerFailure:
    """A segment of the ledger whose write fails."""

    segment: str
    """Partition and offsets."""
    detail: str
    remedy: str | None
    """What the sink's refusal asks for; `None` where it was not refused."""
    since: float
    """Monotonic time of the first failure."""


@dataclass(slots=True)
class SilentBucket:
    """A bucket that cannot be asked whose events it holds."""

    reason: str
    detail: str
    partitions: int
    """How many are not begun for it."""
    since: float
    last: float
    """Monotonic time of the first and of the last question without an answer."""


@dataclass(slots=True)
class HeldEvent:
    """The event that stopped its partition, and why (`STREAMS_ON_REJECT=hold`)."""

    offset: int
    reason: str
    detail: str


class LatencyHistogram:
    """Write latencies, for ever (Prometheus) and over the last minute (percentiles)."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_SECONDS) + 1)
        self.sum_seconds = 0.0
        self._snapshots: deque[tuple[float, list[int]]] = deque()

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds

    def tick(self, now: float) -> None:
        """Called once a second: keep what the window needs."""
        self._snapshots.append((now, list(self.counts)))
        while self._snapshots[0][0] < now - LATENCY_WINDOW_SECONDS:
            self._snapshots.popleft()

    def percentiles_seconds(self, shares: tuple[float, ...]) -> dict[float, float | None]:
        """Upper bounds of the given shares over the last minute; `None` where nothing was written."""
        before = self._snapshots[0][1] if self._snapshots else [0] * len(self.counts)
        window = [count - old for count, old in zip(self.counts, before, strict=True)]
        return {share: percentile_seconds(window, share) for share in shares}


def percentile_seconds(counts: list[int], share: float) -> float | None:
    """Upper bound of the given share of latencies, by their number in each bucket; `None` where there are none."""
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip((*LATENCY_BOUNDS_SECONDS, LATENCY_BOUNDS_SECONDS[-1]), counts, strict=True):
        seen += count
        if seen >= share * total:
            return bound
    return LATENCY_BOUNDS_SECONDS[-1]


@dataclass
class Stats:
    """Everything counted since the start of this process."""

    started_at: float = field(default_factory=time)
    started: float = field(default_factory=monotonic)
    events: Counter[str] = field(default_factory=Counter)
    """Durable events by topic, dead letters not among them."""
    sent_bytes: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Dead letters by topic and reason."""
    retries: Counter[str] = field(default_factory=Counter)
    """Failed attempts by reason; each of them is followed by another attempt."""
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    waiting: dict[tuple[str, int, int], Waiting] = field(default_factory=dict)
    holds: dict[tuple[str, int], HeldEvent] = field(default_factory=dict)
    last_durable: float | None = None
    """Monotonic time of the last write that was durable."""
    last_failure: float | None = None
    rebalances: int = 0
    lost_to_retention: Counter[str] = field(default_factory=Counter)
    """Events that left Kafka's retention before this group had written them, by topic."""
    ledger_segments: int = 0
    """Segments of the ledger that are durable."""
    ledger_write_errors: int = 0
    """Failed writes of segments; each is followed by another."""
    ledger_failing: dict[tuple[str, int], LedgerFailure] = field(default_factory=dict)
    """By topic and partition, the segment that cannot be written at the moment."""
    ledger_holes: int = 0
    """How often the ledger of a partition was given up for some offsets, so that commits could go on."""
    ledger_held_since: float | None = None
    """Monotonic time since when commits of a partition wait for its ledger; `None`: none does."""
    silent_bucket: SilentBucket | None = None
    """`None`: no partition waits for the bucket before it is begun."""
    errors: RecentErrors = field(default_factory=RecentErrors)
    conditions: Conditions = field(default_factory=Conditions)
    """What is not as it should be right now."""
    _rates: deque[tuple[float, int, int]] = field(default_factory=deque)

    def written(self, topic: str, latency_seconds: float, sent_bytes: int) -> None:
        """Count an event whose object is durable."""
        self.events[topic] += 1
        self.sent_bytes[topic] += sent_bytes
        self.latency.observe(latency_seconds)
        self.last_durable = monotonic()

    def dead_lettered(
        self, topic: str, reason: str, detail: str = "", partition: int | None = None, offset: int | None = None
    ) -> None:
        """Count an event whose dead letter is durable."""
        self.dead_letters[topic, reason] += 1
        self.errors.note(DEAD_LETTER, reason, detail, topic=topic, partition=partition, offset=offset)
        self.last_durable = monotonic()

    def lost(self, topic: str, count: int) -> None:
        """Count events that left Kafka's retention before they were written (called from the consumer's thread)."""
        self.lost_to_retention[topic] += count
        self.errors.note(LOST, "retention", "Kafka dropped events before they were written.", topic=topic, count=count)

    def ledger_hole(self, topic: str, partition: int, start: int, stop: int) -> None:
        """Count offsets [start, stop) of which the ledger keeps no record."""
        self.ledger_holes += 1
        self.errors.note(
            LEDGER_HOLE,
            "ledger",
            f"The ledger could not be written for too long and holds nothing of the offsets {start} to {stop - 1}.",
            topic=topic,
            partition=partition,
            offset=start,
        )

    def retrying(self, record: Record, reason: str, detail: str, attempts: int, remedy: str | None = None) -> None:
        """Note a failed attempt; the event shows up as waiting until it is durable.

        `remedy` is what the sink's refusal asks for; `None` where it was not refused.
        """
        now = monotonic()
        self.retries[reason] += 1
        self.last_failure = now
        where = (record.topic, record.partition, record.offset)
        known = self.waiting.get(where)
        since = known.since if known else now
        self.waiting[where] = Waiting(*where, reason, detail, attempts, since, now)
        self.errors.note(
            REFUSED if remedy else RETRIED,
            reason,
            detail,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            remedy=remedy,
        )

    def bucket_silent(self, reason: str, detail: str, partitions: int) -> None:
        """Note that partitions cannot be begun, since the bucket cannot be asked whose events it holds."""
        now = monotonic()
        since = self.silent_bucket.since if self.silent_bucket else now
        self.silent_bucket = SilentBucket(reason, detail, partitions, since, now)

    def no_longer_waiting(self, record: Record) -> None:
        self.waiting.pop((record.topic, record.partition, record.offset), None)

    def held(self, record: Record, rejection: RecordRejectedError) -> None:
        """Note the event that stops its partition; the lowest offset counts."""
        where = (record.topic, record.partition)
        known = self.holds.get(where)
        if known is None or record.offset < known.offset:
            self.holds[where] = HeldEvent(record.offset, rejection.reason, rejection.detail)
        self.errors.note(
            HELD,
            rejection.reason,
            rejection.detail,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )

    def tick(self, now: float) -> None:
        """Called once a second: keep what rates and percentiles need."""
        self.latency.tick(now)
        self._rates.append((now, self.events.total(), self.sent_bytes.total()))
        while self._rates[0][0] < now - max(RATE_WINDOWS_SECONDS):
            self._rates.popleft()

    def rates(self, now: float) -> dict[str, dict[str, float]]:
        """Events and bytes per second over the last 10 and 60 s (or since the start)."""
        events, sent = self.events.total(), self.sent_bytes.total()
        found = {}
        for window in RATE_WINDOWS_SECONDS:
            at, old_events, old_sent = next(
                (sample for sample in self._rates if sample[0] >= now - window), (self.started, 0, 0)
            )
            seconds = max(now - at, 1e-3)
            found[f"{window}s"] = {
                "events_per_second": round((events - old_events) / seconds, 1),
                "bytes_per_second": round((sent - old_sent) / seconds, 1),
            }
        return found

    def stands_still(self, now: float, seconds: float) -> bool:
        """Whether events wait to be written again and none has become durable for so long."""
        return bool(self.waiting) and (self.last_durable is None or now - self.last_durable >= seconds)

    def ledger_held_seconds(self, now: float) -> float:
        """How long commits have waited for the ledger; 0 where none does."""
        return 0.0 if self.ledger_held_since is None else max(0.0, now - self.ledger_held_since)

    @property
    def sink_failing(self) -> bool:
        """Whether the sink's last word was a failure: events or partitions wait, and nothing became durable since."""
        failures = [self.last_failure] if self.waiting else []
        if (silent := self.silent_bucket) is not None:
            failures.append(max(silent.since, silent.last - SILENT_BUCKET_SECONDS))
        return any(self.last_durable is None or (at is not None and at > self.last_durable) for at in failures)
