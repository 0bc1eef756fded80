"""What `doctor` makes of S3's answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from streams.doctor.findings import Finding, Status
from streams.doctor.remedies import IamStatements
from streams.errors import SinkRefusedError, SinkUnavailableError
from streams.settings import Settings
from streams.sinks.doctor_signing import CredentialFacts, clock_finding, credential_finding
from streams.sinks.s3_address import S3Address
from streams.sinks.s3_doctor_client import Answer
from streams.sinks.s3_doctor_findings import (
    bucket_finding,
    conditional_finding,
    delete_finding,
    encryption_finding,
    get_finding,
    latency_finding,
    lifecycle_finding,
    list_finding,
    owner_finding,
    put_finding,
    topic_identity_finding,
    versioning_finding,
)

ADDRESS = S3Address("eu-central-1", "https://s3.eu-central-1.amazonaws.com", "my-events", False)
DENIED = Answer(403, {}, {}, SinkRefusedError("access_denied", "S3 answered 403 AccessDenied", "ask"), "AccessDenied")
FORBIDDEN = Answer(403, {}, {}, SinkRefusedError("access_denied", "S3 answered 403", "ask"))
CANARY_KEY = "events/.streams-doctor/1"


def make_settings(**fields: Any) -> Settings:
    required = {
        "kafka_bootstrap_servers": "broker:9092",
        "topics": "orders",
        "consumer_group": "orders-to-s3",
        "s3_bucket": "my-events",
    }
    return Settings(**{**required, **fields})


def success(body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> Answer:
    return Answer(200, headers or {}, body or {})


@pytest.fixture
def iam() -> IamStatements:
    return IamStatements(make_settings(), "eu-central-1", "111122223333")


def action(finding: Finding) -> object:
    """What the statement in a remedy allows."""
    policy = json.loads(finding.remedy[finding.remedy.index("{") :])
    return policy["Statement"][0]["Action"]


# -- bucket, clock, credentials ----------------------------------------------------------------------------------------


def test_bucket_in_the_configured_region_is_well(iam: IamStatements) -> None:
    """And requests follow."""
    head = success(headers={"x-amz-bucket-region": "eu-central-1"})
    finding, usable = bucket_finding(ADDRESS, head, head, iam)
    assert (Status.OK, True) == (finding.status, usable)


@pytest.mark.parametrize("status", [200, 301, 400, 403])
def test_bucket_in_another_region_is_wrong_whatever_the_status(status: int, iam: IamStatements) -> None:
    """S3 tells the real region in a header, with every answer to HeadBucket."""
    error = None if status == 200 else SinkRefusedError("refused", "S3 answered", "look")
    head = Answer(status, {"x-amz-bucket-region": "us-west-2"}, {}, error)
    finding, usable = bucket_finding(ADDRESS, head, head, iam)
    assert (Status.WRONG, False) == (finding.status, usable)
    assert "STREAMS_S3_REGION=us-west-2" in finding.remedy


def test_region_is_read_from_the_words_of_the_refusal(iam: IamStatements) -> None:
    """Where neither header nor element has it."""
    message = "The authorization header is malformed; the region 'eu-central-1' is wrong; expecting 'us-east-1'"
    body = {"Error": {"Code": "AuthorizationHeaderMalformed", "Message": message}}
    told = Answer(400, {}, body, SinkRefusedError("wrong_region", message, "?"), "AuthorizationHeaderMalformed")
    finding, _ = bucket_finding(ADDRESS, Answer(400, {}, {}, FORBIDDEN.error), told, iam)
    assert "STREAMS_S3_REGION=us-east-1" in finding.remedy


def test_worker_without_the_right_to_list_goes_on(iam: IamStatements) -> None:
    """HeadBucket needs s3:ListBucket, which the worker need not have; the PUT will tell."""
    finding, usable = bucket_finding(ADDRESS, FORBIDDEN, DENIED, iam)
    assert (Status.UNCHECKED, True) == (finding.status, usable)
    assert ["s3:ListBucket"] == action(finding)
    finding, usable = bucket_finding(ADDRESS, FORBIDDEN, success(), iam)
    assert (Status.OK, True) == (finding.status, usable)


def test_missing_bucket_is_created_where_it_is_configured(iam: IamStatements) -> None:
    """With the location that any region but one needs."""
    missing = Answer(404, {}, {}, SinkRefusedError("bucket_missing", "S3 answered 404", "create"))
    finding, usable = bucket_finding(ADDRESS, missing, missing, iam)
    assert not usable
    assert finding.remedy.endswith(
        "create-bucket --bucket my-events --region eu-central-1 "
        "--create-bucket-configuration LocationConstraint=eu-central-1"
    )


@pytest.mark.parametrize(
    ("skew_seconds", "expected"),
    [(0.4, Status.OK), (-59, Status.OK), (61, Status.WARNING), (-899, Status.WARNING), (901, Status.WRONG)],
)
def test_clock_limits(skew_seconds: float, expected: Status) -> None:
    """A minute is worth a warning; S3 refuses beyond fifteen."""
    finding = clock_finding(skew_seconds)
    assert finding is not None
    assert expected == finding.status


def test_unknown_clock_is_not_mentioned() -> None:
    """No answer, no date."""
    assert clock_finding(None) is None


def test_credentials_that_expire_say_when() -> None:
    """Lasting ones do not."""
    expiring = CredentialFacts("the container's role", datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert "good until 2026-01-01 12:00 UTC" in credential_finding(expiring).finding
    assert "until" not in credential_finding(CredentialFacts("environment variables", None)).finding


# -- requests ----------------------------------------------------------------------------------------------------------


def test_denied_put_is_wrong_and_brings_the_statement() -> None:
    """Without it nothing can be archived."""
    error = SinkRefusedError("access_denied", "S3 answered 403 AccessDenied: Access Denied", "generic")
    finding = put_finding("events", CANARY_KEY, error, "{statement}", "{key}")
    assert Status.WRONG == finding.status
    assert finding.remedy.endswith("{statement}")


def test_put_refused_for_the_key_brings_the_keys_statement() -> None:
    """Not the bucket's."""
    error = SinkRefusedError("kms", "S3 answered 400 KMS.DisabledException", "generic")
    assert put_finding("events", CANARY_KEY, error, "{statement}", "{key}").remedy.endswith("{key}")


