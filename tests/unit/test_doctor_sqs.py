"""What `doctor` makes of SQS's answers, and the remedies for a queue."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from streams.doctor.findings import Finding, Status
from streams.doctor.remedies import Prefixes, SqsStatements
from streams.errors import RecordRejectedError, SinkUnavailableError, StreamsError
from streams.settings import Settings
from streams.sinks.doctor_signing import clock_finding
from streams.sinks.sqs_client import SqsAddress, SqsReply
from streams.sinks.sqs_doctor_findings import (
    attribute_findings,
    latency_finding,
    probe_finding,
    queue_finding,
    sent_finding,
)
from streams.sinks.sqs_errors import SqsAnswer, classify_sqs

URL = "https://sqs.eu-central-1.amazonaws.com/111122223333/orders"
ARN = "arn:aws:sqs:eu-central-1:111122223333:orders"
ADDRESS = SqsAddress("eu-central-1", "https://sqs.eu-central-1.amazonaws.com")
MIB = 1024**2
HEALTHY = {
    "QueueArn": ARN,
    "ApproximateNumberOfMessages": "12",
    "MaximumMessageSize": str(MIB),
    "MessageRetentionPeriod": "345600",
    "SqsManagedSseEnabled": "true",
    "RedrivePolicy": '{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:111122223333:dead","maxReceiveCount":"5"}',
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


def make_settings(**fields: Any) -> Settings:
    required = {
        "kafka_bootstrap_servers": "broker:9092",
        "topics": "orders",
        "consumer_group": "orders-to-sqs",
        "sink": "sqs",
        "sqs_queue_url": URL,
        "on_reject": "hold",
    }
    return Settings(**{**required, **fields})


def refused(code: str, message: str = "what SQS says", status: int = 400) -> SqsReply:
    return SqsReply({}, {}, classify_sqs(SqsAnswer(status, code, message)), code)


def iam(url: str = URL) -> SqsStatements:
    return SqsStatements(url, "eu-central-1")


def found(reply: SqsReply) -> tuple[Finding, bool]:
    return queue_finding("queue", "events", ADDRESS, reply, iam())


def by_check(attributes: dict[str, str], limit_bytes: int = MIB, **fields: Any) -> dict[str, Finding]:
    findings = attribute_findings("q", attributes, limit_bytes, make_settings(**fields), iam())
    return {one.check.removeprefix("q: "): one for one in findings}


def allowed(finding: Finding) -> list[dict[str, Any]]:
    """The statements of the policy in a remedy."""
    statements: list[dict[str, Any]] = json.loads(finding.remedy[finding.remedy.index("{") :])["Statement"]
    return statements


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_a_queue_that_is_there() -> None:
    """Its kind, where it is, and how much waits in it."""
    finding, usable = found(SqsReply({"Attributes": HEALTHY}, {}))
    assert (Status.OK, True) == (finding.status, usable)
    assert "a standard queue at https://sqs.eu-central-1.amazonaws.com, region eu-central-1" in finding.finding
    assert "about 12 messages wait" in finding.finding


def test_a_queue_that_holds_messages_back_says_so() -> None:
    """A delay is easily taken for a worker that is slow."""
    finding, _ = found(SqsReply({"Attributes": {**HEALTHY, "DelaySeconds": "90"}}, {}))
    assert "held back for 90 s" in finding.finding


def test_a_missing_queue_is_made_with_one_command() -> None:
    """A FIFO queue as such."""
    reply = refused("AWS.SimpleQueueService.NonExistentQueue")
    finding, usable = found(reply)
    assert (Status.WRONG, False) == (finding.status, usable)
    assert "aws sqs create-queue --queue-name orders --region eu-central-1" in finding.remedy
    fifo, _ = queue_finding("queue", "events", ADDRESS, reply, iam(URL + ".fifo"))
    assert "--queue-name orders.fifo --region eu-central-1 --attributes FifoQueue=true" in fifo.remedy


def test_attributes_that_may_not_be_read_do_no_harm() -> None:
    """The worker needs no more than SendMessage; the right to look is named."""
    finding, usable = found(refused("AccessDenied", "not authorized to perform: sqs:getqueueattributes", 403))
    assert (Status.UNCHECKED, True) == (finding.status, usable)
    assert [
        {"Sid": "StreamsDescribe", "Effect": "Allow", "Action": ["sqs:GetQueueAttributes"], "Resource": [ARN]}
    ] == allowed(finding)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused("SignatureDoesNotMatch", status=403), "AWS_SECRET_ACCESS_KEY"),
        (refused("InvalidClientTokenId", status=403), "AWS credentials"),
        (
            refused("SignatureDoesNotMatch", "Credential should be scoped to a valid region, not 'eu-west-1'.", 403),
            "STREAMS_SQS_REGION",
        ),
        (SqsReply({}, {}, SinkUnavailableError("connection", "no connection")), "STREAMS_SQS_ENDPOINT_URL"),
    ],
)
def test_what_makes_the_queue_unusable(reply: SqsReply, words: str) -> None:
    """Credentials that nobody knows, the wrong region, no way there: each with its own remedy."""
    finding, usable = found(reply)
    assert (Status.WRONG, False) == (finding.status, usable)
    assert words in finding.remedy


def test_a_queue_of_another_region() -> None:
    """The ARN tells it, where an endpoint does not mind."""
    attributes = {**HEALTHY, "QueueArn": ARN.replace("eu-central-1", "us-east-1")}
    finding, usable = found(SqsReply({"Attributes": attributes}, {}))
    assert (Status.WRONG, False) == (finding.status, usable)
    assert "STREAMS_SQS_REGION=us-east-1" in finding.remedy


# -- its attributes ----------------------------------------------------------------------------------------------------


def test_a_healthy_queue_has_nothing_to_mend() -> None:
    """Every attribute has a line of its own."""
    findings = by_check(HEALTHY)
    assert ["size limit", "retention", "redrive", "encryption"] == list(findings)
    assert {Status.OK} == {one.status for one in findings.values()}
    assert "received 5 times" in findings["redrive"].finding
    assert "4 days" in findings["retention"].finding


def test_attributes_that_are_not_told_are_not_guessed() -> None:
    """Other servers leave most of them out; where nothing may be read there are no lines at all."""
    statuses = {name: one.status for name, one in by_check({"QueueArn": ARN}).items()}
    expected = dict.fromkeys(("size limit", "retention", "encryption"), Status.UNCHECKED) | {"redrive": Status.OK}
    assert expected == statuses
    assert {} == by_check({})


def test_a_size_limit_below_the_workers_is_warned_about() -> None:
    """As a queue from before 2025 has it: 256 KiB. Either side can be changed."""
    finding = by_check({**HEALTHY, "MaximumMessageSize": "262144"})["size limit"]
    assert Status.WARNING == finding.status
    assert "262,144 bytes, below the 1,048,576" in finding.finding
    assert f"--queue-url {URL} --region eu-central-1 --attributes MaximumMessageSize=1048576" in finding.remedy
    assert "STREAMS_SQS_MAX_MESSAGE_BYTES=262144" in finding.remedy
    assert Status.OK == by_check({**HEALTHY, "MaximumMessageSize": "262144"}, 262144)["size limit"].status


def test_a_short_retention_is_warned_about() -> None:
    """Below a day SQS may delete events before anybody has woken up."""
    finding = by_check({**HEALTHY, "MessageRetentionPeriod": "3600"})["retention"]
    assert Status.WARNING == finding.status
    assert "MessageRetentionPeriod=345600" in finding.remedy


def test_fifo_flags() -> None:
    """What bounds the rate; deduplication by content does not matter, for the worker sends ids."""
    fifo = {**HEALTHY, "FifoQueue": "true", "ContentBasedDeduplication": "true"}
    finding = by_check(fifo, sqs_batch_events=5)["order"]
    assert Status.OK == finding.status
    assert "300 requests a second, which are 1,500 events" in finding.finding
    assert "by content: on, which does not matter" in finding.finding
    fast = by_check({**fifo, "FifoThroughputLimit": "perMessageGroupId"}, sqs_group_by="partition")["order"]
    assert "high throughput is on" in fast.finding
    assert "STREAMS_SQS_GROUP_BY=partition" in fast.finding


@pytest.mark.parametrize(
    ("attributes", "status", "words"),
    [
        ({"SqsManagedSseEnabled": "false"}, Status.WARNING, "not encrypted"),
        ({"KmsMasterKeyId": "alias/orders", "SqsManagedSseEnabled": "false"}, Status.OK, "alias/orders"),
    ],
)
def test_encryption(attributes: dict[str, str], status: Status, words: str) -> None:
    """A key of the user's own needs rights of its own."""
    finding = by_check({**HEALTHY, **attributes})["encryption"]
    assert status == finding.status
    assert words in finding.finding


