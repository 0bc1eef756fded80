"""Sends requests to SQS: botocore's signature, aiobotocore's HTTP session, AWS's JSON protocol.

botocore's own client takes about 0.8 ms of CPU for a request, most of it for validation, endpoint rules and parsing;
this path takes a third (docs/sqs.md). No retries and no redirects: one request, one answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from math import ceil
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.utils import get_environ_proxies

from streams.costs import SQS_BILLED_BYTES
from streams.errors import SinkUnavailableError, StreamsError
from streams.settings import Settings
from streams.sinks.credentials import CredentialSettings, CredentialSource
from streams.sinks.s3_address import check_aws_configuration, configured_endpoint
from streams.sinks.sqs_errors import SqsAnswer, classify_sqs, from_transport
from streams.sinks.sqs_message import Message

OTHER_REGION: Final = "us-east-1"
"""What SQS-compatible servers expect in signatures."""

_HEADERS: Final = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessageBatch"}
_TARGET: Final = "X-Amz-Target"
_ASK_LIMIT_SECONDS: Final = 10.0
# sqs.REGION.amazonaws.com, sqs-fips.REGION..., VPCE.sqs.REGION.vpce..., and the older REGION.queue.amazonaws.com.
_REGION: Final = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.|^([a-z0-9-]+)\.queue\.amazonaws\.")
_LEGACY_HOST: Final = re.compile(r"(?:[a-z0-9-]+\.)?queue\.(amazonaws\.com(?:\.cn)?)")


class SqsAddress(NamedTuple):
    """Where requests go, and the region that they are signed for."""

    region: str
    endpoint_url: str


def resolve_queue_address(settings: Settings, queue_url: str, session: Any) -> SqsAddress:
    """The endpoint and region of a queue; `session` is botocore's, for what settings and address leave open.

    Raises `ConfigurationError` when AWS's own configuration cannot be read.
    """
    check_aws_configuration(session)
    parts = urlsplit(queue_url)
    found = _REGION.search(parts.hostname or "")
    region = (
        settings.sqs_region
        or (found and (found[1] or found[2]))
        or settings.s3_region
        or session.get_config_variable("region")
        or OTHER_REGION
    )
    legacy = _LEGACY_HOST.fullmatch(parts.hostname or "")
    own = f"https://sqs.{region}.{legacy[1]}" if legacy else f"{parts.scheme}://{parts.netloc}"
    return SqsAddress(region, settings.sqs_endpoint_url or configured_endpoint(session, "sqs") or own)


class SqsReply(NamedTuple):
    """What SQS said to a request of `ask`: `error` is ours where it was no success, with SQS's code."""

    document: dict[str, Any]
    headers: dict[str, str]
    error: StreamsError | None = None
    code: str = ""