@pytest.mark.parametrize(
    "error",
    [
        SinkRefusedError("refused", "S3 answered 400 InvalidStorageClass", "Correct STREAMS_S3_STORAGE_CLASS."),
        SinkUnavailableError("timeout", "no answer within 10 s"),
    ],
)
def test_put_that_fails_otherwise_is_wrong_and_not_blamed_on_rights(error: Exception) -> None:
    """The error's own remedy, or the network."""
    finding = put_finding("events", CANARY_KEY, error, "{statement}", "{key}")  # type: ignore[arg-type] # stand-ins
    assert Status.WRONG == finding.status
    assert "statement" not in finding.remedy


def test_what_only_commands_need_is_a_warning() -> None:
    """LIST, GET and DELETE name the commands that will not work."""
    listing = list_finding(DENIED, CANARY_KEY, "{}")
    assert (Status.WARNING, True) == (listing.status, "verify" in listing.finding)
    reading = get_finding(DENIED, b"", {}, "{}")
    assert (Status.WARNING, True) == (reading.status, "restore" in reading.finding)
    deleting = delete_finding({CANARY_KEY: DENIED}, make_settings(), "{}")
    assert (Status.WARNING, True) == (deleting.status, "redrive" in deleting.finding)
    assert f"s3://my-events/{CANARY_KEY}" in deleting.finding


def test_worker_that_cannot_read_whose_events_the_bucket_holds_is_warned() -> None:
    """It goes on, and would not notice a topic that was recreated while it was away."""
    denied = topic_identity_finding(DENIED, "ledger/*/topic.json", "{statement}")
    assert (Status.WARNING, True) == (denied.status, "recreated" in denied.finding)
    assert "{statement}" in denied.remedy
    assert Status.OK == topic_identity_finding(success(), "ledger/*/topic.json", "").status


def test_listing_that_lags_is_a_warning() -> None:
    """verify builds on listings."""
    assert Status.WARNING == list_finding(success({"Contents": []}), CANARY_KEY, "").status
    assert Status.OK == list_finding(success({"Contents": [{"Key": CANARY_KEY}]}), CANARY_KEY, "").status


@pytest.mark.parametrize(
    ("body", "metadata", "expected"),
    [
        (b"{}", {"kafka-topic": "a"}, Status.OK),
        (b"{}", {"Kafka-Topic": "a"}, Status.OK),
        (b"{ }", {"kafka-topic": "a"}, Status.WRONG),
        (b"{}", {}, Status.WRONG),
    ],
)
def test_object_must_come_back_as_it_was_written(body: bytes, metadata: dict[str, str], expected: Status) -> None:
    """Bytes and metadata; the names' case does not count."""
    answer = success({"Body": body, "Metadata": metadata})
    assert expected == get_finding(answer, b"{}", {"kafka-topic": "a"}, "").status


