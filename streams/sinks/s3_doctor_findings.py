"""What S3's answers to `doctor` mean, and what to do about them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from math import ceil
from typing import Any, Final

from streams.doctor.findings import Finding, ok, unchecked, warning, wrong
from streams.doctor.remedies import IamStatements
from streams.errors import SinkRefusedError, StreamsError
from streams.settings import Settings
from streams.sinks.doctor_signing import refused_finding
from streams.sinks.s3_address import S3Address
from streams.sinks.s3_doctor_client import Answer

PUTS_PER_SECOND: Final = 3500
"""What S3 takes per prefix (user guide, "Optimizing Amazon S3 performance")."""
MOST_IN_FLIGHT: Final = 10_000
_READ_COMMANDS: Final = "get, restore, redrive, verify --content and repair"
_RULES_SHOWN: Final = 5

IDENTITY_CHECK: Final = "s3 GET topic.json"


def bucket_finding(address: S3Address, head: Answer, told: Answer, iam: IamStatements) -> tuple[Finding, bool]:
    """The bucket, and whether requests to it make sense; `told` is the answer that says what a refused `head` means."""
    check = f"s3 bucket {address.bucket}"
    region = head.headers.get("x-amz-bucket-region") or told.headers.get("x-amz-bucket-region", "")
    at = f"{address.endpoint_url}, region {region or address.region}"
    if head.error is None:
        if region and region != address.region:
            return _wrong_region(check, address, region), False
        return ok(check, f"exists at {at}"), True
    if told.error is None:  # a listing of our prefix is allowed, HeadBucket not
        return ok(check, f"exists at {at}"), True
    reason = getattr(told.error, "reason", "")
    region = region or _expected_region(told)
    if reason == "wrong_region" or (region and region != address.region):
        return _wrong_region(check, address, region), False
    if head.status == 404 or reason == "bucket_missing":
        return _missing(check, address), False
    if told.code == "AccessDenied" or (told.status == 403 and not told.code):
        because = "HeadBucket and listing are refused (s3:ListBucket; the worker can do without); the PUT below tells"
        return unchecked(check, because, iam.bucket("s3:ListBucket")), True
    return refused_finding(check, told.error), False


def _expected_region(answer: Answer) -> str:
    """The region that S3's own words name: "the region 'us-east-1' is wrong; expecting 'eu-west-1'"."""
    error = answer.body.get("Error", {})
    found = re.search(r"expecting '([a-z0-9-]+)'", str(error.get("Message", "")))
    return str(error.get("Region") or (found[1] if found else ""))


def _wrong_region(check: str, address: S3Address, region: str) -> Finding:
    where = region or "another region"
    setting = region or "the bucket's region (aws s3api get-bucket-location --bucket " + address.bucket + " tells it)"
    return wrong(
        check,
        f"the bucket is in {where}, but {address.region} is configured",
        f"Set STREAMS_S3_REGION={setting}, and STREAMS_S3_ENDPOINT_URL, where it is set, to that region's endpoint.",
    )


def _missing(check: str, address: S3Address) -> Finding:
    location = (
        "" if address.region == "us-east-1" else f" --create-bucket-configuration LocationConstraint={address.region}"
    )
    return wrong(
        check,
        f"does not exist at {address.endpoint_url}",
        "Correct STREAMS_S3_BUCKET (or STREAMS_S3_ENDPOINT_URL), or create it: aws s3api create-bucket --bucket "
        f"{address.bucket} --region {address.region}{location}",
    )


def put_finding(name: str, key: str, error: StreamsError | None, statement: str, key_statement: str) -> Finding:
    """A PUT as the worker does it; without the right to it events, or dead letters, cannot be kept."""
    check = f"s3 PUT {name}"
    if error is None:
        return ok(check, f"allowed under {key.rpartition('/')[0]}/")
    if not isinstance(error, SinkRefusedError):
        return refused_finding(check, error)
    facts = f"{error.reason}: {error.detail}"
    if error.reason == "kms":
        return wrong(
            check,
            facts,
            "The key must be enabled and in the bucket's region, and its own policy must allow this identity too. Add "
            f"to the worker's IAM policy:\n{key_statement}",
        )
    if "AccessDenied" in error.detail or "UnauthorizedAccess" in error.detail:
        return wrong(
            check,
            facts,
            "Add to the worker's IAM policy, and see that no bucket policy, service control policy or VPC endpoint "
            f"policy denies it:\n{statement}",
        )
    return wrong(check, facts, error.remedy)


def list_finding(answer: Answer, expected: str | None, statement: str) -> Finding:
    """A listing; `expected` is the key that it must hold."""
    check = "s3 LIST"
    if answer.denied:
        return warning(
            check,
            f"denied ({answer.error}); the worker goes without, but verify, repair, restore and redrive will not work",
            f"For whoever runs these commands, add:\n{statement}",
        )
    if answer.error is not None:
        return refused_finding(check, answer.error)
    keys = [one["Key"] for one in answer.body.get("Contents", ())]
    if expected is not None and expected not in keys:
        return warning(
            check,
            "allowed, but an object that was just written is not in the listing",
            "This server lists late (Amazon S3 does not): verify may call events missing that are there. Run it later.",
        )
    return ok(check, "allowed" + (", and shows what was just written" if expected else ""))


