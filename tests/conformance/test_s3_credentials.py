"""Where credentials come from and how they are renewed, for both S3 clients: botocore's chain, roles, expiry.

The endpoints that hand out credentials are small stand-ins; what they hand out is checked by a real S3 server where
the test is about being let in.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from streams.errors import ConfigurationError, SinkRefusedError, SinkUnavailableError
from streams.sinks import credentials
from streams.sinks.s3 import S3Sink
from tests.conformance.conftest import PUT, StartClient, StartSink, event
from tests.conformance.http_server import STORED, HttpServer, Recorded, Reply, s3_error
from tests.services.s3 import ACCESS_KEY, SECRET_KEY, S3Server

ROLE = "arn:aws:iam::111122223333:role/streams-writer"
PATIENCE_SECONDS = 20


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def container_credentials(
    lifetime_seconds: float, access_key: str = ACCESS_KEY, token: str = ""
) -> Callable[[Recorded], Reply]:
    """Answers as the credentials endpoint of ECS and EKS does; the S3 server of the tests takes no session token."""

    def answer(_: Recorded) -> Reply:
        document = {
            "AccessKeyId": access_key,
            "SecretAccessKey": SECRET_KEY,
            "Token": token,
            "Expiration": in_seconds(lifetime_seconds),
        }
        return Reply(200, json.dumps(document), {"Content-Type": "application/json"})

    return answer


def sts(external_id: str | None = None) -> Callable[[Recorded], Reply]:
    """Answers as STS does; assumes the role only for the right external id, or for the right web identity token."""

    def answer(request: Recorded) -> Reply:
        form = request.form
        action = form["Action"]
        web_identity = action == "AssumeRoleWithWebIdentity" and form["WebIdentityToken"] == "service-account-token"
        if form["RoleArn"] != ROLE or not (web_identity or form.get("ExternalId") == external_id):
            return Reply(
                403,
                '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
                "<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error>"
                "<RequestId>1</RequestId></ErrorResponse>",
                {"Content-Type": "text/xml"},
            )
        return Reply(
            200,
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
            f"<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>"
            f"<SessionToken></SessionToken><Expiration>{in_seconds(3600)}</Expiration></Credentials>"
            f"<AssumedRoleUser><Arn>{ROLE}</Arn><AssumedRoleId>id</AssumedRoleId></AssumedRoleUser>"
            f"</{action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>",
            {"Content-Type": "text/xml"},
        )

    return answer


async def write_until(sink: S3Sink, condition: Callable[[], bool]) -> None:
    """Write events, one after the other, until `condition` holds."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline, "the condition did not come true while events were written"
        await sink.write(event())


