"""What SQS's answers to `doctor` mean, and what to do about them. Pure.

Attributes are those of GetQueueAttributes in the SQS API reference, all text; a server that is not AWS's leaves most of
them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Final

import orjson

from streams.doctor.findings import Finding, ok, unchecked, warning, wrong
from streams.doctor.offsets import duration
from streams.doctor.remedies import SqsStatements
from streams.errors import RecordRejectedError, SinkRefusedError, StreamsError
from streams.settings import Settings
from streams.sinks.doctor_signing import refused_finding
from streams.sinks.sqs_client import SqsAddress, SqsReply

SHORT_RETENTION_SECONDS: Final = 24 * 3600
FIFO_REQUESTS_PER_SECOND: Final = 300
"""Of a FIFO queue without high throughput, per API action (SQS developer guide, "Amazon SQS message quotas")."""

EVENTS_PER_SECOND: Final = 10_000
"""What a worker's CPU allows with a queue, roughly (docs/sqs.md, "Speed and costs")."""

Attributes = Mapping[str, str]


def queue_finding(
    check: str, purpose: str, address: SqsAddress, reply: SqsReply, iam: SqsStatements
) -> tuple[Finding, bool]:
    """The queue, and whether sending to it makes sense; without the right to see its attributes it may."""
    error = reply.error
    if error is None:
        return _found(check, purpose, address, reply.document.get("Attributes", {}))
    if isinstance(error, SinkRefusedError) and error.reason == "queue_missing":
        return _missing(check, address, error, iam), False
    if _lacks_right(error):
        because = f"GetQueueAttributes is denied ({_words(error)}); the worker does without it"
        return unchecked(f"{check}: attributes", because, f"To see them, add:\n{iam.describe()}"), True
    if "scoped to a valid region" in str(error):
        remedy = "Set STREAMS_SQS_REGION to the region in the queue's address, or leave it out."
        return wrong(
            check, f"{address.region} is not the region of {address.endpoint_url} ({_words(error)})", remedy
        ), False
    return refused_finding(check, error, "SQS"), False


def _found(check: str, purpose: str, address: SqsAddress, attributes: Attributes) -> tuple[Finding, bool]:
    arn = attributes.get("QueueArn", "")
    region = arn.split(":")[3] if arn.count(":") >= 5 else ""
    if region and region != address.region:
        return wrong(
            check,
            f"the queue is in {region}, but {address.region} is configured",
            f"Set STREAMS_SQS_REGION={region}, and STREAMS_SQS_ENDPOINT_URL, where it is set, to that region's.",
        ), False
    kind = "FIFO queue" if attributes.get("FifoQueue") == "true" else "standard queue"
    waiting = int(attributes.get("ApproximateNumberOfMessages", 0))
    facts = (
        f"for {purpose}: a {kind} at {address.endpoint_url}, region {address.region}; about {waiting:,} messages wait"
    )
    delay_seconds = int(attributes.get("DelaySeconds", 0))
    return ok(check, facts + (f"; each is held back for {delay_seconds} s" if delay_seconds else "")), True


def _missing(check: str, address: SqsAddress, error: SinkRefusedError, iam: SqsStatements) -> Finding:
    return wrong(
        check,
        f"does not exist at {address.endpoint_url} in {address.region}, or its account does not let this one see it "
        f"({error.detail})",
        f"Correct the address of the queue (or STREAMS_SQS_REGION), or create it: {iam.create()}",
    )


def attribute_findings(
    check: str, attributes: Attributes, limit_bytes: int, settings: Settings, iam: SqsStatements
) -> Iterator[Finding]:
    """What the queue does with the messages that it is sent; nothing where its attributes may not be read."""
    if not attributes:
        return
    if attributes.get("FifoQueue") == "true":
        yield _order(check, attributes, settings)
    yield _size_limit(check, attributes, limit_bytes, iam)
    yield _retention(check, attributes, iam)
    yield _redrive(check, attributes)
    yield _encryption(check, attributes, iam)


def _order(check: str, attributes: Attributes, settings: Settings) -> Finding:
    by_content = "on" if attributes.get("ContentBasedDeduplication") == "true" else "off"
    per_group = attributes.get("FifoThroughputLimit") == "perMessageGroupId"
    events = FIFO_REQUESTS_PER_SECOND * settings.sqs_batch_events
    speed = (
        "high throughput is on"
        if per_group
        else f"at most {FIFO_REQUESTS_PER_SECOND} requests a second, which are {events:,} events in full requests"
    )
    return ok(
        f"{check}: order",
        f"kept within a group (STREAMS_SQS_GROUP_BY={settings.sqs_group_by}); {speed}; deduplication by the worker's "
        f"own ids (by content: {by_content}, which does not matter)",
    )


def _size_limit(check: str, attributes: Attributes, limit_bytes: int, iam: SqsStatements) -> Finding:
    check = f"{check}: size limit"
    told = attributes.get("MaximumMessageSize")
    if told is None:
        return unchecked(check, "the server does not tell")
    if int(told) >= limit_bytes:
        return ok(check, f"{int(told):,} bytes, STREAMS_SQS_MAX_MESSAGE_BYTES={limit_bytes}")
    return warning(
        check,
        f"{int(told):,} bytes, below the {limit_bytes:,} that the worker tries: what is in between is refused first, "
        "then goes to the bucket or the dead letters; in a FIFO queue later events can pass it",
        f"{iam.change(f'MaximumMessageSize={limit_bytes}')}\nor set STREAMS_SQS_MAX_MESSAGE_BYTES={told}",
    )


