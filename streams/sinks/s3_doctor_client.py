"""The requests that `doctor` sends to S3 beside the worker's own PUT: answers with their headers, errors classified."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.handlers import add_expect_header

from streams.errors import SinkRefusedError, StreamsError
from streams.settings import Settings
from streams.sinks.doctor_signing import REQUEST_LIMIT_SECONDS, Identity, skew_seconds
from streams.sinks.s3_address import S3Address, resolve_address
from streams.sinks.s3_errors import from_botocore


@dataclass(frozen=True, slots=True)
class Answer:
    """What S3 said: `body` is botocore's parsed answer; `error` is ours where it was no success, with S3's code."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]
    error: StreamsError | None = None
    code: str = ""
    skew_seconds: float | None = None
    """How far this machine's clock is ahead of the answer's Date."""

    @property
    def denied(self) -> bool:
        """Whether a right is missing."""
        return isinstance(self.error, SinkRefusedError) and self.error.reason in ("access_denied", "kms")


class DoctorClient:
    """An S3 client without retries or redirects; use it with `async with`. Each request has a time limit."""

    def __init__(self, settings: Settings, credentials: ReadOnlyCredentials) -> None:
        self._settings = settings
        self._session = get_session()
        self.address: S3Address = resolve_address(settings, self._session)
        self.identity = Identity(credentials, self.address.region, self.address.endpoint_url)
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> DoctorClient:
        self._client = await self._stack.enter_async_context(
            self._session.create_client(
                "s3",
                region_name=self.address.region,
                endpoint_url=self.address.endpoint_url,
                verify=None if self._settings.s3_ca_file is None else str(self._settings.s3_ca_file),
                config=self._config(),
                **self.identity.keys,
            )
        )
        events = self._client.meta.events
        events.unregister("before-call.s3", add_expect_header)
        events.register("before-call.s3", _forbid_redirects)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _config(self) -> AioConfig:
        return AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path" if self.address.path_style else "virtual"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=min(REQUEST_LIMIT_SECONDS, self._settings.s3_connect_timeout_seconds),
            read_timeout=REQUEST_LIMIT_SECONDS,
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
        )

    async def ask(self, operation: str, **parameters: Any) -> Answer:
        """Send a request about the bucket (`head_bucket`, `get_object`, ...); a body is read to its end."""
        sent_at = datetime.now(UTC)
        try:
            async with asyncio.timeout(REQUEST_LIMIT_SECONDS):
                body = await getattr(self._client, operation)(Bucket=self._settings.s3_bucket, **parameters)
                if "Body" in body:
                    async with body["Body"] as stream:
                        body["Body"] = await stream.read()
        except ClientError as error:
            return _answer(error.response, sent_at, from_botocore(error))
        except (BotoCoreError, HTTPClientError, TimeoutError, OSError) as error:
            return Answer(0, {}, {}, from_botocore(error))
        return _answer(body, sent_at, None)


def _forbid_redirects(params: dict[str, Any], **_: Any) -> None:
    """Make botocore believe that it has followed a redirect already: a wrong region is told, not worked around."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _answer(response: dict[str, Any], sent_at: datetime, error: StreamsError | None) -> Answer:
    about = response.get("ResponseMetadata", {})
    headers = {str(name).lower(): str(value) for name, value in about.get("HTTPHeaders", {}).items()}
    status = int(about.get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code") or "")
    return Answer(
        status,
        headers,
        response,
        error,
        "" if code == str(status) else code,
        skew_seconds(headers.get("date"), sent_at),
    )
