"""What S3's failures mean, from texts of obstore 0.12.1 and botocore as they were captured."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
)
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import GenericError, PermissionDeniedError

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.sinks.s3_errors import (
    MAX_DETAIL_CHARACTERS,
    REFUSED,
    REJECTED,
    UNAVAILABLE,
    WRONG_REGION,
    Answer,
    classify,
    from_botocore,
    from_credentials,
    from_obstore,
)

HEAD = "Generic S3 error: Error performing PUT http://127.0.0.1:9/b/k?X-Amz-Signature=5ec in 1.035894ms - "
DUMP = (
    '\n\nDebug source:\nGeneric {\n    store: "S3",\n    source: RetryError(\n        RetryErrorImpl {\n'
    "            method: PUT,\n            retries: 0,\n            inner: %s,\n        },\n    ),\n}"
)
REFUSED_CONNECTION = (
    'Http(HttpError { kind: Connect, source: reqwest::Error { kind: Request, source: Error(Connect, ConnectError("tcp '
    'connect error", 127.0.0.1:1, Os { code: 111, kind: ConnectionRefused, message: "Connection refused" })) } })'
)
DNS = (
    'Http(HttpError { kind: Connect, source: reqwest::Error { kind: Request, source: Error(Connect, ConnectError("dns '
    'error", Custom { kind: Uncategorized, error: "failed to lookup address information: Name or service not known" }'
    ")) } })"
)
TIMED_OUT = "Http(HttpError { kind: Timeout, source: reqwest::Error { kind: Request, source: TimedOut } })"
RESET = (
    "Http(HttpError { kind: Request, source: reqwest::Error { kind: Request, source: Error(SendRequest, hyper::Error("
    "IncompleteMessage)) } })"
)


def obstore_error(inner: str) -> GenericError:
    return GenericError(f"{HEAD}HTTP error: error sending request{DUMP % inner}")


@pytest.mark.parametrize(
    ("inner", "reason", "detail"),
    [
        (REFUSED_CONNECTION, "connection", "no connection to S3 (Connection refused)"),
        (
            DNS,
            "connection",
            "no connection to S3 (failed to lookup address information: Name or service not known)",
        ),
        (RESET, "connection", "no connection to S3 (IncompleteMessage)"),
        (TIMED_OUT, "timeout", "S3 did not answer in time (STREAMS_S3_REQUEST_TIMEOUT_SECONDS)"),
    ],
    ids=["refused", "dns", "reset", "timeout"],
)
def test_transport_failures_of_obstore_are_outages(inner: str, reason: str, detail: str) -> None:
    """The kind stands in the dump behind the message, and the message says only what helps."""
    error = from_obstore(obstore_error(inner))
    assert isinstance(error, SinkUnavailableError)
    assert (error.reason, error.detail) == (reason, detail)


def test_obstore_answer_is_read_from_the_document_in_its_text() -> None:
    """obstore's exception class says nothing: 403 covers everything from AccessDenied to a wrong clock."""
    text = (
        "The operation lacked the necessary privileges to complete for path k x: Error performing PUT "
        "http://127.0.0.1:38419/bk/k%20x in 445.893µs - Server returned non-2xx status code: 403 Forbidden: "
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>RequestTimeTooSkewed</Code><Message>The difference '
        "between the request time and the current time is too large.</Message><RequestId>4442587FB7D0A2F9</RequestId>"
        "</Error>\n\nDebug source:\nPermissionDenied { ... }"
    )
    error = from_obstore(PermissionDeniedError(text))
    assert isinstance(error, SinkRefusedError)
    assert error.reason == "refused"
    assert error.detail == (
        "S3 answered 403 RequestTimeTooSkewed: The difference between the request time and the current time is too "
        "large. (request 4442587FB7D0A2F9)"
    )
    assert "clock" in error.remedy


def test_bare_redirect_is_a_wrong_region() -> None:
    """obstore throws the answer away when a redirect has no Location, as S3's have none."""
    text = f"{HEAD}Received redirect without LOCATION, this normally indicates an incorrectly configured region"
    error = from_obstore(GenericError(text + DUMP % "BareRedirect"))
    assert isinstance(error, SinkRefusedError)
    assert (error.reason, "STREAMS_S3_REGION" in error.remedy) == ("wrong_region", True)


