"""Where the bucket is: region, endpoint and addressing style, settled once so that both S3 clients agree.

What the settings leave open comes from botocore's configuration (profile, `AWS_ENDPOINT_URL_S3`, FIPS and dual-stack
choices); obstore knows neither that nor AWS's partitions outside `amazonaws.com`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.regions import EndpointResolver

from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.sinks.credentials import CredentialSettings

_FITS_IN_HOST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class S3Address(NamedTuple):
    """`endpoint_url` is without the bucket; `path_style` says whether the bucket stands in the path."""

    region: str
    endpoint_url: str
    bucket: str
    path_style: bool

    @property
    def bucket_url(self) -> str:
        """The endpoint with the bucket in its host name; only where `path_style` is false."""
        scheme, rest = self.endpoint_url.split("://", 1)
        return f"{scheme}://{self.bucket}.{rest}"

    @property
    def is_plain_http(self) -> bool:
        return self.endpoint_url.startswith("http://")


def resolve_address(settings: Settings, session: Any) -> S3Address:
    """The address of the bucket; `session` is botocore's, for what the settings leave open.

    Raises `ConfigurationError` when no region is known for AWS's own S3, or AWS's configuration cannot be read.
    """
    check_aws_configuration(session)
    endpoint_url = settings.s3_endpoint_url or configured_endpoint(session, "s3")
    region = settings.s3_region or session.get_config_variable("region")
    if region is None:
        if endpoint_url is None:
            raise ConfigurationError(
                "STREAMS_S3_REGION: the region of the bucket is not known. Set it (or AWS_REGION, or a region in the "
                "AWS profile) to the bucket's region, for instance eu-central-1."
            )
        region = "us-east-1"  # what S3-compatible servers expect in signatures
    path_style = settings.s3_path_style or not _FITS_IN_HOST_NAME.fullmatch(settings.s3_bucket)
    if endpoint_url is None:
        endpoint_url = _aws_endpoint(session, region)
    return S3Address(region, endpoint_url, settings.s3_bucket, path_style or _is_ip_address(endpoint_url))


def credential_settings(settings: Settings) -> CredentialSettings:
    """What the settings say of the credentials for S3."""
    return CredentialSettings(
        "S3",
        settings.s3_region,
        settings.s3_role_arn,
        settings.s3_role_external_id,
        settings.s3_request_timeout_seconds,
        settings.s3_connect_timeout_seconds,
    )


def check_aws_configuration(session: Any) -> None:
    """Raises `ConfigurationError` where AWS's own configuration cannot be read."""
    try:
        session.get_scoped_config()
    except BotoCoreError as error:
        raise ConfigurationError(
            f"AWS_PROFILE, AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE: {error}. Correct the variable or the file."
        ) from error


def configured_endpoint(session: Any, service: str) -> str | None:
    """The endpoint that AWS's own configuration names for a service (`AWS_ENDPOINT_URL`, a profile's)."""
    provider = ConfiguredEndpointProvider(
        full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name=service
    )
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    url: str | None = provider.provide()
    return None if url is None else url.rstrip("/")


def _aws_endpoint(session: Any, region: str) -> str:
    endpoint = EndpointResolver(session.get_data("endpoints")).construct_endpoint(
        "s3",
        region,
        use_fips_endpoint=bool(session.get_config_variable("use_fips_endpoint")),
        use_dualstack_endpoint=bool(session.get_config_variable("use_dualstack_endpoint")),
    )
    host = f"s3.{region}.amazonaws.com" if endpoint is None else endpoint["hostname"]
    return f"https://{host}"


def _is_ip_address(endpoint_url: str) -> bool:
    host = urlsplit(endpoint_url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
