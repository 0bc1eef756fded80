"""What a failed request to SQS, or a failed entry of one, means.

Codes are those of the SQS API reference, in the words of both protocols (`x-amzn-query-error` has the older one). What
S3 and SQS have in common stands in `s3_errors`. As there: what is in no table is never the event's fault.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.exceptions import ConnectTimeoutError, HTTPClientError, ReadTimeoutError, SSLError

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.sinks import s3_errors

_TOO_LARGE: Final = frozenset({"BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", "MessageTooLong"})
_INVALID_CONTENTS: Final = frozenset({"InvalidMessageContents", "AWS.SimpleQueueService.InvalidMessageContents"})
# The third is ElasticMQ's word.
_INVALID_PARAMETER: Final = frozenset(
    {"InvalidParameterValue", "InvalidParameterValueException", "InvalidAttributeValue"}
)
_LENGTH: Final = re.compile("must be shorter than|MessageTooLong")

_QUEUE_MISSING: Final = frozenset(
    {
        "QueueDoesNotExist",
        "QueueDoesNotExistException",
        "NonExistentQueue",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDeletedRecently",
        "AWS.SimpleQueueService.QueueDeletedRecently",
        "InvalidAddress",
    }
)
_THROTTLED: Final = frozenset({"OverLimit", "RequestThrottled", "ThrottlingException", "KmsThrottled"})
_KMS: Final = frozenset(
    {"KmsDisabled", "KmsInvalidState", "KmsNotFound", "KmsOptInRequired", "KmsAccessDenied", "KmsInvalidKeyUsage"}
)
_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "InvalidSecurity", "OptInRequired"}
)
_BAD_CREDENTIALS: Final = frozenset(
    {
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)

_QUEUE_REMEDY: Final = "Create the queue, or correct STREAMS_SQS_QUEUE_URL, STREAMS_SQS_REGION or the endpoint."
_PERMISSION_REMEDY: Final = (
    "Allow the worker's role sqs:SendMessage on the queue's ARN (arn:aws:sqs:REGION:ACCOUNT:NAME) in its IAM policy, "
    "and check that no queue policy, service control policy or VPC endpoint policy denies it."
)
_KMS_REMEDY: Final = (
    "Check that the queue's KMS key is enabled, and allow the worker's role kms:GenerateDataKey and kms:Decrypt on it, "
    "in its IAM policy and in the key's."
)
_CREDENTIALS_REMEDY: Final = (
    "Check the worker's AWS credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the "
    "instance, task or service account), and this machine's clock."
)
_CA_REMEDY: Final = "Set AWS_CA_BUNDLE to the authority of the SQS server's certificate, or check the endpoint."
_UNKNOWN_REMEDY: Final = (
    "Nothing is lost: the events wait. Look the code up in SQS's error reference, mend the setting or policy that it "
    "points to, and the worker goes on by itself."
)


class SqsAnswer(NamedTuple):
    """An answer of SQS that is not a success; of an entry, `status` is 400 where its sender is at fault, else 500."""

    status: int
    code: str = ""
    message: str = ""
    request_id: str = ""
    of_entry: bool = False

    @property
    def detail(self) -> str:
        request = f" (request {self.request_id})" if self.request_id else ""
        message = f": {self.message}" if self.message else ""
        return s3_errors.tidy(f"SQS answered {self.status} {self.code}".rstrip() + message) + request


def classify_sqs(answer: SqsAnswer) -> StreamsError:
    """The error that an answer stands for: by its code, else by its status."""
    code, detail = answer.code, answer.detail
    if reason := _rejection(answer):
        return RecordRejectedError(reason, detail)
    if reason := "throttled" if code in _THROTTLED else s3_errors.UNAVAILABLE.get(code):
        return SinkUnavailableError(reason, detail)
    if code in _QUEUE_MISSING:
        return SinkRefusedError("queue_missing", detail, _QUEUE_REMEDY)
    if code in _KMS or code.startswith("KMS.") or (code in _DENIED and "kms:" in answer.message):
        return SinkRefusedError("kms", detail, _KMS_REMEDY)
    if code in _DENIED:
        return SinkRefusedError("access_denied", detail, _PERMISSION_REMEDY)
    if code in _BAD_CREDENTIALS:
        return SinkRefusedError("access_denied", detail, _CREDENTIALS_REMEDY)
    if reason := _passing_status(answer.status):
        return SinkUnavailableError(reason, detail)
    if answer.status in (401, 403):
        return SinkRefusedError("access_denied", detail, _PERMISSION_REMEDY)
    return SinkRefusedError("refused", detail, _UNKNOWN_REMEDY)


def from_transport(error: BaseException) -> StreamsError:
    """What an exception on the way to SQS means."""
    if isinstance(error, StreamsError):  # of the credentials
        return error
    if isinstance(error, SSLError) or s3_errors.is_certificate_error(error):
        return SinkRefusedError("refused", s3_errors.tidy(f"no connection to SQS ({error})"), _CA_REMEDY)
    if isinstance(error, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return SinkUnavailableError("timeout", "SQS did not answer in time (STREAMS_SQS_REQUEST_TIMEOUT_SECONDS)")
    if isinstance(error, HTTPClientError | BotocoreConnectionError | OSError):
        return SinkUnavailableError("connection", s3_errors.tidy(f"no connection to SQS ({error})"))
    return SinkUnavailableError("server_error", s3_errors.tidy(f"{type(error).__name__}: {error}"))


def _rejection(answer: SqsAnswer) -> str | None:
    """Why this message alone is at fault, and will be for ever."""
    if answer.code in _TOO_LARGE or (answer.code in _INVALID_PARAMETER and _LENGTH.search(answer.message)):
        return "too_large"
    if answer.code in _INVALID_CONTENTS:
        return "invalid_request"
    # About one entry of a request that SQS understood: not the queue's settings, nor ours.
    return "invalid_request" if answer.of_entry and answer.code in _INVALID_PARAMETER else None


def _passing_status(status: int) -> str | None:
    """Why it may work the next time, from the status alone."""
    if reason := s3_errors.UNAVAILABLE_STATUS.get(status):
        return reason
    return None if 300 <= status < 500 else "server_error"