async def test_profile_is_used(
    start_sink: StartSink, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`AWS_PROFILE` names a section of the shared credentials file."""
    file = tmp_path / "credentials"
    file.write_text(f"[writer]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "writer")
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    await sink.write(event())
    assert len(s3_server.keys(bucket)) == 1


async def test_region_of_the_profile_is_used(
    start_client: StartClient, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without `STREAMS_S3_REGION` and `AWS_REGION`, the profile's region signs."""
    file = tmp_path / "config"
    file.write_text("[default]\nregion=ap-south-1\naws_access_key_id=a\naws_secret_access_key=b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    client = await start_client(s3_endpoint_url=http_server.url, s3_region=None)
    await client.put(PUT)
    assert "/ap-south-1/s3/aws4_request" in http_server.requests[0].headers["Authorization"]


async def test_missing_credentials_refuse_and_appear_later(
    start_sink: StartSink,
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """An empty chain holds the events and says so; credentials that turn up are found without a restart."""
    monkeypatch.setattr(credentials, "ASK_AGAIN_SECONDS", 0.0)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    for _ in range(2):
        with pytest.raises(SinkRefusedError) as caught:
            await sink.write(event())
        assert caught.value.reason == "credentials_missing"
        assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
    file.write_text(f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n")
    await sink.write(event())


async def test_profile_that_does_not_exist_stops_the_start(
    start_sink: StartSink, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong `AWS_PROFILE` is a mistake in the configuration, and is named."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match=r"AWS_PROFILE.*nobody"):
        await start_sink(s3_endpoint_url=http_server.url)


async def test_credentials_are_renewed_before_they_expire(
    start_sink: StartSink, s3_server: S3Server, bucket: str, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials of a container that live for minutes are fetched again while events are written, none fails."""
    monkeypatch.setattr(credentials, "ASK_AGAIN_SECONDS", 0.1)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{http_server.url}/credentials")
    http_server.answer = container_credentials(lifetime_seconds=300)
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    await write_until(sink, lambda: len(http_server.requests) >= 3)


async def test_failing_renewal_keeps_credentials_that_still_work(
    start_sink: StartSink, s3_server: S3Server, bucket: str, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that breaks after the first answer stops no write before S3 itself says that the time is over."""
    monkeypatch.setattr(credentials, "ASK_AGAIN_SECONDS", 0.1)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{http_server.url}/credentials")
    http_server.answer = container_credentials(lifetime_seconds=300)
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    await sink.write(event())
    http_server.answer = Reply(500, "broken")
    await write_until(sink, lambda: len(http_server.requests) >= 5)


async def test_lasting_credentials_are_fetched_once(
    start_sink: StartSink, s3_server: S3Server, bucket: str, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of writes at once ask the endpoint one time."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{http_server.url}/credentials")
    http_server.answer = container_credentials(lifetime_seconds=6 * 3600)
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    await asyncio.gather(*(sink.write(event(offset=offset)) for offset in range(100)))
    assert len(http_server.requests) == 1


async def test_expired_token_makes_the_next_attempts_use_new_credentials(
    start_client: StartClient, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When S3 says `ExpiredToken` although the credentials look fresh, they are thrown away and fetched again."""
    monkeypatch.setattr(credentials, "RENEW_AGAIN_SECONDS", 0.0)
    fetched = 0

    def endpoint(request: Recorded) -> Reply:
        nonlocal fetched
        fetched += 1
        return container_credentials(6 * 3600, access_key=f"AKIA{fetched}", token="session-token")(request)

    http_server.answer = lambda request: STORED if request.access_key == "AKIA2" else s3_error(400, "ExpiredToken")
    async with HttpServer(endpoint) as issuer:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{issuer.url}/credentials")
        client = await start_client(s3_endpoint_url=http_server.url)
        with pytest.raises(SinkUnavailableError) as caught:
            await client.put(PUT)
        assert caught.value.reason == "credentials_expired"
        monkeypatch.setattr(credentials, "RENEW_AGAIN_SECONDS", 60.0)
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                await client.put(PUT)
            except SinkUnavailableError:
                assert monotonic() < deadline, "the credentials were not renewed"
                await asyncio.sleep(0.05)  # the backoff of `delivery`
            else:
                break
        await client.close()
    assert fetched == 2
    assert http_server.requests[-1].headers["x-amz-security-token"] == "session-token"


async def test_role_is_assumed_with_its_external_id(
    start_sink: StartSink, s3_server: S3Server, bucket: str, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain's credentials ask STS for the role's, once, and the role's write."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "base")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", http_server.url)
    http_server.answer = sts(external_id="tenant-7")
    sink = await start_sink(
        s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url, s3_role_arn=ROLE, s3_role_external_id="tenant-7"
    )
    await asyncio.gather(*(sink.write(event(offset=offset)) for offset in range(20)))
    [request] = http_server.requests
    assert request.access_key == "base"
    assert (request.form["RoleArn"], request.form["ExternalId"]) == (ROLE, "tenant-7")
    assert len(s3_server.keys(bucket)) == 20


async def test_role_that_may_not_be_assumed_refuses(
    start_sink: StartSink, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong external id holds the events and points at the role's settings."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "base")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", http_server.url)
    http_server.answer = sts(external_id="tenant-7")
    sink = await start_sink(s3_endpoint_url=http_server.url, s3_role_arn=ROLE, s3_role_external_id="tenant-8")
    with pytest.raises(SinkRefusedError) as caught:
        await sink.write(event())
    assert caught.value.reason == "access_denied"
    assert "STREAMS_S3_ROLE_EXTERNAL_ID" in caught.value.remedy


async def test_web_identity_of_a_service_account_is_used(
    start_sink: StartSink,
    s3_server: S3Server,
    bucket: str,
    http_server: HttpServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """IRSA: the token file and the role of the pod's service account, as EKS sets them."""
    token_file = tmp_path / "token"
    token_file.write_text("service-account-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", http_server.url)
    http_server.answer = sts()
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    await sink.write(event())
    assert [request.form["Action"] for request in http_server.requests] == ["AssumeRoleWithWebIdentity"]
    assert len(s3_server.keys(bucket)) == 1


async def test_failing_credentials_endpoint_holds_events_until_it_is_back(
    start_sink: StartSink, s3_server: S3Server, bucket: str, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the endpoint answers 500 events wait; when it is back, they are written."""
    monkeypatch.setattr(credentials, "ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{http_server.url}/credentials")
    http_server.answer = Reply(500, "broken")
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    with pytest.raises((SinkRefusedError, SinkUnavailableError)):
        await sink.write(event())
    http_server.answer = container_credentials(lifetime_seconds=6 * 3600)
    await sink.write(event())
