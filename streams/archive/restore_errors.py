"""What Kafka says while events are restored, as one error that says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from streams.errors import StreamsError
from streams.kafka.explanations import plain_words
from streams.record import Record

NAME_PREFIX: Final = "streams-restore-"
"""Of the transactional ids and groups of all restores."""

TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
NOT_ITS_FAULT: Final = frozenset(
    {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._INVALID_DIFFERENT_RECORD}
)
"""Events that were not published because of another one."""
_FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_UNREACHABLE: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._AUTHENTICATION}
)
_SILENCE: Final = frozenset({KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError.REQUEST_TIMED_OUT})


class RestoreError(StreamsError):
    """Events cannot be published as asked; the message says what to do. What was published so far stays."""


@contextmanager
def explained(what: str, topic: str, name: str = "") -> Iterator[None]:
    """Turns what Kafka says into a `RestoreError` that says what to do."""
    try:
        yield
    except (KafkaException, TimeoutError) as error:
        raise RestoreError(f"could not {what}: {_remedy(error, topic, name)}") from error


def kafka_error(error: BaseException) -> KafkaError | None:
    """What a `KafkaException` is about."""
    found = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return found if isinstance(found, KafkaError) else None


def is_denied(error: RestoreError) -> bool:
    """Whether this user may not see the progress of restores."""
    problem = None if error.__cause__ is None else kafka_error(error.__cause__)
    return problem is not None and problem.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def _remedy(error: BaseException, topic: str, name: str) -> str:
    problem = kafka_error(error)
    code = KafkaError._TIMED_OUT if problem is None else problem.code()
    if code in _FENCED:
        return f"another run of this restore ({name}) has taken over. Let that one finish."
    if code == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return f"this user may not. Add an ACL that allows WRITE on transactional ids prefixed {NAME_PREFIX}."
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return f"this user may not. Add an ACL that allows READ on groups prefixed {NAME_PREFIX}."
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"this user may not. Add an ACL that allows WRITE, READ and DESCRIBE on the topic {topic}."
    if code in _SILENCE:
        return "the brokers did not answer in time. Run the same command again: it goes on where it was."
    if problem is not None and code in _UNREACHABLE:
        return (
            f"the brokers cannot be used ({plain_words(problem.str())}). `faust -A streams doctor` says why; then run "
            "the same command again: it goes on where it was."
        )
    said = error if problem is None else f"{plain_words(problem.str())} ({problem.name()})"
    return f"{said}. Run the same command again: it goes on where it was."


def refusal(code: int, topic: str, sent: Sequence[Record], max_batch_bytes: int | None) -> RestoreError | None:
    """Why the topic does not take these events; `None` where that is not what the code says."""
    events = _range(sent)
    if code in TOO_LARGE:
        limit = "" if max_batch_bytes is None else f" ({max_batch_bytes:,})"
        return RestoreError(
            f"{topic} does not take {events}: too large for its max.message.bytes{limit}. Raise that, and run the "
            "same command again."
        )
    if code == KafkaError.INVALID_TIMESTAMP:
        return RestoreError(
            f"{topic} does not take the timestamps of {events}. Set its message.timestamp.before.max.ms and "
            "message.timestamp.after.max.ms to 9223372036854775807, and run the same command again."
        )
    if code == KafkaError.INVALID_RECORD:
        return RestoreError(
            f"{topic} does not take {events}: the broker calls a record invalid. A compacted topic takes none "
            "without a key."
        )
    return None


def _range(sent: Sequence[Record]) -> str:
    if len(sent) == 1:
        return f"the event {sent[0].position}"
    return f"an event among {sent[0].position} to {sent[-1].position}"
