"""What each S3 client puts on the wire for the same settings: the same headers, signed, and the same object keys."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from streams.sinks.s3 import PutRequest
from tests.conformance.conftest import PUT, StartClient, StartSink, event
from tests.conformance.http_server import HttpServer, Recorded

pytestmark = pytest.mark.usefixtures("static_credentials")

KMS_KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd"
SSE = "x-amz-server-side-encryption"
CHECKSUM = {"x-amz-checksum-sha256": b64encode(sha256(PUT.body).digest()).decode()}
UNRELATED = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})


def object_headers(request: Recorded) -> dict[str, str]:
    """What the request says about the object; every header of it has to be signed."""
    named = {name.lower(): value for name, value in request.headers.items()}
    found = {name: value for name, value in named.items() if name.startswith("x-amz-") and name not in UNRELATED}
    assert set(found) <= set(request.signed_headers)
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"s3_checksum": "sha256"}, CHECKSUM),
        ({"s3_storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
        ({"s3_sse": "AES256"}, {SSE: "AES256"}),
        (
            {"s3_sse": "aws:kms", "s3_sse_kms_key_id": KMS_KEY, "s3_bucket_key_enabled": True},
            {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": KMS_KEY, f"{SSE}-bucket-key-enabled": "true"},
        ),
        ({"s3_sse": "aws:kms"}, {SSE: "aws:kms"}),
    ],
    ids=["defaults", "checksum", "storage-class", "sse-s3", "sse-kms-with-key", "sse-kms"],
)
async def test_settings_become_signed_headers(
    start_client: StartClient, http_server: HttpServer, fields: dict[str, Any], expected: dict[str, str]
) -> None:
    """Neither client leaves out what was configured, nor adds what was not."""
    client = await start_client(s3_endpoint_url=http_server.url, **fields)
    await client.put(PUT)
    [request] = http_server.requests
    assert object_headers(request) == {**expected, "x-amz-meta-kafka-offset": "7"}
    assert (request.method, request.path, request.body) == ("PUT", "/events/orders/3/7.json", b"{}")
    assert request.headers["Content-Type"] == "application/json"


async def test_tags_are_one_encoded_header(start_client: StartClient, http_server: HttpServer) -> None:
    """`x-amz-tagging` is a query string; the order of tags means nothing."""
    client = await start_client(s3_endpoint_url=http_server.url, s3_tags="team=data%20platform&a%26b=c%2Bd&empty=")
    await client.put(PUT)
    tags = parse_qsl(http_server.requests[0].headers["x-amz-tagging"], keep_blank_values=True)
    assert sorted(tags) == [("a&b", "c+d"), ("empty", ""), ("team", "data platform")]


async def test_request_may_have_its_own_content_type(start_client: StartClient, http_server: HttpServer) -> None:
    """Sidecars and dead letters are JSON whatever the events are."""
    client = await start_client(s3_endpoint_url=http_server.url, s3_content_type="text/plain")
    await client.put(PUT)
    await client.put(PutRequest("k", b"", content_type="application/json"))
    assert [request.headers["Content-Type"] for request in http_server.requests] == ["text/plain", "application/json"]


async def test_sidecar_is_written_before_its_object(start_sink: StartSink, http_server: HttpServer) -> None:
    """An object that exists is complete, even if the worker dies between the two."""
    sink = await start_sink(s3_endpoint_url=http_server.url)
    await sink.write(event(headers=(("large", b"x" * 3000),)))
    key = "orders/3/00000000000000000007.json"
    assert [request.object_key for request in http_server.requests] == [f"{key}.kafka.json", key]


async def test_no_extra_round_trip_and_no_client_side_retry(start_client: StartClient, http_server: HttpServer) -> None:
    """One write is one request, without `Expect: 100-continue`, which costs a round trip for each event."""
    client = await start_client(s3_endpoint_url=http_server.url)
    await client.put(PutRequest("large", bytes(2 * 1024**2)))
    [request] = http_server.requests
    assert "Expect" not in request.headers
    assert len(request.body) == 2 * 1024**2


@pytest.mark.parametrize(
    ("bucket", "host", "path"),
    [
        ("events", "events.s3.example.test", "/orders/3/7.json"),
        ("my.events", "s3.example.test", "/my.events/orders/3/7.json"),  # would break the certificate of *.s3...
    ],
)
async def test_virtual_hosted_style_puts_the_bucket_into_the_host_name(
    start_client: StartClient,
    http_server: HttpServer,
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    host: str,
    path: str,
) -> None:
    """`STREAMS_S3_PATH_STYLE=false`: the key alone is in the path, unless the bucket cannot be part of a host name."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", http_server.url)  # the name need not resolve then
    monkeypatch.setenv("http_proxy", http_server.url)
    client = await start_client(
        s3_endpoint_url="http://s3.example.test", s3_path_style=False, s3_bucket=bucket, s3_connect_timeout_seconds=1
    )
    await client.put(PUT)
    [request] = http_server.requests
    assert (request.headers["Host"], urlsplit(request.path).path) == (host, path)


@pytest.mark.parametrize(
    "key", ["a b", "a%20b", "a+b", "a#b", "a?b", "a.", "a=b&c", "żółć/😀", "~a*'()!", "a\\b", "a:b@c,d;e$", '{"<|>^`']
)
async def test_key_is_encoded_so_that_s3_decodes_it_to_itself(
    start_client: StartClient, http_server: HttpServer, key: str
) -> None:
    """Special characters reach S3 percent-encoded, once."""
    client = await start_client(s3_endpoint_url=http_server.url)
    await client.put(PutRequest(key, b""))
    assert http_server.requests[0].object_key == key
    assert re.fullmatch(r"[A-Za-z0-9/._~!*'()%-]+", http_server.requests[0].path)


async def test_environment_changes_nothing_that_the_settings_decide(
    start_client: StartClient, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads `AWS_*` variables of its own, botocore others: none may unsign or redirect requests."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_UNSIGNED_PAYLOAD", "true")
    monkeypatch.setenv("AWS_DISABLE_TAGGING", "true")
    monkeypatch.setenv("AWS_S3_EXPRESS", "true")
    monkeypatch.setenv("AWS_BUCKET", "another")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client = await start_client(s3_endpoint_url=http_server.url, s3_region="eu-north-1", s3_tags="a=b")
    await client.put(PUT)
    [request] = http_server.requests
    assert request.path == "/events/orders/3/7.json"
    assert "/eu-north-1/s3/aws4_request" in request.headers["Authorization"]
    assert request.headers["x-amz-content-sha256"] == sha256(PUT.body).hexdigest()
    assert request.headers["x-amz-tagging"] == "a=b"


async def test_endpoint_of_the_aws_configuration_is_used(
    start_client: StartClient, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `STREAMS_S3_ENDPOINT_URL`, AWS's own variable counts for both clients."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", http_server.url)
    client = await start_client()
    await client.put(PUT)
    assert http_server.requests[0].path == "/events/orders/3/7.json"
