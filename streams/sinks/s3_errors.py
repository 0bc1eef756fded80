"""What a failed request to S3 means: one table for both clients and for the credentials they use.

Library errors end here and become `RecordRejectedError`, `SinkUnavailableError` or `SinkRefusedError`. Codes are those
of the S3 API reference, "Error responses". What is not in the tables is never the event's fault: an unknown 4xx is
refused (hold, alert), anything else is retried. Messages carry S3's own words, cut short, and no query string.
"""

from __future__ import annotations

import html
import re
from typing import Final, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError

MAX_DETAIL_CHARACTERS: Final = 300

REJECTED: Final = {
    "KeyTooLongError": "key_too_long",
    "EntityTooLarge": "too_large",
    "MetadataTooLarge": "invalid_request",
    "InvalidURI": "invalid_request",
}
"""S3 looked at this object alone and will say the same of it for ever; the shortest list on purpose."""

UNAVAILABLE: Final = {
    "SlowDown": "throttled",
    "SlowDownWrite": "throttled",
    "ServiceUnavailable": "throttled",
    "Throttling": "throttled",
    "ThrottlingException": "throttled",
    "ThrottledException": "throttled",
    "KMS.ThrottlingException": "throttled",
    "RequestLimitExceeded": "throttled",
    "RequestThrottled": "throttled",
    "TooManyRequests": "throttled",
    "TooManyRequestsException": "throttled",
    "BandwidthLimitExceeded": "throttled",
    "InternalError": "server_error",
    "InternalFailure": "server_error",
    "KMS.KMSInternalException": "server_error",
    "IDPCommunicationError": "server_error",
    "RequestTimeout": "timeout",
    "RequestTimeoutException": "timeout",
    "KMS.DependencyTimeoutException": "timeout",
    "IncompleteBody": "connection",
    "BadDigest": "connection",
    "XAmzContentSHA256Mismatch": "connection",
    "XAmzContentChecksumMismatch": "connection",
    "ExpiredToken": "credentials_expired",
    "ExpiredTokenException": "credentials_expired",
    "RequestExpired": "credentials_expired",
    "TokenRefreshRequired": "credentials_expired",
    "ConditionalRequestConflict": "conflict",
    "OperationAborted": "conflict",
}

UNAVAILABLE_STATUS: Final = {408: "timeout", 429: "throttled", 503: "throttled", 504: "timeout"}
"""For answers whose code says nothing: proxies and load balancers have none."""

_CREDENTIALS_REMEDY: Final = (
    "Check the worker's AWS credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the "
    "instance, task or service account)."
)
PERMISSION_REMEDY: Final = (
    "Allow the worker's role s3:PutObject under the prefixes of events, dead letters and ledger in its IAM policy "
    "(s3:PutObjectTagging too where STREAMS_S3_TAGS is set; `faust -A streams doctor` prints it), and check that no "
    "bucket policy, service control policy or VPC endpoint policy denies it."
)
_BUCKET_REMEDY: Final = "Create the bucket, or correct STREAMS_S3_BUCKET or STREAMS_S3_ENDPOINT_URL."
_KMS_REMEDY: Final = (
    "Check that the KMS key of STREAMS_S3_SSE_KMS_KEY_ID (or the bucket's default) is enabled and in the bucket's "
    "region, and allow the worker's role kms:GenerateDataKey and kms:Decrypt on it, in its IAM policy and in the key's."
)
_CLOCK_REMEDY: Final = "Set this machine's clock: it is more than 15 minutes off (check NTP or chrony)."
_UNKNOWN_REMEDY: Final = (
    "Nothing is lost: the events wait. Look the code up in S3's error reference, mend the setting or policy that it "
    "points to, and the worker goes on by itself."
)
_ROLE_REMEDY: Final = (
    "Check STREAMS_{service}_ROLE_ARN (or the role of the profile or service account): its trust policy must allow "
    "sts:AssumeRole to the worker's identity, with the external id of STREAMS_{service}_ROLE_EXTERNAL_ID."
)
_CA_REMEDY: Final = "Set STREAMS_S3_CA_FILE to the authority of the S3 server's certificate, or check the endpoint."

