"""What `doctor` finds about SQS: credentials and who they are, each queue and its attributes, and the right to send.

SQS has no dry run, and a message cannot be taken back without taking others' messages too. So nothing is sent unless
`send` says so; an empty request is, which no server can make a message of: a denial of it is certain, anything else
proves nothing, and the finding says that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import monotonic, time
from typing import Any, Final

from aiobotocore.session import get_session

from streams.doctor.findings import Finding, unchecked, warning, wrong
from streams.doctor.remedies import SqsStatements
from streams.errors import ConfigurationError, RecordRejectedError, StreamsError
from streams.record import CREATE_TIME, Record
from streams.settings import Settings
from streams.sinks.doctor_signing import (
    Identity,
    clock_finding,
    credential_finding,
    find_credentials,
    identity_finding,
    refused_finding,
    skew_seconds,
)
from streams.sinks.sqs import SERVICE_LIMIT_BYTES, message_rules
from streams.sinks.sqs_client import SqsAddress, SqsClient, SqsReply, credential_settings, resolve_queue_address
from streams.sinks.sqs_doctor_findings import (
    attribute_findings,
    latency_finding,
    probe_finding,
    queue_finding,
    sent_finding,
)
from streams.sinks.sqs_message import Message

LATENCY_REQUESTS: Final = 5
CANARY_TOPIC: Final = "streams-doctor"


@dataclass(frozen=True, slots=True)
class _Target:
    """A queue that the worker sends to, and what for; `limit_bytes` is the largest message that it would send."""

    purpose: str
    url: str
    limit_bytes: int


async def examine_sqs(settings: Settings, *, send: bool = False) -> AsyncGenerator[Finding, None]:
    """Findings about SQS, each part as far as those before it allow; with `send` one message goes to each queue."""
    targets = list(_targets(settings))
    try:
        address = resolve_queue_address(settings, targets[0].url, get_session())
        credentials, facts = await find_credentials(credential_settings(settings, address.region))
    except ConfigurationError as error:
        yield wrong("sqs settings", str(error), "Correct the setting that the message names.")
        return
    except StreamsError as error:
        yield refused_finding("sqs credentials", error, "SQS")
        yield unchecked("sqs queues", "there are no credentials")
        return
    yield credential_finding(facts, "SQS")
    finding, _ = await identity_finding(Identity(credentials, address.region, address.endpoint_url), "SQS")
    yield finding
    caller = finding.finding if finding.finding.startswith("arn:") else ""
    if settings.s3_bucket and settings.sqs_dead_letter_queue_url:
        yield _unused_queue(settings.s3_bucket)
    async with AsyncExitStack() as stack:
        for target in targets:
            client = SqsClient(settings, target.url)
            await client.start()
            stack.push_async_callback(client.close)
            async for finding in _Examination(settings, target, client, caller).findings(send=send):
                yield finding


def _targets(settings: Settings) -> Iterator[_Target]:
    """The queues that the worker would really send to."""
    if settings.sqs_queue_url is not None:
        yield _Target("events", settings.sqs_queue_url, settings.sqs_max_message_bytes)
    if settings.sqs_dead_letter_queue_url is not None and not settings.s3_bucket:
        yield _Target("dead letters", settings.sqs_dead_letter_queue_url, SERVICE_LIMIT_BYTES)


def _unused_queue(bucket: str) -> Finding:
    return warning(
        "sqs dead letters",
        f"STREAMS_SQS_DEAD_LETTER_QUEUE_URL is not used: with STREAMS_S3_BUCKET={bucket} dead letters go to the bucket",
        "Take one of the two settings out.",
    )


class _Examination:
    """One queue; what a check has learnt and later ones need is kept here."""

    def __init__(self, settings: Settings, target: _Target, client: SqsClient, caller: str) -> None:
        self._settings = settings
        self._target = target
        self._client = client
        self._caller = caller
        self._address: SqsAddress = resolve_queue_address(settings, target.url, get_session())
        self._iam = SqsStatements(target.url, self._address.region)
        self._check = f"sqs queue {self._iam.name}"

    async def findings(self, *, send: bool) -> AsyncGenerator[Finding, None]:
        """All of them, in order."""
        sent_at = datetime.now(UTC)
        reply = await self._ask_attributes()
        finding, usable = queue_finding(self._check, self._target.purpose, self._address, reply, self._iam)
        yield finding
        clock = clock_finding(skew_seconds(reply.headers.get("date"), sent_at), "SQS")
        if clock is not None and self._target.purpose == "events":
            yield clock
        if not usable:
            yield unchecked(f"{self._check}: attributes, SEND", "the queue cannot be used, see above")
            return
        attributes = reply.document.get("Attributes", {})
        for finding in attribute_findings(self._check, attributes, self._target.limit_bytes, self._settings, self._iam):
            yield finding
        yield await self._send(attributes) if send else await self._probe(attributes)
        if reply.error is None and self._target.purpose == "events":
            yield await self._latency()

    async def _ask_attributes(self) -> SqsReply:
        return await self._client.ask("GetQueueAttributes", AttributeNames=["All"])

    async def _probe(self, attributes: dict[str, Any]) -> Finding:
        reply = await self._client.ask("SendMessageBatch", Entries=[])
        allow = self._iam.send(attributes.get("KmsMasterKeyId", ""))
        return probe_finding(f"{self._check}: SEND", reply, allow, self._iam.simulate(self._caller))

    async def _send(self, attributes: dict[str, Any]) -> Finding:
        """Send one message as the worker would."""
        message = self._canary()
        outcome: StreamsError | None
        try:
            (outcome,) = await self._client.send_batch([message])
        except StreamsError as error:
            outcome = error
        position = message.attributes["kafka-position"]
        allow = self._iam.send(attributes.get("KmsMasterKeyId", ""))
        return sent_finding(f"{self._check}: SEND", position, outcome, allow)

    def _canary(self) -> Message:
        """An event of a topic that is not there; its offset is the time, so that no FIFO queue drops it as known."""
        now_ms = int(time() * 1000)
        record = Record(CANARY_TOPIC, 0, now_ms, now_ms, CREATE_TIME, None, b'{"canary": "streams doctor"}')
        rules = message_rules(self._settings, self._target.url)
        if self._target.purpose == "events":
            return rules.message(record)
        return rules.dead_letter(record, RecordRejectedError("invalid_request", "a canary of streams doctor"))

    async def _latency(self) -> Finding:
        """How long a request takes here, one after the other."""
        seconds: list[float] = []
        for _ in range(LATENCY_REQUESTS):
            began = monotonic()
            reply = await self._ask_attributes()
            if reply.error is not None:
                return unchecked("sqs latency", f"a request failed: {reply.error}")
            seconds.append(monotonic() - began)
        return latency_finding(median(seconds), len(seconds), self._settings)
