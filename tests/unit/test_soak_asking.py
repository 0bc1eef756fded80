"""Brokers that are away, or have not heard of a topic yet, are asked again; a question that is never answered ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException

from bench.soak.asking import ask_until


def _refuse(code: int) -> None:
    raise KafkaException(KafkaError(code))


def _forget() -> None:
    raise KeyError("a topic that a broker has not heard of")


def _say_nothing() -> None:
    raise TimeoutError


def test_a_refused_question_is_asked_again() -> None:
    """Whatever a broker refuses with, and an answer that is not there yet: the first good one is returned."""
    before: list[Callable[[], None]] = [
        lambda: _refuse(KafkaError.UNKNOWN_TOPIC_OR_PART),
        lambda: _refuse(KafkaError._TRANSPORT),
        _forget,
        _say_nothing,
        lambda: None,
    ]
    answers = iter(before)

    def question() -> str | None:
        refusal = next(answers, None)
        if refusal is None:
            return "answered"
        refusal()
        return None

    assert "answered" == ask_until(question, 10, lambda: "never answered")
    assert next(answers, None) is None


def test_a_question_that_stays_refused_ends_with_the_reason() -> None:
    """Words alone would not say why."""
    with pytest.raises(AssertionError, match=r"the topic is not there .*UNKNOWN_TOPIC_OR_PART"):
        ask_until(lambda: _refuse(KafkaError.UNKNOWN_TOPIC_OR_PART), 0.1, lambda: "the topic is not there")


def test_what_is_no_refusal_is_raised() -> None:
    """A worker that has ended, or a mistake in the soak itself, is not waited for."""
    with pytest.raises(ZeroDivisionError):
        ask_until(lambda: 1 // 0, 10, lambda: "never")
