"""What a signed request needs, as `doctor` looks at it for every sink: credentials, whose they are, and the clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from streams.doctor.findings import Finding, ok, unchecked, warning, wrong
from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.sinks.credentials import CredentialSettings, CredentialSource
from streams.sinks.s3_errors import from_credentials

REQUEST_LIMIT_SECONDS: Final = 10.0
CLOCK_WARNING_SECONDS: Final = 60.0
CLOCK_LIMIT_MINUTES: Final = {"S3": 15, "SQS": 5}
"""From when on requests are refused. S3 API reference, "Error responses", RequestTimeTooSkewed; IAM user guide, "AWS
Signature Version 4": five minutes in most cases."""

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


async def find_credentials(settings: CredentialSettings) -> tuple[ReadOnlyCredentials, CredentialFacts]:
    """The credentials that the worker would sign with, and where they come from. Raises `StreamsError`."""
    source = CredentialSource(settings)
    try:
        async with asyncio.timeout(REQUEST_LIMIT_SECONDS):
            frozen = await source.frozen()
            return frozen, await _facts(settings)
    except TimeoutError as error:
        raise from_credentials(error, settings.service) from error
    finally:
        await source.close()


async def _facts(settings: CredentialSettings) -> CredentialFacts:
    found = await get_session().get_credentials()
    provider = PROVIDERS.get(found.method, found.method)
    if settings.role_arn is not None:
        return CredentialFacts(f"{settings.role_arn}, assumed with {provider}", None)
    await found.get_frozen_credentials()
    return CredentialFacts(provider, getattr(found, "_expiry_time", None))


class Identity:
    """Who the caller is, by STS; asked with the worker's credentials."""

    def __init__(self, credentials: ReadOnlyCredentials, region: str, endpoint_url: str) -> None:
        self.keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
        self._session = get_session()
        self._region = region
        self._is_aws = ".amazonaws." in f"{endpoint_url}/"

    async def ask(self) -> dict[str, str] | None:
        """Who STS says that this is (`Arn`, `Account`); `None` where there is no STS to ask. Raises `StreamsError`.

        A compatible server's credentials are not for AWS' STS; `AWS_ENDPOINT_URL_STS` says which STS knows them.
        """
        if not (self._is_aws or self._has_sts()):
            return None
        config = AioConfig(
            retries={"total_max_attempts": 1}, connect_timeout=REQUEST_LIMIT_SECONDS, read_timeout=REQUEST_LIMIT_SECONDS
        )
        try:
            async with (
                asyncio.timeout(REQUEST_LIMIT_SECONDS),
                self._session.create_client("sts", region_name=self._region, config=config, **self.keys) as client,
            ):
                answer = await client.get_caller_identity()
        except (ClientError, BotoCoreError, HTTPClientError, TimeoutError, OSError) as error:
            raise from_credentials(error) from error
        return {"Arn": str(answer["Arn"]), "Account": str(answer["Account"])}

    def _has_sts(self) -> bool:
        provider = ConfiguredEndpointProvider(
            full_config=self._session.full_config,
            scoped_config=self._session.get_scoped_config(),
            client_name="sts",
        )
        return provider.provide() is not None


async def identity_finding(identity: Identity, service: str) -> tuple[Finding, str]:
    """Who the caller is, and the account, empty where it is not known."""
    check = f"{service.lower()} identity"
    try:
        found = await identity.ask()
    except StreamsError as error:
        return unchecked(check, f"STS did not tell ({error})"), ""
    if found is None:
        return unchecked(check, "only AWS has an STS to ask (AWS_ENDPOINT_URL_STS can name another)"), ""
    return ok(check, found["Arn"]), found["Account"]


def credential_finding(facts: CredentialFacts, service: str = "S3") -> Finding:
    """Where the credentials came from."""
    check = f"{service.lower()} credentials"
    if facts.expires_at is None:
        return ok(check, f"from {facts.provider}")
    return ok(check, f"from {facts.provider}, good until {facts.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def refused_finding(check: str, error: StreamsError, service: str = "S3") -> Finding:
    """An error of the service or of the credentials, with the remedy that it brings."""
    if isinstance(error, SinkRefusedError):
        return wrong(check, f"{error.reason}: {error.detail}", error.remedy)
    if isinstance(error, SinkUnavailableError | RecordRejectedError):
        return wrong(
            check,
            f"{error.reason}: {error.detail}",
            f"Check STREAMS_{service}_ENDPOINT_URL, the network and {service}'s status, and run it again.",
        )
    return wrong(check, str(error), "Correct the setting that the message names.")


def skew_seconds(date: str | None, sent_at: datetime) -> float | None:
    """Our clock minus the server's; the time half-way of the exchange is what its Date stands for."""
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    ours = sent_at + (datetime.now(UTC) - sent_at) / 2
    return (ours - theirs).total_seconds()


def clock_finding(skew_seconds: float | None, service: str = "S3") -> Finding | None:
    """This machine's clock against the service's, `None` where no answer had a date."""
    check = "clock" if service == "S3" else f"{service.lower()} clock"
    if skew_seconds is None:
        return None
    remedy = "Set this machine's clock and keep it set (timedatectl set-ntp true; chronyc makestep)."
    facts = f"{abs(skew_seconds):,.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} {service}'s"
    minutes = CLOCK_LIMIT_MINUTES[service]
    if abs(skew_seconds) > 60 * minutes:
        return wrong(check, f"{facts}; {service} refuses requests that are more than {minutes} minutes off", remedy)
    if abs(skew_seconds) > CLOCK_WARNING_SECONDS:
        return warning(check, f"{facts}; from {minutes} minutes on {service} refuses every request", remedy)
    return ok(check, f"within a minute of {service}'s" if abs(skew_seconds) >= 2 else f"agrees with {service}'s")
