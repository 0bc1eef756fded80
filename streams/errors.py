"""Everything that can go wrong, as a tree shaped by what the caller does about it.

    StreamsError
    ├── ConfigurationError      stop at start: print the message, exit 2
    ├── RecordRejectedError     this event can never be written: dead-letter it, then acknowledge
    ├── SinkUnavailableError    the sink cannot take it now: retry, slow down
    ├── SinkRefusedError        the sink will not take it until somebody mends something: hold, retry, alert
    ├── KafkaReadError          a command could not read from Kafka what it needs: stop, exit 2
    └── DamagedObjectError      an object is not the event that its key names: report it, go on

Library errors become one of these at one boundary each (`preflight` for Kafka, `sinks.s3_errors`, `sinks.sqs_errors`).
"""

from __future__ import annotations


class StreamsError(Exception):
    """Base of every error that this product raises on purpose."""


class ConfigurationError(StreamsError):
    """The worker cannot start; the message names the setting and the remedy."""


class RecordRejectedError(StreamsError):
    """This event can never be written as configured, whatever is retried.

    `reason` is one of a bounded set (it becomes a metric label): `key_template`, `key_too_long`,
    `too_large`, `invalid_request`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SinkUnavailableError(StreamsError):
    """The sink cannot take the event now.

    `reason` is one of `throttled`, `server_error`, `timeout`, `connection`, `credentials_expired`, `conflict`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class KafkaReadError(StreamsError):
    """Kafka did not give a command what it asked for; the message says what to do."""


class KafkaClientError(StreamsError):
    """Kafka's client has ended for good; the worker ends too, and a restart helps."""


class DamagedObjectError(StreamsError):
    """An object cannot be read back as an event; the message names its key and what is wrong with it."""


class SinkRefusedError(StreamsError):
    """The sink refuses every event until its configuration or permissions change.

    `reason` is one of `access_denied`, `bucket_missing`, `queue_missing`, `wrong_region`, `credentials_missing`, `kms`,
    `refused`; `remedy` tells an on-call engineer what to do.
    """

    def __init__(self, reason: str, detail: str, remedy: str) -> None:
        super().__init__(f"{reason}: {detail} {remedy}")
        self.reason = reason
        self.detail = detail
        self.remedy = remedy