def _retention(check: str, attributes: Attributes, iam: SqsStatements) -> Finding:
    check = f"{check}: retention"
    told = attributes.get("MessageRetentionPeriod")
    if told is None:
        return unchecked(check, "the server does not tell")
    facts = f"SQS deletes a message {duration(int(told))} after it was sent, received or not"
    if int(told) >= SHORT_RETENTION_SECONDS:
        return ok(check, facts)
    return warning(
        check,
        f"{facts}: an outage of the consumers for longer loses events",
        iam.change("MessageRetentionPeriod=345600"),
    )


def _redrive(check: str, attributes: Attributes) -> Finding:
    check = f"{check}: redrive"
    policy = attributes.get("RedrivePolicy")
    if not policy:
        return ok(check, "no policy: a message that its consumers cannot handle comes again until its retention ends")
    try:
        found = orjson.loads(policy)
        times, target = int(found["maxReceiveCount"]), str(found["deadLetterTargetArn"])
    except (ValueError, KeyError, TypeError):
        return unchecked(check, f"the policy is not understood: {policy}")
    return ok(check, f"a message that was received {times} times without being deleted goes to {target}")


def _encryption(check: str, attributes: Attributes, iam: SqsStatements) -> Finding:
    check = f"{check}: encryption"
    if key := attributes.get("KmsMasterKeyId"):
        return ok(check, f"SSE-KMS with key {key}; sending needs kms:GenerateDataKey and kms:Decrypt on it")
    managed = attributes.get("SqsManagedSseEnabled")
    if managed == "true":
        return ok(check, "SSE-SQS")
    if managed is None:
        return unchecked(check, "the server does not tell")
    return warning(check, "messages are not encrypted at rest", iam.change("SqsManagedSseEnabled=true"))


def probe_finding(check: str, reply: SqsReply, allow: str, simulate: str) -> Finding:
    """The answer to a request without messages: only a denial says something for certain."""
    error = reply.error
    if error is not None and not _is_complaint(error):
        return _not_sent(check, error, allow)
    answer = reply.code or "success"
    return unchecked(
        check,
        f"SQS has no dry run: a request without messages was not denied (answer: {answer}), which does not prove the "
        "right to send",
        "To be certain, run doctor --send: it leaves one message in each queue, which consumers must ignore "
        "(kafka-position begins with streams-doctor/). Or ask IAM, as somebody who may (it looks at the identity's own "
        f"policies, not at the queue's or the KMS key's):\n{simulate}\nIf it says no, add to the worker's IAM policy:\n"
        f"{allow}",
    )


def sent_finding(check: str, position: str, error: StreamsError | None, allow: str) -> Finding:
    """The answer to a real message."""
    if error is None:
        return ok(check, f"allowed; a message with kafka-position={position} was sent and stays in the queue")
    return _not_sent(check, error, allow)


def _not_sent(check: str, error: StreamsError, allow: str) -> Finding:
    if not _lacks_right(error):
        return refused_finding(check, error, "SQS")
    return wrong(
        check,
        _words(error),
        "Add to the worker's IAM policy, and see that neither the queue's policy, a service control policy nor a VPC "
        f"endpoint policy denies it (a queue of another account must allow it in its own policy, too):\n{allow}",
    )


def _lacks_right(error: StreamsError) -> bool:
    """Whether a policy is what denies it, rather than credentials that nobody knows."""
    denied = isinstance(error, SinkRefusedError) and error.reason in ("access_denied", "kms")
    return denied and "AWS credentials" not in str(error)


def _words(error: StreamsError) -> str:
    """What SQS said, without the remedy for the worker's log."""
    return f"{error.reason}: {error.detail}" if isinstance(error, SinkRefusedError) else str(error)


def _is_complaint(error: StreamsError) -> bool:
    """Whether SQS found fault with the request itself, as it should with one that is empty."""
    return isinstance(error, RecordRejectedError) or (isinstance(error, SinkRefusedError) and error.reason == "refused")


def latency_finding(median_seconds: float, count: int, settings: Settings) -> Finding:
    """What a request costs here, and what that means for writes in flight (Little's law)."""
    check, have = "sqs latency", settings.max_in_flight
    needed = ceil(EVENTS_PER_SECOND * (median_seconds + settings.sqs_batch_linger_ms / 1000))
    facts = (
        f"a request takes {median_seconds * 1000:,.1f} ms (median of {count} that read the attributes); "
        f"{EVENTS_PER_SECOND:,} events a second, about what one worker can do, need {needed:,} in flight"
    )
    if needed <= have:
        return ok(check, f"{facts}; STREAMS_MAX_IN_FLIGHT={have}")
    allowed = EVENTS_PER_SECOND * have / needed
    return warning(
        check,
        f"{facts}, but STREAMS_MAX_IN_FLIGHT={have} allows about {allowed:,.0f} a second",
        f"If you need that rate from one worker, set STREAMS_MAX_IN_FLIGHT={needed}, or run it nearer to the queue.",
    )
