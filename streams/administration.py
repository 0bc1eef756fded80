"""What an administrator may change in a running worker: topics paused, the most writes in flight, the log level.

Only where `STREAMS_ADMIN_TOKEN` is set; `web` serves the routes. Each change, and each attempt that was refused, is a
line of the audit log. Changes last until the process ends and concern this worker alone.
"""

from __future__ import annotations

import hmac
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.delivery import Delivery
from streams.logs import change_level
from streams.settings import LogLevel, Settings

if TYPE_CHECKING:
    from streams.consumer import WatermarkConsumer

ACTIONS_REMEMBERED: Final = 20
REFUSALS_INTERVAL_SECONDS: Final = 10.0
"""Refused attempts get one line in so long, with their number: whoever guesses tokens must not fill the disk."""

audit = logging.getLogger("streams.audit")
"""Always at least at level info: an administrator who sets the level to error is still on record."""


class ActionRefusedError(Exception):
    """What was asked for cannot be done; `status` is HTTP's word for it, the message says what to ask for instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Topic(_Body):
    """Which topic to pause or to resume."""

    topic: str = Field(min_length=1, max_length=249)


class MaxInFlight(_Body):
    """The most writes in flight, from now on."""

    maximum: int = Field(ge=1)


class Level(_Body):
    """The least severe log lines to write, from now on."""

    level: LogLevel


B = TypeVar("B", bound=_Body)


class Administration:
    """The changes, who may make them, and what was changed."""

    def __init__(
        self,
        settings: Settings,
        delivery: Delivery,
        consumer: Callable[[], WatermarkConsumer | None],
        topics: Callable[[], Collection[str]],
    ) -> None:
        """`consumer` is `None` until the worker has started; `topics` are those that it reads."""
        if settings.admin_token is None:
            raise ValueError("there is no administration without STREAMS_ADMIN_TOKEN")
        self._token = settings.admin_token.get_secret_value().encode()
        self._delivery = delivery
        self._consumer = consumer
        self._topics = topics
        self._allowed_maximum = settings.max_in_flight
        self._level: str = settings.log_level
        self._paused_at: dict[str, float] = {}
        self._changes: deque[dict[str, Any]] = deque(maxlen=ACTIONS_REMEMBERED)
        self._refusals = 0
        self._refusals_logged_at = -REFUSALS_INTERVAL_SECONDS
        audit.setLevel(logging.INFO)

    def allows(self, authorization: str | None) -> bool:
        """Whether a request's `Authorization` header carries the token; takes equally long for every wrong one."""
        scheme, _, token = (authorization or "").partition(" ")
        right = hmac.compare_digest(token.strip().encode(errors="surrogateescape"), self._token)
        return right and scheme.lower() == "bearer"

    def note_refusal(self, peer: str, path: str, why: str) -> None:
        """Log an attempt that was refused; of many in a row one line a while."""
        self._refusals += 1
        now = monotonic()
        if now - self._refusals_logged_at < REFUSALS_INTERVAL_SECONDS:
            return
        audit.warning("%s was refused %s: %s (%d refused so far)", peer, path, why, self._refusals)
        self._refusals_logged_at = now

    # --- the actions: each takes a body and the caller's address, and says what changed ------------------------------

    def pause(self, body: bytes, peer: str) -> dict[str, Any]:
        """Take nothing more from a topic; what was taken is finished."""
        consumer, topic = self._running_consumer(), self._topic(body)
        old = _taking(topic not in consumer.paused)
        consumer.pause(topic)
        self._paused_at.setdefault(topic, time())
        return self._changed("topic", topic, old, _taking(False), peer)

    def resume(self, body: bytes, peer: str) -> dict[str, Any]:
        """Go on where the topic was paused."""
        consumer, topic = self._running_consumer(), self._topic(body)
        old = _taking(topic not in consumer.paused)
        consumer.resume(topic)
        self._paused_at.pop(topic, None)
        return self._changed("topic", topic, old, _taking(True), peer)

    def change_max_in_flight(self, body: bytes, peer: str) -> dict[str, Any]:
        """Bound the adaptive limit, at most by what STREAMS_MAX_IN_FLIGHT was at the start."""
        new = _parse(MaxInFlight, body).maximum
        if new > self._allowed_maximum:
            raise ActionRefusedError(
                422,
                f"maximum: at most {self._allowed_maximum} (STREAMS_MAX_IN_FLIGHT, which memory is sized for)",
            )
        old = self._delivery.limit.maximum
        self._delivery.limit.change_maximum(new)
        return self._changed("max_in_flight", None, old, new, peer)

    def change_log_level(self, body: bytes, peer: str) -> dict[str, Any]:
        """Log from another level on."""
        new = _parse(Level, body).level
        old, self._level = self._level, new
        change_level(new)
        return self._changed("log_level", None, old, new, peer)

    # --- what the pages show -----------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """As `/stats` shows it; times in seconds since the epoch. Callers' addresses are in the audit log only."""
        return {
            "paused_topics": {topic: round(since, 3) for topic, since in sorted(self._paused_at.items())},
            "max_in_flight_allowed": self._allowed_maximum,
            "log_level": self._level,
            "changes": list(reversed(self._changes)),
        }

    def _topic(self, body: bytes) -> str:
        topic = _parse(Topic, body).topic
        topics = self._topics()
        if topic not in topics:
            raise ActionRefusedError(422, f"topic: this worker reads {', '.join(sorted(topics))}")
        return topic

    def _running_consumer(self) -> WatermarkConsumer:
        consumer = self._consumer()
        if consumer is None:
            raise ActionRefusedError(503, "the worker is still starting: try again in a few seconds")
        return consumer

    def _changed(self, what: str, topic: str | None, old: str | int, new: str | int, peer: str) -> dict[str, Any]:
        audit.info("%s changed %s%s: %s → %s", peer, what, "" if topic is None else f" {topic!r}", old, new)
        change = {"time": round(time(), 3), "what": what, "topic": topic, "old": old, "new": new}
        if old != new:
            self._changes.append(change)
        return change


def _taking(taking: bool) -> str:
    return "running" if taking else "paused"


def _parse(model: type[B], body: bytes) -> B:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ActionRefusedError(422, "; ".join(_mistakes(error))) from error


def _mistakes(error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in mistake["loc"]) or "body"
        yield f"{where}: {mistake['msg']}"
