"""librdkafka's own log lines as lines of ours: in plain words, once, and quiet where the worker says it better."""

from __future__ import annotations

import logging
from typing import Final

from streams.kafka.explanations import plain_words

LOGGER_NAME: Final = "streams.kafka.client"
REPEAT_SECONDS: Final = 10.0
REPEATS_REMEMBERED: Final = 1_000

_QUIET: Final = frozenset(
    {
        "FAIL",  # a connection that failed or ended: the worker says when Kafka is away, since when and why
        "ERROR",  # the same once more, for all brokers
        "REQTMOUT",  # requests without an answer, likewise
        "OIDC",  # each try for a token; the login's failure says it
        "CONFWARN",  # an option of consumers that a producer has been given, or the other way round
        "TERMINATE",
        "TERM",
    }
)
"""Kinds of lines (librdkafka's "facilities") that are for people who look closely: level debug."""


def librdkafka_logger() -> logging.Logger:
    """What to hand to every client as `logger=`; its lines come out where the client is polled."""
    logger = logging.getLogger(LOGGER_NAME)
    if not any(isinstance(one, _PlainWords) for one in logger.filters):
        logger.addFilter(_PlainWords())
    return logger


def facility_and_text(record: logging.LogRecord) -> tuple[str, str]:
    """Kind (`FAIL`) and text of a line: the Python client logs `FACILITY [client's name] text`."""
    facility, _, rest = record.getMessage().partition(" [")
    return facility, rest.partition("] ")[2]


class _PlainWords(logging.Filter):
    """Rewrites a line, sets its level, and lets one of a kind and a broker through in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        facility, text = facility_and_text(record)
        if facility in _QUIET:
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        if not logging.getLogger(LOGGER_NAME).isEnabledFor(record.levelno):
            return False
        if self._is_repetition(facility, _thread(text), record.created):
            return False
        record.msg, record.args = f"Kafka client: {plain_words(text)} ({facility})", None
        return True

    def _is_repetition(self, facility: str, thread: str, now_seconds: float) -> bool:
        kind = (facility, thread)
        if now_seconds - self._last.get(kind, 0.0) < REPEAT_SECONDS:
            return True
        if len(self._last) >= REPEATS_REMEMBERED:
            self._last.clear()
        self._last[kind] = now_seconds
        return False


def _thread(text: str) -> str:
    """`[thrd:broker-1:9092/1]`: librdkafka has a thread for each broker."""
    return text.partition("]: ")[0]