def test_a_redrive_policy_that_is_no_json() -> None:
    """It is shown as it is."""
    assert Status.UNCHECKED == by_check({**HEALTHY, "RedrivePolicy": "{"})["redrive"].status


# -- sending -----------------------------------------------------------------------------------------------------------


def probe(reply: SqsReply, key: str = "") -> Finding:
    return probe_finding("q: SEND", reply, iam().send(key), iam().simulate(""))


def test_a_denied_probe_is_certain() -> None:
    """The statement allows sending to this queue and nothing else."""
    finding = probe(refused("AccessDenied", "not authorized to perform: sqs:sendmessage", 403))
    assert Status.WRONG == finding.status
    assert [{"Sid": "StreamsSend", "Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": [ARN]}] == allowed(
        finding
    )


@pytest.mark.parametrize(
    "reply",
    [
        SqsReply({"Successful": []}, {}),
        refused("AWS.SimpleQueueService.EmptyBatchRequest"),
        refused("InvalidParameterValue"),
        SqsReply({}, {}, RecordRejectedError("invalid_request", "no"), "InvalidMessageContents"),
    ],
)
def test_a_probe_that_is_not_denied_proves_nothing(reply: SqsReply) -> None:
    """It says so, and how to be certain."""
    finding = probe(reply)
    assert Status.UNCHECKED == finding.status
    assert "does not prove the right to send" in finding.finding
    assert "doctor --send" in finding.remedy
    assert "aws iam simulate-principal-policy" in finding.remedy