REFUSED: Final = {
    "AccessDenied": ("access_denied", PERMISSION_REMEDY),
    "AllAccessDisabled": ("access_denied", PERMISSION_REMEDY),
    "UnauthorizedAccess": ("access_denied", PERMISSION_REMEDY),
    "AccountProblem": ("access_denied", "Contact AWS Support about the account that owns the bucket."),
    "NotSignedUp": ("access_denied", "Sign the account up for Amazon S3."),
    "InvalidAccessKeyId": ("access_denied", _CREDENTIALS_REMEDY),
    "SignatureDoesNotMatch": ("access_denied", _CREDENTIALS_REMEDY),
    "InvalidSecurity": ("access_denied", _CREDENTIALS_REMEDY),
    "InvalidToken": ("access_denied", _CREDENTIALS_REMEDY),
    "InvalidClientTokenId": ("access_denied", _CREDENTIALS_REMEDY),
    "XAdminUserNotFound": ("access_denied", _CREDENTIALS_REMEDY),  # versitygw's InvalidAccessKeyId
    "RequestTimeTooSkewed": ("refused", _CLOCK_REMEDY),
    "NoSuchBucket": ("bucket_missing", _BUCKET_REMEDY),
    "InvalidBucketName": ("bucket_missing", _BUCKET_REMEDY),
    "InvalidStorageClass": ("refused", "Correct STREAMS_S3_STORAGE_CLASS."),
    "InvalidTag": ("refused", "Correct STREAMS_S3_TAGS."),
    "NotImplemented": (
        "refused",
        "The server does not know a feature that the settings ask for: try without STREAMS_S3_TAGS, "
        "STREAMS_S3_STORAGE_CLASS and STREAMS_S3_SSE, and with STREAMS_S3_CHECKSUM=none.",
    ),
    "InvalidEncryptionAlgorithmError": ("refused", "Correct STREAMS_S3_SSE."),
}
REFUSED_STATUS: Final = {
    401: ("access_denied", _CREDENTIALS_REMEDY),
    403: ("access_denied", PERMISSION_REMEDY),
    404: ("bucket_missing", _BUCKET_REMEDY),
}

_UNKNOWN: Final = ("refused", _UNKNOWN_REMEDY)

WRONG_REGION: Final = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "Redirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
    }
)


class Answer(NamedTuple):
    """An answer of S3 (or of something in front of it) that is not a success."""

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    request_id: str = ""

    @property
    def detail(self) -> str:
        request = f" (request {self.request_id})" if self.request_id else ""
        message = f": {self.message}" if self.message else ""
        return tidy(f"S3 answered {self.status} {self.code}".rstrip() + message) + request


def classify(answer: Answer) -> StreamsError:
    """The error that an answer stands for: by its code, else by its status."""
    code, status = answer.code, answer.status
    if code in REJECTED:
        return RecordRejectedError(REJECTED[code], answer.detail)
    if code in UNAVAILABLE:
        return SinkUnavailableError(UNAVAILABLE[code], answer.detail)
    if code in WRONG_REGION or 300 <= status < 400:
        return SinkRefusedError("wrong_region", answer.detail, _region_remedy(answer.region))
    if code.startswith("KMS.") or (code == "AccessDenied" and "kms:" in answer.message):
        return SinkRefusedError("kms", answer.detail, _KMS_REMEDY)
    if code in REFUSED:
        return SinkRefusedError(REFUSED[code][0], answer.detail, REFUSED[code][1])
    if status in UNAVAILABLE_STATUS:
        return SinkUnavailableError(UNAVAILABLE_STATUS[status], answer.detail)
    if not 400 <= status < 500:
        return SinkUnavailableError("server_error", answer.detail)
    reason, remedy = REFUSED_STATUS.get(status, _UNKNOWN)
    if status == 404 and code:  # something else than the bucket was not found
        reason, remedy = _UNKNOWN
    return SinkRefusedError(reason, answer.detail, remedy)


def _region_remedy(region: str) -> str:
    if region:
        return f"Set STREAMS_S3_REGION={region}, the bucket's region."
    return "Set STREAMS_S3_REGION to the bucket's region (aws s3api get-bucket-location --bucket BUCKET tells it)."


# -- obstore: every error is text --------------------------------------------------------------------------------------

# Measured with obstore 0.12.1: the answer's body stands in the first part, a dump of the Rust error in the second.
_DUMP: Final = "\n\nDebug source:\n"
_OBSTORE_ANSWER: Final = re.compile(r"Server returned non-2xx status code: (\d{3})[^:]*: ?(.*)", re.DOTALL)
# obstore deletes with DeleteObjects, which answers 200 with an error for each key.
_OBSTORE_DELETE: Final = re.compile(r"DeleteObjects request failed for key .*?: ([^:]*) \(code: (\w+)\)")
_BARE_REDIRECT: Final = "Received redirect without LOCATION"
_CERTIFICATE: Final = re.compile(r"invalid peer certificate|UnknownIssuer|CERTIFICATE_VERIFY_FAILED", re.IGNORECASE)
_OBSTORE_CAUSE: Final = re.compile(
    r'(?:message|error): "([^"]+)"|hyper::Error\(\s*(\w+)|(invalid peer certificate: \w+)'
)


