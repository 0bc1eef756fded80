"""Errors after which librdkafka's consumer does nothing more ("fatal" ones); only a new consumer may help.

librdkafka gives them as `_FATAL`, and the error behind only as words in the text. A commit that comes after it is
answered with `_FATAL` alone; the message with the reason is on its way then.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

CAUSES: Final = (
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.UNRELEASED_INSTANCE_ID,
)
"""Those with an end of their own (`WatermarkConsumer.failed`)."""


def cause_of(error: KafkaError) -> int:
    """The code of the error behind a fatal one where it is among `CAUSES`; else the error's own."""
    if error.code() != KafkaError._FATAL:
        return error.code()
    return next((code for code in CAUSES if KafkaError(code).str() in error.str()), error.code())


def is_fatal(error: KafkaError) -> bool:
    """Whether the consumer that it comes from is dead."""
    return error.fatal() or error.code() == KafkaError._FATAL or cause_of(error) in CAUSES


def says_why(error: KafkaError) -> bool:
    """False for the `_FATAL` that commits are answered with."""
    return error.code() != KafkaError._FATAL or error.str() != KafkaError(KafkaError._FATAL).str()


__all__ = ["CAUSES", "cause_of", "is_fatal", "says_why"]
