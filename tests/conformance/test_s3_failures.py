"""How each S3 client reports what goes wrong: the same error of ours, whatever library is underneath."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from tests.conformance.conftest import PUT, StartClient, StartSink, event
from tests.conformance.http_server import BrokenServer, HttpServer, Reply, s3_error
from tests.services.certificates import make_certificates

pytestmark = pytest.mark.usefixtures("static_credentials")

REJECTED, UNAVAILABLE, REFUSED = RecordRejectedError, SinkUnavailableError, SinkRefusedError


async def failure(client_of: StartClient, server: HttpServer, answer: Reply) -> StreamsError:
    server.answer = answer
    client = await client_of(s3_endpoint_url=server.url)
    with pytest.raises(StreamsError) as caught:
        await client.put(PUT)
    assert len(server.requests) == 1, "a client must not retry by itself"
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (400, "KeyTooLongError", REJECTED, "key_too_long"),
        (400, "EntityTooLarge", REJECTED, "too_large"),
        (413, "EntityTooLarge", REJECTED, "too_large"),
        (400, "MetadataTooLarge", REJECTED, "invalid_request"),
        (503, "SlowDown", UNAVAILABLE, "throttled"),
        (503, "ServiceUnavailable", UNAVAILABLE, "throttled"),
        (400, "ThrottlingException", UNAVAILABLE, "throttled"),
        (429, "TooManyRequests", UNAVAILABLE, "throttled"),
        (500, "InternalError", UNAVAILABLE, "server_error"),
        (507, "XMinioStorageFull", UNAVAILABLE, "server_error"),
        (400, "RequestTimeout", UNAVAILABLE, "timeout"),
        (400, "BadDigest", UNAVAILABLE, "connection"),
        (400, "ExpiredToken", UNAVAILABLE, "credentials_expired"),
        (400, "TokenRefreshRequired", UNAVAILABLE, "credentials_expired"),
        (403, "RequestExpired", UNAVAILABLE, "credentials_expired"),
        (409, "ConditionalRequestConflict", UNAVAILABLE, "conflict"),
        (409, "OperationAborted", UNAVAILABLE, "conflict"),
        (403, "AccessDenied", REFUSED, "access_denied"),
        (403, "AllAccessDisabled", REFUSED, "access_denied"),
        (403, "InvalidAccessKeyId", REFUSED, "access_denied"),
        (403, "SignatureDoesNotMatch", REFUSED, "access_denied"),
        (400, "InvalidToken", REFUSED, "access_denied"),
        (404, "NoSuchBucket", REFUSED, "bucket_missing"),
        (301, "PermanentRedirect", REFUSED, "wrong_region"),
        (307, "TemporaryRedirect", REFUSED, "wrong_region"),
        (400, "AuthorizationHeaderMalformed", REFUSED, "wrong_region"),
        (400, "IllegalLocationConstraintException", REFUSED, "wrong_region"),
        (400, "KMS.DisabledException", REFUSED, "kms"),
        (400, "KMS.NotFoundException", REFUSED, "kms"),
        (403, "RequestTimeTooSkewed", REFUSED, "refused"),
        (400, "InvalidRequest", REFUSED, "refused"),
        (400, "InvalidStorageClass", REFUSED, "refused"),
        (405, "MethodNotAllowed", REFUSED, "refused"),
        (418, "SomethingNew", REFUSED, "refused"),
        (501, "NotImplemented", REFUSED, "refused"),
        (599, "SomethingNew", UNAVAILABLE, "server_error"),
    ],
)
async def test_answer_of_s3_becomes_the_right_error(
    start_client: StartClient,
    http_server: HttpServer,
    status: int,
    code: str,
    kind: type[StreamsError],
    reason: str,
) -> None:
    """Each code is retried, held or dead-lettered as `streams.errors` says, by both clients alike."""
    error = await failure(start_client, http_server, s3_error(status, code))
    assert (type(error), getattr(error, "reason", None)) == (kind, reason)
    # obstore keeps nothing of a redirect's document.
    assert code in str(error) or 300 <= status < 400


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, REFUSED, "refused"),
        (401, REFUSED, "access_denied"),
        (403, REFUSED, "access_denied"),
        (404, REFUSED, "bucket_missing"),
        (408, UNAVAILABLE, "timeout"),
        (413, REFUSED, "refused"),
        (429, UNAVAILABLE, "throttled"),
        (500, UNAVAILABLE, "server_error"),
        (502, UNAVAILABLE, "server_error"),
        (503, UNAVAILABLE, "throttled"),
        (504, UNAVAILABLE, "timeout"),
    ],
)
@pytest.mark.parametrize("body", ["", "<html><body>proxy</body></html>"], ids=["empty", "html"])
async def test_answer_without_a_code_is_judged_by_its_status(
    start_client: StartClient,
    http_server: HttpServer,
    status: int,
    kind: type[StreamsError],
    reason: str,
    body: str,
) -> None:
    """Proxies and load balancers answer without S3's document."""
    error = await failure(start_client, http_server, Reply(status, body))
    assert (type(error), getattr(error, "reason", None)) == (kind, reason)