def get_finding(answer: Answer, body: bytes, metadata: Mapping[str, str], statement: str) -> Finding:
    """A GET of the canary, compared with what was written."""
    check = "s3 GET"
    if answer.denied:
        return warning(
            check,
            f"denied ({answer.error}); the worker goes without, but {_READ_COMMANDS} will not work",
            f"For whoever runs these commands, add:\n{statement}",
        )
    if answer.error is not None:
        return refused_finding(check, answer.error)
    stored = {name.lower(): value for name, value in answer.body.get("Metadata", {}).items()}
    missing = sorted(name for name, value in metadata.items() if stored.get(name.lower()) != value)
    if answer.body["Body"] != body:
        return wrong(
            check,
            f"the object came back changed: {len(body)} bytes written, {len(answer.body['Body'])} other bytes read",
            "Something between here and S3 (a proxy, a gateway) changes objects. Go round it with "
            "STREAMS_S3_ENDPOINT_URL.",
        )
    if missing:
        return wrong(
            check,
            f"the bytes are right, but metadata is lost: {', '.join(missing)}",
            "This server does not keep metadata: set STREAMS_BODY=envelope, which needs none.",
        )
    return ok(check, "allowed; bytes and metadata are what was written")


def topic_identity_finding(answer: Answer, pattern: str, statement: str) -> Finding:
    """A GET of an object that is named like those that say which topic the bucket holds."""
    if answer.denied:
        return warning(
            IDENTITY_CHECK,
            f"denied ({answer.error}); events are archived all the same, but a topic that is deleted and recreated "
            "while no worker runs cannot be told from its predecessor, and overwrites its objects",
            f"Add to the worker's IAM policy:\n{statement}",
        )
    if answer.error is not None:
        return refused_finding(IDENTITY_CHECK, answer.error)
    return ok(IDENTITY_CHECK, f"allowed: the worker can read {pattern}")


def encryption_finding(settings: Settings, answer: Answer) -> Finding:
    """How the canary is encrypted."""
    check = "s3 encryption"
    if answer.error is not None:
        return unchecked(check, f"the object's headers cannot be read ({answer.error})")
    algorithm = answer.headers.get("x-amz-server-side-encryption", "")
    key = answer.headers.get("x-amz-server-side-encryption-aws-kms-key-id", "")
    wanted, wanted_key = settings.s3_sse, settings.s3_sse_kms_key_id
    facts = f"{algorithm}{f' with key {key}' if key else ''}" if algorithm else "the server does not say"
    if wanted is not None and algorithm != wanted:
        return warning(
            check,
            f"STREAMS_S3_SSE={wanted} was asked for, but S3 says: {algorithm or 'nothing'}",
            "This server ignores server-side encryption as it is asked for: have it encrypt by its own configuration "
            "and leave STREAMS_S3_SSE out.",
        )
    if wanted_key is not None and key and wanted_key.rpartition("/")[2] != key.rpartition("/")[2]:
        return _other_key(check, wanted_key, key)
    if algorithm == "aws:kms" and answer.headers.get("x-amz-server-side-encryption-bucket-key-enabled") != "true":
        return warning(
            check,
            f"{facts}, without a bucket key: S3 sends KMS a request for each object, which KMS bills and limits",
            "Set STREAMS_S3_BUCKET_KEY_ENABLED=true, or turn the bucket key on in the bucket's default encryption "
            "(docs/costs.md).",
        )
    return ok(check, facts if wanted or not algorithm else f"{facts} (the bucket's own)")


def _other_key(check: str, wanted: str, key: str) -> Finding:
    if "alias/" in wanted:
        return ok(check, f"aws:kms with key {key} ({wanted})")
    return warning(
        check, f"encrypted with key {key}, not {wanted}", "Correct STREAMS_S3_SSE_KMS_KEY_ID, or the bucket's policy."
    )


def conditional_finding(answer: Answer) -> Finding:
    """A PUT with If-None-Match on an object that exists, which S3 answers 412."""
    check = "s3 conditional PUT"
    if answer.status == 412:
        return ok(check, "refused to overwrite, as asked (412)")
    if answer.error is None:
        return warning(
            check,
            "this server ignores If-None-Match and overwrites",
            "Nothing to do for the worker, which does not need it; do not rely on it in other programs.",
        )
    return unchecked(check, f"it was answered {answer.status} {answer.code} (the worker does not need it)")


