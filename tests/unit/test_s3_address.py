"""Where the bucket is: what the settings say, what AWS's configuration adds, and AWS's own endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session

from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.sinks.s3_address import S3Address, resolve_address


@pytest.fixture(autouse=True)
def _no_aws_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def address(**fields: Any) -> S3Address:
    basis = {"kafka_bootstrap_servers": "b:9092", "topics": "t", "consumer_group": "g", "s3_bucket": "events"}
    return resolve_address(Settings(**{**basis, **fields}), get_session())


@pytest.mark.parametrize(
    ("region", "endpoint_url"),
    [
        ("eu-central-1", "https://s3.eu-central-1.amazonaws.com"),
        ("us-east-1", "https://s3.us-east-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("xx-new-1", "https://s3.xx-new-1.amazonaws.com"),
    ],
)
def test_endpoint_of_a_region_is_that_of_its_partition(region: str, endpoint_url: str) -> None:
    """China and other partitions have names of their own; a region too new for botocore is taken for a common one."""
    assert address(s3_region=region) == S3Address(region, endpoint_url, "events", path_style=False)


def test_bucket_url_has_the_bucket_in_the_host_name() -> None:
    """The form that AWS wants."""
    assert address(s3_region="eu-west-1").bucket_url == "https://events.s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("bucket", ["my.events", "Legacy-Bucket", "under_score"])
def test_bucket_that_cannot_be_a_host_name_stands_in_the_path(bucket: str) -> None:
    """TLS certificates cover one label, and host names know no capitals."""
    assert address(s3_region="eu-west-1", s3_bucket=bucket).path_style


def test_other_server_gets_path_style_and_a_region_to_sign_with() -> None:
    """S3-compatible servers need no further setting."""
    expected = S3Address("us-east-1", "http://minio:9000", "events", path_style=True)
    assert address(s3_endpoint_url="http://minio:9000/") == expected


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "[::1]:9000", "localhost:9000"])
def test_address_without_a_name_stays_path_style(host: str) -> None:
    """No bucket can be put in front of an IP address."""
    assert address(s3_endpoint_url=f"http://{host}", s3_path_style=False).path_style


def test_fips_choice_of_the_aws_configuration_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients get the endpoint from here, so both honour it."""
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert address(s3_region="us-east-1").endpoint_url == "https://s3-fips.us-east-1.amazonaws.com"


def test_endpoint_of_the_aws_configuration_counts_unless_it_is_to_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own variables have AWS's own meaning."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://vpce.example.com/")
    assert address(s3_region="us-east-1").endpoint_url == "https://vpce.example.com"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert address(s3_region="us-east-1").endpoint_url == "https://s3.us-east-1.amazonaws.com"


def test_unknown_region_stops_the_start() -> None:
    """Without a region nothing can be signed for AWS; the message names the setting."""
    with pytest.raises(ConfigurationError, match=r"STREAMS_S3_REGION.*AWS_REGION"):
        address()


def test_profile_that_does_not_exist_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake in a variable is found before the first event."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match=r"AWS_PROFILE.*nobody"):
        address(s3_region="us-east-1")
