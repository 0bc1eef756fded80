"""Where a queue's requests go, and the region that they are signed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session

from streams.settings import Settings
from streams.sinks.sqs_client import SqsAddress, resolve_queue_address

ACCOUNT = "111122223333"


@pytest.fixture(autouse=True)
def _no_aws_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))


def address(queue_url: str, **fields: Any) -> SqsAddress:
    basis = {"kafka_bootstrap_servers": "b:9092", "topics": "t", "consumer_group": "g", "sink": "sqs"}
    return resolve_queue_address(Settings(**basis | fields, sqs_queue_url=queue_url), queue_url, get_session())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("https://sqs.eu-west-1.amazonaws.com", ("eu-west-1", "https://sqs.eu-west-1.amazonaws.com")),
        ("https://sqs-fips.us-east-2.amazonaws.com", ("us-east-2", "https://sqs-fips.us-east-2.amazonaws.com")),
        ("https://sqs.cn-north-1.amazonaws.com.cn", ("cn-north-1", "https://sqs.cn-north-1.amazonaws.com.cn")),
        (
            "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com",
            ("eu-west-1", "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com"),
        ),
        ("https://eu-west-1.queue.amazonaws.com", ("eu-west-1", "https://sqs.eu-west-1.amazonaws.com")),
        ("https://queue.amazonaws.com", ("us-east-1", "https://sqs.us-east-1.amazonaws.com")),
        ("http://127.0.0.1:9324", ("us-east-1", "http://127.0.0.1:9324")),
    ],
)
def test_queue_address_says_where(host: str, expected: tuple[str, str]) -> None:
    """Region and endpoint are in the queue's own address; the oldest kind of address has today's endpoint."""
    assert SqsAddress(*expected) == address(f"{host}/{ACCOUNT}/orders")


def test_settings_win_over_the_queue_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region or endpoint that is set counts, then AWS's own configuration of the endpoint."""
    queue_url = f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/orders"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "https://vpc.example.com/")
    assert address(queue_url) == ("eu-west-1", "https://vpc.example.com")
    expected = SqsAddress("eu-north-1", "https://sqs.example.com")
    assert expected == address(queue_url, sqs_region="eu-north-1", sqs_endpoint_url="https://sqs.example.com/")


def test_region_of_the_bucket_is_the_last_resort() -> None:
    """`AWS_REGION` is where the worker runs, whichever setting it fills."""
    assert address(f"http://sqs:9324/{ACCOUNT}/orders", s3_region="eu-central-1").region == "eu-central-1"
