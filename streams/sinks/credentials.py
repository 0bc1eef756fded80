"""AWS credentials for every sink, from botocore's own chain: environment, profile, SSO, web identity (IRSA), container,
instance metadata; and on top of it the role of `STREAMS_S3_ROLE_ARN` or `STREAMS_SQS_ROLE_ARN`.

botocore renews what expires 10 to 15 minutes ahead. When the service says `ExpiredToken` all the same, `expire` makes
the next request start from an empty chain, which also reads changed files again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentials,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import AioSession, get_session
from botocore.credentials import ReadOnlyCredentials

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.sinks.s3_errors import from_credentials

ASK_AGAIN_SECONDS = 5.0
"""How long an answer of the chain, good or bad, stands before botocore is asked again; asking renews only if needed."""

RENEW_AGAIN_SECONDS = 1.0
"""How soon after a renewal an `ExpiredToken` counts again: writes in flight at that time still report the old one."""

ROLE_SESSION_NAME: Final = "streams"


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """What a sink's settings say of its credentials; `service` is the settings' own word for it (`S3`, `SQS`)."""

    service: str
    region: str | None
    role_arn: str | None
    role_external_id: str | None
    request_timeout_seconds: float
    connect_timeout_seconds: float


class CredentialSource:
    """The credentials of the chain, as fresh as botocore keeps them; one for a client, however many writes ask it.

    Credentials that work are used while they are renewed, and for as long as AWS takes them if renewing fails: an STS
    or metadata endpoint that hangs does not stop the writes.
    """

    def __init__(self, settings: CredentialSettings) -> None:
        self._settings = settings
        self._asking: asyncio.Task[None] | None = None
        self._credentials: Any = None
        self._frozen: ReadOnlyCredentials | None = None
        self._failure: StreamsError | None = None
        self._ask_again_at = 0.0
        self._loaded_at = 0.0

    @property
    def failure(self) -> StreamsError | None:
        """Why there are no credentials now, as an exception of the caller's own; `None` when there are some."""
        return None if self._failure is None else again(self._failure)

    async def frozen(self) -> ReadOnlyCredentials:
        """Credentials to sign with now.

        Raises `SinkRefusedError` where the chain has none, `SinkUnavailableError` where they cannot be got just now.
        """
        if monotonic() >= self._ask_again_at:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            if self._frozen is None:
                await asyncio.shield(self._asking)  # one write's cancellation is not the others'
        if (failure := self.failure) is not None:
            raise failure
        return self._frozen

    def expire(self) -> None:
        """Forget the credentials, for the service says that they have expired.

        All writes in flight say so at about the same time; the chain is asked once.
        """
        if monotonic() - self._loaded_at >= RENEW_AGAIN_SECONDS:
            self._credentials = None
            self._frozen = None
            self._ask_again_at = 0.0

    def known(self) -> ReadOnlyCredentials | None:
        """Credentials to sign with now, or `None` when `frozen` has to be awaited: cheap enough for every event."""
        return self._frozen if monotonic() < self._ask_again_at else None

    def for_botocore(self) -> AioCredentials:
        """`frozen` as aiobotocore's clients ask for it."""
        return _SourceCredentials(self)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        """Ask the chain; ends with credentials or with a failure, and never raises."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                if self._credentials is None:
                    self._credentials = await self._load()
                self._frozen = await self._credentials.get_frozen_credentials()
            self._failure = None
        except Exception as error:
            if self._frozen is None:
                self._credentials = None
                self._failure = error if isinstance(error, StreamsError) else self._meaning(error)
        finally:
            self._ask_again_at = monotonic() + ASK_AGAIN_SECONDS
            self._asking = None

    async def _load(self) -> Any:
        session = get_session()
        if self._settings.region is not None:
            session.set_config_variable("region", self._settings.region)  # for STS and SSO
        session.set_default_client_config(self._client_config())
        found = await session.get_credentials()
        if found is None:
            raise self._meaning(None)
        self._loaded_at = monotonic()
        return found if self._settings.role_arn is None else self._assumed_role(session, found)

    def _meaning(self, error: BaseException | None) -> StreamsError:
        return from_credentials(error, self._settings.service)

    def _client_config(self) -> AioConfig:
        """For STS and SSO: the same patience as with the service, and one retry, for a renewal has time."""
        return AioConfig(
            connect_timeout=self._settings.connect_timeout_seconds,
            read_timeout=self._settings.request_timeout_seconds,
            retries={"total_max_attempts": 2},
        )

    def _assumed_role(self, session: AioSession, source: Any) -> AioDeferredRefreshableCredentials:
        extra = {"RoleSessionName": ROLE_SESSION_NAME}
        if self._settings.role_external_id is not None:
            extra["ExternalId"] = self._settings.role_external_id
        fetcher = AioAssumeRoleCredentialFetcher(
            session.create_client, source, self._settings.role_arn, extra_args=extra, cache={}
        )
        return AioDeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")


def again(error: StreamsError) -> StreamsError:
    """The same error as an exception of its own: one that many tasks raise would collect the traceback of each."""
    if isinstance(error, SinkRefusedError):
        return SinkRefusedError(error.reason, error.detail, error.remedy)
    if isinstance(error, SinkUnavailableError | RecordRejectedError):
        return type(error)(error.reason, error.detail)
    return error


class _SourceCredentials(AioCredentials):
    """What aiobotocore signs with: asks the source for every request."""

    def __init__(self, source: CredentialSource) -> None:
        super().__init__(access_key="", secret_key="", method="streams")
        self._source = source

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return await self._source.frozen()