def from_obstore(error: BaseException) -> StreamsError:
    """What an exception of `obstore.put_async` means."""
    text, _, dump = str(error).partition(_DUMP)
    if found := _OBSTORE_ANSWER.search(text):
        return classify(_answer_from_xml(int(found[1]), found[2]))
    if found := _OBSTORE_DELETE.search(text):
        return classify(Answer(200, found[2], found[1]))
    if _BARE_REDIRECT in text:
        return classify(Answer(301, "PermanentRedirect", "the bucket is in another region"))
    if _CERTIFICATE.search(dump):
        return _untrusted(_connection_detail(dump))
    if "kind: Timeout" in dump:
        return SinkUnavailableError("timeout", "S3 did not answer in time (STREAMS_S3_REQUEST_TIMEOUT_SECONDS)")
    if "HttpError" in dump:
        return SinkUnavailableError("connection", _connection_detail(dump))
    if isinstance(error, ValueError):  # the path could not be parsed
        return RecordRejectedError("invalid_request", tidy(text))
    return SinkUnavailableError("server_error", tidy(f"{type(error).__name__}: {text}"))


def _answer_from_xml(status: int, body: str) -> Answer:
    return Answer(
        status,
        code=_element(body, "Code"),
        message=_element(body, "Message"),
        region=_element(body, "Region"),
        request_id=_element(body, "RequestId"),
    )


def _element(xml: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", xml)
    return html.unescape(found[1]) if found else ""


def _connection_detail(dump: str) -> str:
    found = _OBSTORE_CAUSE.search(dump)
    cause = next(filter(None, found.groups()), "") if found else ""
    return "no connection to S3" + (f" ({cause})" if cause else "")


def _untrusted(detail: str) -> SinkRefusedError:
    return SinkRefusedError("refused", tidy(detail), _CA_REMEDY)


# -- botocore ----------------------------------------------------------------------------------------------------------


def from_botocore(error: BaseException) -> StreamsError:
    """What an exception of `put_object` means."""
    if isinstance(error, StreamsError):  # of the credentials
        return error
    if isinstance(error, ClientError):
        return classify(_answer_from_botocore(error))
    if isinstance(error, SSLError) or is_certificate_error(error):
        return _untrusted(f"no connection to S3 ({error})")
    if isinstance(error, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return SinkUnavailableError("timeout", "S3 did not answer in time (STREAMS_S3_REQUEST_TIMEOUT_SECONDS)")
    if isinstance(error, HTTPClientError | BotocoreConnectionError | OSError):
        return SinkUnavailableError("connection", tidy(f"no connection to S3 ({error})"))
    return SinkUnavailableError("server_error", tidy(f"{type(error).__name__}: {error}"))


def is_certificate_error(error: BaseException) -> bool:
    """Whether a connection failed because the server's certificate is not trusted."""
    return _CERTIFICATE.search(f"{error} {error.__cause__}") is not None


def _answer_from_botocore(error: ClientError) -> Answer:
    found = error.response.get("Error", {})
    about = error.response.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 0))
    code = str(found.get("Code", ""))
    return Answer(
        status,
        code="" if code == str(status) else code,  # botocore's stand-in for an answer without a document
        message=str(found.get("Message", "")),
        region=str(found.get("Region") or about.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")),
        request_id=str(about.get("RequestId", "")),
    )


def from_credentials(error: BaseException | None, service: str = "S3") -> StreamsError:
    """What a failure to get credentials means; `None` stands for a chain that found nothing.

    `service` is the word in the settings that the remedy names (`S3`, `SQS`).
    """
    if error is None:
        return SinkRefusedError("credentials_missing", "no AWS credentials were found.", _CREDENTIALS_REMEDY)
    if isinstance(error, ClientError):
        return _from_sts(error, service)
    if isinstance(error, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return SinkUnavailableError("timeout", "getting AWS credentials took too long")
    if isinstance(error, HTTPClientError | BotocoreConnectionError | OSError):
        return SinkUnavailableError("connection", tidy(f"AWS credentials could not be got ({error})"))
    if isinstance(error, BotoCoreError):
        detail = tidy(f"AWS credentials could not be got ({error})")
        return SinkRefusedError("credentials_missing", detail, _CREDENTIALS_REMEDY)
    return SinkUnavailableError("credentials_expired", tidy(f"AWS credentials could not be got ({error})"))


def _from_sts(error: ClientError, service: str) -> StreamsError:
    answer = _answer_from_botocore(error)
    meaning = classify(answer)
    detail = tidy(f"{error.operation_name} was answered {answer.status} {answer.code}: {answer.message}")
    if isinstance(meaning, SinkUnavailableError):
        return SinkUnavailableError(meaning.reason, detail)
    return SinkRefusedError("access_denied", detail, _ROLE_REMEDY.format(service=service))


def tidy(text: str) -> str:
    """One short line without query strings, where signatures and tokens stand."""
    line = re.sub(r"\?[^\s\"')>]*", "?...", " ".join(text.split())) if "://" in text else " ".join(text.split())
    return line if len(line) <= MAX_DETAIL_CHARACTERS else line[: MAX_DETAIL_CHARACTERS - 3] + "..."