def test_path_that_obstore_cannot_parse_is_rejected() -> None:
    """No retry makes such a key valid; `object_key` lets none through, so this is a second fence."""
    error = from_obstore(ValueError('Could not parse path: Path "a//b" contained empty path segment'))
    assert isinstance(error, RecordRejectedError)
    assert error.reason == "invalid_request"


@given(st.text())
def test_unknown_text_of_obstore_is_retried(text: str) -> None:
    """What nobody has seen before is never the event's fault."""
    assert isinstance(from_obstore(GenericError(text)), SinkUnavailableError | SinkRefusedError)


@given(st.from_regex(r"[A-Za-z.]{1,30}", fullmatch=True), st.integers(100, 999))
def test_unknown_code_is_never_dead_lettered(code: str, status: int) -> None:
    """Only codes of the table reject; an unknown 4xx holds with an alert, the rest is retried."""
    error = classify(Answer(status, code))
    known = code in REJECTED or code in UNAVAILABLE or code in REFUSED or code in WRONG_REGION
    if not known:
        assert not isinstance(error, RecordRejectedError)
        assert isinstance(error, SinkRefusedError) or not 400 <= status < 500 or status in (408, 429)


def test_no_code_is_in_two_tables() -> None:
    """The order in which the tables are asked changes nothing."""
    tables = [set(REJECTED), set(UNAVAILABLE), set(REFUSED), set(WRONG_REGION)]
    assert sum(map(len, tables)) == len(set.union(*tables))


def client_error(code: str, status: int, operation: str = "PutObject") -> ClientError:
    response = {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


def test_region_of_a_botocore_redirect_is_in_its_header() -> None:
    """S3's redirect names the region only there."""
    error = client_error("PermanentRedirect", 301)
    error.response["ResponseMetadata"]["HTTPHeaders"] = {"x-amz-bucket-region": "us-west-2"}
    meaning = from_botocore(error)
    assert isinstance(meaning, SinkRefusedError)
    assert meaning.remedy == "Set STREAMS_S3_REGION=us-west-2, the bucket's region."


def test_details_are_short_and_without_query_strings() -> None:
    """A message may hold an address, and an address a signature."""
    url = "https://s3.example.com/b/k?X-Amz-Signature=5ec4e7&X-Amz-Security-Token=abc"
    meaning = from_botocore(EndpointConnectionError(endpoint_url=url, error="x" * 1000))
    assert isinstance(meaning, SinkUnavailableError)
    assert "X-Amz" not in meaning.detail
    assert len(classify(Answer(400, "InvalidRequest", "y" * 5000)).args[0]) < 3 * MAX_DETAIL_CHARACTERS


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (None, SinkRefusedError, "credentials_missing"),
        (CredentialRetrievalError(provider="sso", error_msg="expired"), SinkRefusedError, "credentials_missing"),
        (client_error("AccessDenied", 403, "AssumeRole"), SinkRefusedError, "access_denied"),
        (client_error("InvalidIdentityToken", 400, "AssumeRoleWithWebIdentity"), SinkRefusedError, "access_denied"),
        (client_error("ExpiredTokenException", 400, "AssumeRole"), SinkUnavailableError, "credentials_expired"),
        (client_error("Throttling", 400, "AssumeRole"), SinkUnavailableError, "throttled"),
        (ConnectTimeoutError(endpoint_url="https://sts.example.com"), SinkUnavailableError, "timeout"),
        (EndpointConnectionError(endpoint_url="https://sts.example.com"), SinkUnavailableError, "connection"),
        (TimeoutError(), SinkUnavailableError, "timeout"),
        (RuntimeError("refreshed credentials are still expired"), SinkUnavailableError, "credentials_expired"),
    ],
)
def test_failure_to_get_credentials_holds_or_retries(
    error: Exception | None, kind: type[StreamsError], reason: str
) -> None:
    """No event is ever dead-lettered because of credentials."""
    meaning = from_credentials(error)
    assert (type(meaning), getattr(meaning, "reason", None)) == (kind, reason)


def test_denied_delete_of_obstore_is_a_refusal() -> None:
    """DeleteObjects answers 200 and hides the refusal in the document."""
    error = from_obstore(
        GenericError(
            "Generic S3 error: DeleteObjects request failed for key dead-letter/t/0/1.json: Access Denied. "
            "(code: AccessDenied)\n\nDebug source:\nGeneric { ... }"
        )
    )
    assert isinstance(error, SinkRefusedError)
    assert "access_denied" == error.reason
    assert "Access Denied." in error.detail