async def test_success_without_an_etag_is_no_success(start_client: StartClient, http_server: HttpServer) -> None:
    """A captive portal says 200 to everything; only S3's ETag says that the object is durable."""
    error = await failure(start_client, http_server, Reply(200, "welcome"))
    assert (type(error), getattr(error, "reason", None)) == (UNAVAILABLE, "server_error")


async def test_message_of_s3_is_shown_and_the_session_token_is_not(
    start_client: StartClient, http_server: HttpServer
) -> None:
    """S3 repeats the expired token in its answer: it must not reach a log, not even through a chained exception."""
    answer = s3_error(400, "ExpiredToken", "The provided token has expired.", "<Token-0>FwoGZXIvYXdzEJr</Token-0>")
    error = await failure(start_client, http_server, answer)
    assert "The provided token has expired. (request 4442587FB7D0A2F9)" in str(error)
    assert "FwoGZXIvYXdzEJr" not in f"{error} {error.__cause__}"


async def test_wrong_region_names_the_right_one_where_s3_tells(
    start_client: StartClient, http_server: HttpServer
) -> None:
    """The remedy can be copied into the configuration."""
    answer = s3_error(400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'", "<Region>eu-west-1</Region>")
    error = await failure(start_client, http_server, answer)
    assert isinstance(error, SinkRefusedError)
    assert error.remedy == "Set STREAMS_S3_REGION=eu-west-1, the bucket's region."


async def test_denied_kms_key_is_told_from_a_denied_bucket(start_client: StartClient, http_server: HttpServer) -> None:
    """S3 says AccessDenied for both; the remedy differs."""
    message = "User: arn:aws:iam::1:role/r is not authorized to perform: kms:GenerateDataKey on resource: k"
    error = await failure(start_client, http_server, s3_error(403, "AccessDenied", message))
    assert isinstance(error, SinkRefusedError)
    assert error.reason == "kms"
    assert "kms:GenerateDataKey" in error.remedy


async def test_rejection_names_the_event(start_sink: StartSink, http_server: HttpServer) -> None:
    """Whoever reads the dead letter's reason sees which event it was."""
    http_server.answer = s3_error(400, "EntityTooLarge")
    sink = await start_sink(s3_endpoint_url=http_server.url)
    with pytest.raises(RecordRejectedError, match=r"orders/3/7: S3 answered 400 EntityTooLarge"):
        await sink.write(event())


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("reset", "connection"), ("nonsense", "connection"), ("hang", "timeout")]
)
async def test_broken_connection_is_retried(start_client: StartClient, behaviour: str, reason: str) -> None:
    """A reset, an answer that is no HTTP and no answer at all are outages."""
    async with BrokenServer(behaviour) as server:
        client = await start_client(s3_endpoint_url=server.url, s3_request_timeout_seconds=1)
        with pytest.raises(SinkUnavailableError) as caught:
            await client.put(PUT)
        await client.close()
    assert caught.value.reason == reason


async def test_host_that_does_not_resolve_is_retried(start_client: StartClient) -> None:
    """DNS fails for a while in every cluster."""
    client = await start_client(s3_endpoint_url="http://nobody.invalid")
    with pytest.raises(SinkUnavailableError) as caught:
        await client.put(PUT)
    assert caught.value.reason == "connection"


async def test_certificate_is_checked_against_the_ca_file(start_client: StartClient, tmp_path: Path) -> None:
    """`STREAMS_S3_CA_FILE` makes a private S3 server trusted; anybody else's certificate is refused."""
    certificates = make_certificates(tmp_path, "client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.broker_keystore_file)
    async with HttpServer(ssl_context=context) as server:
        trusting = await start_client(s3_endpoint_url=server.url, s3_ca_file=certificates.ca_file)
        await trusting.put(PUT)
        wary = await start_client(s3_endpoint_url=server.url, s3_ca_file=certificates.other_ca_file)
        with pytest.raises(SinkRefusedError) as caught:
            await wary.put(PUT)
        await trusting.close()
        await wary.close()
    assert "STREAMS_S3_CA_FILE" in caught.value.remedy
    assert len(server.requests) == 1
