"""Time to loss of each assigned partition, kept by the worker: what `retention` needs, asked for in the background.

A topic's configuration is asked for when the topic is new and every ten minutes, the first offset of a partition only
where its size is limited. What cannot be known is left out, never guessed.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic, time

from confluent_kafka import KafkaException

from streams.kafka.retention import Retention, time_to_loss
from streams.record import TopicPartition

logger = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 600.0
GROWTH_WINDOW_SECONDS = 300.0
GROWTH_SAMPLE_SECONDS = 30.0

Ask = Callable[[Iterable[str]], Awaitable[Mapping[str, Retention | None]]]


class RetentionWatch:
    """What is known of the topics' retention and of the partitions' growth."""

    def __init__(self, ask: Ask, fixed: Retention | None = None) -> None:
        """`fixed` (STREAMS_KAFKA_RETENTION_SECONDS) is taken for every topic instead of asking."""
        self._ask = ask
        self._fixed = fixed
        self._retentions: dict[str, Retention | None] = {}
        self._asked_at: float | None = None
        self._log_starts: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, deque[tuple[float, int]]] = {}
        self._told = False

    def retention(self, topic: str) -> Retention | None:
        """Of a topic; `None` while it is unknown."""
        return self._fixed or self._retentions.get(topic)

    async def refresh(self, topics: set[str]) -> None:
        """Ask for the topics' configuration where it is due."""
        now = monotonic()
        due = self._asked_at is None or now - self._asked_at >= ASK_AGAIN_SECONDS
        if self._fixed is not None or not topics or not (due or topics - self._retentions.keys()):
            return
        self._asked_at = now
        try:
            found = await self._ask(topics)
        except KafkaException as error:
            self._say_unknown(sorted(topics), error.args[0].str())
            found = {topic: self._retentions.get(topic) for topic in topics}
        else:
            denied = sorted(topic for topic, retention in found.items() if retention is None)
            if denied:
                self._say_unknown(denied, "this user may not describe their configuration")
        self._retentions = dict(found)

    def _say_unknown(self, topics: list[str], why: str) -> None:
        if not self._told:
            self._told = True
            logger.info(
                "the retention of %s is unknown (%s), so there is no time to loss in /stats and /metrics. Add an ACL "
                "that allows DESCRIBE_CONFIGS on the topics, or set STREAMS_KAFKA_RETENTION_SECONDS",
                ", ".join(topics),
                why,
            )

    def limited_by_size(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those whose first offset matters."""
        found = ((tp, self.retention(tp.topic)) for tp in partitions)
        return [tp for tp, retention in found if retention is not None and retention.size_bytes is not None]

    def note_log_starts(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The first offset of each of those partitions."""
        self._log_starts = dict(offsets)

    def note_ends(self, ends: Mapping[TopicPartition, int], now: float) -> None:
        """The end of every assigned partition (`now` monotonic), some samples of which show how fast it grows."""
        self._ends = {tp: self._ends.get(tp, deque()) for tp in ends}
        for tp, end in ends.items():
            samples = self._ends[tp]
            while samples and samples[-1][1] > end:
                samples.pop()  # the topic was made anew
            if not samples or now - samples[-1][0] >= GROWTH_SAMPLE_SECONDS:
                samples.append((now, end))
            while samples[0][0] < now - GROWTH_WINDOW_SECONDS:
                samples.popleft()

    def events_per_second(self, tp: TopicPartition, end: int, now: float) -> float | None:
        """How fast a partition grew over the last minutes, `None` while that cannot be said."""
        samples = self._ends.get(tp)
        if not samples or now <= samples[0][0]:
            return None
        return max(0, end - samples[0][1]) / (now - samples[0][0])

    def seconds_to_loss(
        self, tp: TopicPartition, *, watermark: int | None, end: int | None, oldest_timestamp_ms: int | None
    ) -> float | None:
        """Of a partition, infinite when nothing is at risk, `None` when it is unknown."""
        retention = self.retention(tp.topic)
        if retention is not None and retention.unlimited:
            return math.inf
        if watermark is None or end is None:
            return None
        if end <= watermark:
            return math.inf
        if retention is None:
            return None
        return time_to_loss(
            retention,
            now_seconds=time(),
            oldest_timestamp_ms=oldest_timestamp_ms,
            watermark=watermark,
            log_start=self._log_starts.get(tp),
            events_per_second=self.events_per_second(tp, end, monotonic()),
        )