class SqsClient:
    """Sends batches of messages to one queue."""

    def __init__(self, settings: Settings, queue_url: str) -> None:
        self._settings = settings
        self._queue_url = queue_url
        self._stack = AsyncExitStack()
        self._address: SqsAddress | None = None
        self._credentials: CredentialSource | None = None
        self._http: Any = None
        self.billed_requests = 0
        """Requests that SQS has answered, each once for every 64 KiB of messages; answers 5xx are left out."""

    async def start(self) -> None:
        """Get ready; no network needed. Raises `ConfigurationError`."""
        settings, session = self._settings, get_session()
        address = self._address = resolve_queue_address(settings, self._queue_url, session)
        self._credentials = CredentialSource(credential_settings(settings, address.region))
        self._stack.push_async_callback(self._credentials.close)
        self._http = await self._stack.enter_async_context(
            AIOHTTPSession(
                verify=session.get_config_variable("ca_bundle") or True,
                proxies=get_environ_proxies(address.endpoint_url),
                timeout=(settings.sqs_connect_timeout_seconds, settings.sqs_request_timeout_seconds),
                max_pool_connections=settings.max_in_flight,
            )
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._stack.aclose()

    async def send_batch(self, messages: Sequence[Message]) -> list[StreamsError | None]:
        """Send messages in one request; the outcome of each, `None` where SQS has confirmed it.

        Raises `StreamsError` for what concerns all of them.
        """
        entries = [message.entry(str(index)) for index, message in enumerate(messages)]
        body = orjson.dumps({"QueueUrl": self._queue_url, "Entries": entries})
        try:
            async with asyncio.timeout(self._settings.sqs_request_timeout_seconds):
                status, headers, content = await self._post(body)
        except Exception as error:
            raise from_transport(error) from error
        if status < 500:
            self.billed_requests += 1 if len(body) <= SQS_BILLED_BYTES else _billed_parts(messages)
        if status != 200:
            raise self._meaning(_read_error(status, headers, content))
        return _read_outcomes(content, len(messages), headers.get("x-amzn-requestid", ""))

    async def ask(self, operation: str, **parameters: Any) -> SqsReply:
        """Any other request about the queue, for `doctor`; never raises but for cancellation."""
        body = orjson.dumps({"QueueUrl": self._queue_url, **parameters})
        try:
            async with asyncio.timeout(min(_ASK_LIMIT_SECONDS, self._settings.sqs_request_timeout_seconds)):
                status, headers, content = await self._post(body, {**_HEADERS, _TARGET: f"AmazonSQS.{operation}"})
        except Exception as error:
            return SqsReply({}, {}, from_transport(error))
        if status != 200:
            answer = _read_error(status, headers, content)
            return SqsReply({}, headers, classify_sqs(answer), answer.code)
        return _read_document(headers, content)

    async def _post(
        self, body: bytes, request_headers: Mapping[str, str] = _HEADERS
    ) -> tuple[int, dict[str, str], bytes]:
        if self._address is None or self._credentials is None:
            raise RuntimeError("send before start")
        credentials = self._credentials.known() or await self._credentials.frozen()
        request = AWSRequest("POST", self._address.endpoint_url + "/", headers=request_headers, data=body)
        SigV4Auth(credentials, "sqs", self._address.region).add_auth(request)
        answer = await self._http.send(request.prepare())
        return answer.status_code, answer.headers, await answer.content

    def _meaning(self, answer: SqsAnswer) -> StreamsError:
        """What an answer means; credentials that SQS calls expired are got anew for the next request."""
        meaning = classify_sqs(answer)
        expired = isinstance(meaning, SinkUnavailableError) and meaning.reason == "credentials_expired"
        if expired and self._credentials is not None:
            self._credentials.expire()
        return meaning


def _billed_parts(messages: Sequence[Message]) -> int:
    """For how many requests SQS bills this one."""
    return max(1, ceil(sum(message.size_bytes for message in messages) / SQS_BILLED_BYTES))


def credential_settings(settings: Settings, region: str) -> CredentialSettings:
    """What the settings say of the credentials for SQS."""
    return CredentialSettings(
        "SQS",
        region,
        settings.sqs_role_arn,
        settings.sqs_role_external_id,
        settings.sqs_request_timeout_seconds,
        settings.sqs_connect_timeout_seconds,
    )


def _read_error(status: int, headers: dict[str, str], content: bytes) -> SqsAnswer:
    """An error of AWS's JSON protocol, or whatever a proxy says."""
    try:
        document = orjson.loads(content)
        code = str(document.get("__type", "")).rpartition("#")[2]
        message = str(document.get("message") or document.get("Message") or "")
    except (AttributeError, ValueError):
        code = message = ""
    # The older word for the same is the more precise one where there are two: AWS.SimpleQueueService.NonExistentQueue.
    code = headers.get("x-amzn-query-error", "").partition(";")[0] or code
    return SqsAnswer(status, code, message, headers.get("x-amzn-requestid", ""))


def _read_document(headers: dict[str, str], content: bytes) -> SqsReply:
    try:
        document = orjson.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return SqsReply({}, headers, SinkUnavailableError("server_error", "the answer may not be SQS's"))
    return SqsReply(document, headers)


def _read_outcomes(content: bytes, count: int, request_id: str) -> list[StreamsError | None]:
    silent = SinkUnavailableError("server_error", "the answer does not confirm the message, so it may not be SQS's")
    outcomes: list[StreamsError | None] = [silent] * count
    try:
        document = orjson.loads(content)
        for entry in document.get("Successful") or ():
            if entry.get("MessageId"):
                outcomes[int(entry["Id"])] = None
        for entry in document.get("Failed") or ():
            outcomes[int(entry["Id"])] = classify_sqs(_entry_answer(entry, request_id))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return [silent] * count
    return outcomes


def _entry_answer(entry: dict[str, Any], request_id: str) -> SqsAnswer:
    status = 400 if entry.get("SenderFault") else 500
    return SqsAnswer(status, str(entry.get("Code", "")), str(entry.get("Message") or ""), request_id, of_entry=True)
