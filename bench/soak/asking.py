"""Questions to brokers that may be away, or may not have heard yet of a topic that has come or gone: asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaException

from tests.services.waiting import wait_until

_AGAIN_SECONDS = 0.5

Answer = TypeVar("Answer")


def ask_until(question: Callable[[], Answer], timeout_seconds: float, words: Callable[[], str]) -> Answer:
    """Ask until the answer is something true, and return that; whoever is refused or not answered asks again.

    Raises `AssertionError` with `words`, and with the last refusal, after `timeout_seconds`. Each question must
    end by itself: it has a limit of its own.
    """
    problem = ""

    def asked() -> Answer | None:
        nonlocal problem
        try:
            return question()
        except (KafkaException, TimeoutError, KeyError) as error:  # KeyError: metadata without the topic in question
            problem = f" (the last answer: {error!r})"
            return None

    def described() -> str:
        return words() + problem

    found = wait_until(asked, timeout_seconds, described, _AGAIN_SECONDS)
    assert found is not None  # nothing false gets out of the wait
    return found