def test_a_probe_that_gets_no_answer_is_wrong() -> None:
    """As the worker's own requests would."""
    assert Status.WRONG == probe(SqsReply({}, {}, SinkUnavailableError("timeout", "no answer"))).status


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (None, Status.OK, "kafka-position=streams-doctor/0/7 was sent and stays"),
        (classify_sqs(SqsAnswer(403, "AccessDenied", "no")), Status.WRONG, "access_denied"),
        (classify_sqs(SqsAnswer(400, "KmsAccessDenied", "no")), Status.WRONG, "kms"),
        (classify_sqs(SqsAnswer(403, "SignatureDoesNotMatch", "no")), Status.WRONG, "SignatureDoesNotMatch"),
    ],
)
def test_a_real_message(error: StreamsError | None, status: Status, words: str) -> None:
    """The proof, or the reason."""
    finding = sent_finding("q: SEND", "streams-doctor/0/7", error, iam().send("1234"))
    assert status == finding.status
    assert words in finding.finding


def test_a_queue_with_a_key_needs_rights_on_it() -> None:
    """By id, by alias; the key that AWS manages for SQS needs none."""
    by_id, by_alias = json.loads(iam().send("1234")), json.loads(iam().send("alias/orders"))
    assert {
        "Sid": "StreamsKey",
        "Effect": "Allow",
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": ["arn:aws:kms:eu-central-1:111122223333:key/1234"],
    } == by_id["Statement"][1]
    assert {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/orders"}} == by_alias["Statement"][1][
        "Condition"
    ]
    assert 1 == len(json.loads(iam().send("alias/aws/sqs"))["Statement"])


def test_asking_iam_names_the_role_of_a_session() -> None:
    """STS tells the session, IAM wants the role."""
    session = "arn:aws:sts::111122223333:assumed-role/streams/worker-1"
    assert "--policy-source-arn arn:aws:iam::111122223333:role/streams --action-names" in iam().simulate(session)
    assert "--policy-source-arn arn:aws:iam::111122223333:user/ops " in iam().simulate(
        "arn:aws:iam::111122223333:user/ops"
    )
    assert "--policy-source-arn ROLE_ARN " in iam().simulate("")


def test_other_parts_of_aws_have_other_arns() -> None:
    """China and GovCloud."""
    url = "https://sqs.cn-north-1.amazonaws.com.cn/111122223333/orders"
    assert "arn:aws-cn:sqs:cn-north-1:111122223333:orders" == SqsStatements(url, "cn-north-1").arn


# -- around it ---------------------------------------------------------------------------------------------------------


def test_latency_says_how_many_writes_in_flight_it_takes() -> None:
    """10,000 a second at 35 ms and 5 ms of lingering are 400 in flight; 200 of them half as many."""
    enough = latency_finding(0.035, 5, make_settings())
    assert Status.OK == enough.status
    assert "need 400 in flight; STREAMS_MAX_IN_FLIGHT=1000" in enough.finding
    few = latency_finding(0.035, 5, make_settings(max_in_flight=200))
    assert Status.WARNING == few.status
    assert "STREAMS_MAX_IN_FLIGHT=200 allows about 5,000 a second" in few.finding
    assert "STREAMS_MAX_IN_FLIGHT=400" in few.remedy


@pytest.mark.parametrize(("skew_seconds", "status"), [(1.0, Status.OK), (90.0, Status.WARNING), (-400.0, Status.WRONG)])
def test_sqs_minds_the_clock_sooner_than_s3(skew_seconds: float, status: Status) -> None:
    """Five minutes instead of fifteen."""
    finding = clock_finding(skew_seconds, "SQS")
    assert finding is not None
    assert ("sqs clock", status) == (finding.check, finding.status)


def test_no_ledger_prefix_is_tried_beside_a_queue() -> None:
    """None is kept there."""
    assert "" == Prefixes(make_settings(s3_bucket="overflow")).ledgers
