"""The requests that `doctor` sends to S3 beside the worker's own PUT: answers with their headers, errors classified."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.handlers import add_expect_header

from streams.errors import SinkRefusedError, StreamsError
from streams.settings import Settings
from streams.sinks.credentials import CredentialSource
from streams.sinks.s3_address import S3Address, credential_settings, resolve_address
from streams.sinks.s3_errors import from_botocore, from_credentials

REQUEST_LIMIT_SECONDS: Final = 10.0

PROVIDERS: Final = {
    "env": "environment variables",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS config file",
    "assume-role": "a role of the AWS profile",
    "assume-role-with-web-identity": "the service account's role (web identity)",
    "sso": "IAM Identity Center (SSO)",
    "custom-process": "the profile's credential_process",
    "container-role": "the container's role (ECS, EKS Pod Identity)",
    "iam-role": "the instance's role (EC2 metadata)",
}
"""botocore's names of the members of its chain, in words."""


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    """Where credentials came from; `expires_at` is `None` where they last."""

    provider: str
    expires_at: datetime | None


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


async def find_credentials(settings: Settings) -> tuple[ReadOnlyCredentials, CredentialFacts]:
    """The credentials that the worker would sign with, and where they come from. Raises `StreamsError`."""
    source = CredentialSource(credential_settings(settings))
    try:
        async with asyncio.timeout(REQUEST_LIMIT_SECONDS):
            frozen = await source.frozen()
            return frozen, await _facts(settings)
    except TimeoutError as error:
        raise from_credentials(error) from error
    finally:
        await source.close()


async def _facts(settings: Settings) -> CredentialFacts:
    found = await get_session().get_credentials()
    provider = PROVIDERS.get(found.method, found.method)
    if settings.s3_role_arn is not None:
        return CredentialFacts(f"{settings.s3_role_arn}, assumed with {provider}", None)
    await found.get_frozen_credentials()
    return CredentialFacts(provider, getattr(found, "_expiry_time", None))


class DoctorClient:
    """An S3 client without retries or redirects; use it with `async with`. Each request has a time limit."""

    def __init__(self, settings: Settings, credentials: ReadOnlyCredentials) -> None:
        self._settings = settings
        self._session = get_session()
        self.address: S3Address = resolve_address(settings, self._session)
        self._keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
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
                **self._keys,
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

    async def identity(self) -> dict[str, str] | None:
        """Who STS says that this is (`Arn`, `Account`); `None` where there is no STS to ask. Raises `StreamsError`.

        An S3-compatible server's credentials are not for AWS' STS; `AWS_ENDPOINT_URL_STS` says which STS knows them.
        """
        if not (self.is_aws or self._has_sts()):
            return None
        config = AioConfig(
            retries={"total_max_attempts": 1}, connect_timeout=REQUEST_LIMIT_SECONDS, read_timeout=REQUEST_LIMIT_SECONDS
        )
        try:
            async with (
                asyncio.timeout(REQUEST_LIMIT_SECONDS),
                self._session.create_client(
                    "sts", region_name=self.address.region, config=config, **self._keys
                ) as client,
            ):
                answer = await client.get_caller_identity()
        except (ClientError, BotoCoreError, HTTPClientError, TimeoutError, OSError) as error:
            raise from_credentials(error) from error
        return {"Arn": str(answer["Arn"]), "Account": str(answer["Account"])}

    @property
    def is_aws(self) -> bool:
        """Whether the endpoint is AWS's own."""
        return ".amazonaws." in f"{self.address.endpoint_url}/"

    def _has_sts(self) -> bool:
        provider = ConfiguredEndpointProvider(
            full_config=self._session.full_config,
            scoped_config=self._session.get_scoped_config(),
            client_name="sts",
        )
        return provider.provide() is not None


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
        _skew_seconds(headers.get("date"), sent_at),
    )


def _skew_seconds(date: str | None, sent_at: datetime) -> float | None:
    """Our clock minus the server's; the time half-way of the exchange is what its Date stands for."""
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    ours = sent_at + (datetime.now(UTC) - sent_at) / 2
    return (ours - theirs).total_seconds()