def delete_finding(refusals: Mapping[str, Answer], settings: Settings, statement: str) -> Finding:
    """What became of the canaries."""
    check = "s3 DELETE"
    if not refusals:
        return ok(check, "allowed; nothing is left of the canaries")
    left = ", ".join(f"s3://{settings.s3_bucket}/{key}" for key in refusals)
    first = next(iter(refusals.values()))
    facts = f"{'denied' if first.denied else 'failed'} ({first.error}); the worker goes without"
    if settings.sink != "s3":  # no command deletes anything beside a queue
        return warning(check, f"{facts}. Left over: {left}", "Delete what is left over.")
    return warning(
        check,
        f"{facts}, but redrive cannot take dead letters away. Left over: {left}",
        f"Delete what is left over. For whoever runs redrive, add:\n{statement}",
    )


def latency_finding(median_seconds: float, count: int, max_in_flight: int) -> Finding:
    """What a PUT costs here, and what that means for writes in flight (Little's law)."""
    check = "s3 latency"
    needed = max(1, ceil(PUTS_PER_SECOND * median_seconds))
    facts = (
        f"a PUT takes {median_seconds * 1000:,.1f} ms (median of {count}); {PUTS_PER_SECOND:,} a second, S3's rate per "
        f"prefix, need {needed:,} in flight"
    )
    if needed <= max_in_flight:
        return ok(check, f"{facts}; STREAMS_MAX_IN_FLIGHT={max_in_flight}")
    if needed > MOST_IN_FLIGHT:
        return warning(check, facts, "Run the worker nearer to the bucket (same region), or run more workers.")
    allowed = max_in_flight / median_seconds
    return warning(
        check,
        f"{facts}, but STREAMS_MAX_IN_FLIGHT={max_in_flight} allows about {allowed:,.0f} a second",
        f"If you need that rate from one worker, set STREAMS_MAX_IN_FLIGHT={needed}.",
    )


def owner_finding(answer: Answer, account: str, iam: IamStatements) -> Finding:
    """Whether the bucket belongs to the caller's account; `answer` is to a HeadBucket that expects that owner."""
    check = "s3 owner"
    if answer.error is None:
        return ok(check, f"the bucket belongs to the caller's account, {account}")
    if answer.status == 403:
        return warning(
            check,
            f"the bucket does not belong to the caller's account {account}, or s3:ListBucket is missing",
            "If the bucket is meant to be another account's, all is well; else correct STREAMS_S3_BUCKET: names are "
            f"shared by all accounts. To have this told for certain:\n{iam.bucket('s3:ListBucket')}",
        )
    return unchecked(check, f"it was answered {answer.status} {answer.code}")


def versioning_finding(answer: Answer, iam: IamStatements) -> Finding:
    """Whether overwritten and deleted objects are kept."""
    check = "s3 versioning"
    if answer.error is not None:
        return _configuration_unread(check, answer, iam.bucket("s3:GetBucketVersioning"))
    status = answer.body.get("Status", "")
    if status == "Enabled":
        return ok(
            check, "enabled: overwritten objects (redelivered events) stay as old versions until a rule ends them"
        )
    return ok(check, status.lower() or "off")


def lifecycle_finding(answer: Answer, iam: IamStatements) -> Finding:
    """Rules that take objects away or move them."""
    check = "s3 lifecycle"
    if answer.code == "NoSuchLifecycleConfiguration":
        return ok(check, "no rules: objects stay")
    if answer.error is not None:
        return _configuration_unread(check, answer, iam.bucket("s3:GetLifecycleConfiguration"))
    rules = [text for rule in answer.body.get("Rules", ()) if (text := _rule(rule))]
    if not rules:
        return ok(check, "no rule takes objects away")
    more = f" and {len(rules) - _RULES_SHOWN} more" if len(rules) > _RULES_SHOWN else ""
    return ok(check, "; ".join(rules[:_RULES_SHOWN]) + more)


def _rule(rule: Mapping[str, Any]) -> str:
    """A rule in words, empty where it does nothing to current objects or is off."""
    if rule.get("Status") != "Enabled":
        return ""
    scope = rule.get("Filter", {})
    prefix = scope.get("Prefix") or scope.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
    expiration = rule.get("Expiration", {})
    acts = [
        f"deletes after {expiration['Days']} days" if "Days" in expiration else "",
        f"deletes on {_day(expiration['Date'])}" if "Date" in expiration else "",
        *(f"moves to {one['StorageClass']} after {one.get('Days', '?')} days" for one in rule.get("Transitions", ())),
    ]
    done = ", ".join(act for act in acts if act)
    return f"{prefix}* {done}" if done else ""


def _day(date: datetime) -> str:
    return f"{date:%Y-%m-%d}"


def _configuration_unread(check: str, answer: Answer, statement: str) -> Finding:
    if answer.denied:
        return unchecked(check, "reading it is denied (optional)", f"To see it, add:\n{statement}")
    return unchecked(check, f"the server does not tell ({answer.status} {answer.code})")