@pytest.mark.parametrize(
    ("fields", "headers", "expected", "words"),
    [
        ({}, {}, Status.OK, "does not say"),
        ({}, {"x-amz-server-side-encryption": "AES256"}, Status.OK, "AES256 (the bucket's own)"),
        ({"s3_sse": "aws:kms"}, {"x-amz-server-side-encryption": "AES256"}, Status.WARNING, "asked for"),
        (
            {"s3_sse": "aws:kms", "s3_sse_kms_key_id": "1234"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:r:1:key/1234",
                "x-amz-server-side-encryption-bucket-key-enabled": "true",
            },
            Status.OK,
            "key/1234",
        ),
        (
            {"s3_sse": "aws:kms"},
            {"x-amz-server-side-encryption": "aws:kms"},
            Status.WARNING,
            "KMS a request for each object",
        ),
        (
            {"s3_sse": "aws:kms", "s3_sse_kms_key_id": "1234"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:r:1:key/5678",
            },
            Status.WARNING,
            "not 1234",
        ),
    ],
)
def test_encryption_is_what_was_asked_for(
    fields: dict[str, Any], headers: dict[str, str], expected: Status, words: str
) -> None:
    """Algorithm and key, as the object's headers tell them."""
    finding = encryption_finding(make_settings(**fields), success(headers=headers))
    assert expected == finding.status
    assert words in finding.finding


@pytest.mark.parametrize(("status", "expected"), [(412, Status.OK), (200, Status.WARNING), (501, Status.UNCHECKED)])
def test_conditional_put(status: int, expected: Status) -> None:
    """412 is right; a server that overwrites, or knows no such thing, does the worker no harm."""
    error = None if status == 200 else SinkRefusedError("refused", "S3 answered", "")
    assert expected == conditional_finding(Answer(status, {}, {}, error)).status


@pytest.mark.parametrize(
    ("median_seconds", "expected", "words"),
    [
        (0.02, Status.OK, "need 70 in flight"),
        (0.5, Status.WARNING, "STREAMS_MAX_IN_FLIGHT=1750"),
        (5.0, Status.WARNING, "nearer"),
    ],
)
def test_latency_says_what_must_be_in_flight(median_seconds: float, expected: Status, words: str) -> None:
    """Little's law: rate times latency."""
    finding = latency_finding(median_seconds, 20, 1000)
    assert expected == finding.status
    assert words in finding.finding + finding.remedy


# -- the bucket's configuration ----------------------------------------------------------------------------------------


def test_owner_is_compared_with_the_callers_account(iam: IamStatements) -> None:
    """Another owner is possible, and worth a look: names of buckets are shared by all accounts."""
    assert Status.OK == owner_finding(success(), "111122223333", iam).status
    assert Status.WARNING == owner_finding(FORBIDDEN, "111122223333", iam).status


def test_configuration_that_may_not_be_read_is_optional(iam: IamStatements) -> None:
    """The right that would show it is named."""
    assert ["s3:GetBucketVersioning"] == action(versioning_finding(DENIED, iam))
    assert ["s3:GetLifecycleConfiguration"] == action(lifecycle_finding(DENIED, iam))
    assert Status.UNCHECKED == versioning_finding(DENIED, iam).status


def test_versioning_is_shown(iam: IamStatements) -> None:
    """Off, suspended or enabled."""
    assert "off" == versioning_finding(success(), iam).finding
    assert versioning_finding(success({"Status": "Enabled"}), iam).finding.startswith("enabled")


def test_lifecycle_rules_are_put_in_words(iam: IamStatements) -> None:
    """Those that are on and touch current objects."""
    rules = [
        {"Status": "Enabled", "Filter": {"Prefix": "events/"}, "Expiration": {"Days": 30}},
        {"Status": "Disabled", "Filter": {"Prefix": "off/"}, "Expiration": {"Days": 1}},
        {"Status": "Enabled", "Filter": {}, "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}]},
        {"Status": "Enabled", "Prefix": "", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]
    found = lifecycle_finding(success({"Rules": rules}), iam)
    assert "events/* deletes after 30 days; * moves to GLACIER after 90 days" == found.finding
    none = Answer(404, {}, {}, SinkRefusedError("refused", "no", ""), "NoSuchLifecycleConfiguration")
    assert "no rules" in lifecycle_finding(none, iam).finding
