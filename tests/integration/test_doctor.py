"""`doctor` against real failures: each line has the right status, and its remedy names the exact thing."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AclOperation

from streams.doctor.examination import examine
from streams.doctor.findings import Finding, Status, Verdict
from streams.settings import load_settings
from tests.conformance.http_server import HttpServer
from tests.conformance.http_server import Reply as HttpReply
from tests.conftest import require
from tests.integration.conftest import RunCommand, StartCommand, StartWorker
from tests.integration.logins import sasl
from tests.services.install import KAFKA, S3
from tests.services.kafka import PASSWORD, STRANGER, KafkaBroker
from tests.services.oauth import TokenServer
from tests.services.ports import free_port
from tests.services.producer import EventProducer
from tests.services.s3 import SECRET_KEY, S3Server
from tests.services.s3_faults import ACCESS_DENIED, Hang, Reply, S3Request, always, first_of, matching
from tests.services.s3_proxy import S3FaultProxy
from tests.services.s3_users import USER_SECRET_KEY, S3ServerWithUsers
from tests.services.waiting import wait_until

DAY_MS = 24 * 3600 * 1000


class Report:
    """Findings by their check."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def __getitem__(self, check: str) -> Finding:
        found = [one for one in self.findings if one.check == check]
        assert 1 == len(found), f"{check}: {self}"
        return found[0]

    def about(self, *statuses: Status) -> list[str]:
        """The checks with these statuses."""
        return [one.check for one in self.findings if one.status in statuses]

    @property
    def wrong(self) -> list[str]:
        return self.about(Status.WRONG)

    def __str__(self) -> str:
        return "\n".join(str(one) for one in self.findings)


class Diagnose:
    """Runs `examine` with settings in the environment, as the command does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, base: Mapping[str, str]) -> None:
        self._monkeypatch = monkeypatch
        self._base = base

    async def __call__(self, *changes: Mapping[str, str], limit_seconds: float = 50) -> Report:
        for name in list(os.environ):
            if name.startswith(("STREAMS_", "AWS_")):
                self._monkeypatch.delenv(name)
        environment = {**self._base, "AWS_EC2_METADATA_DISABLED": "true"}
        for change in changes:
            environment |= change
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        return Report([one async for one in examine(load_settings(), limit_seconds)])


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch, base_settings: Mapping[str, str], topic: str, tmp_path: Path) -> Diagnose:
    """Of a topic with events, a bucket and a group that nobody has used."""
    own = {
        "STREAMS_TOPICS": topic,
        "STREAMS_S3_PREFIX": "events/",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
    }
    return Diagnose(monkeypatch, {**base_settings, **own})


@pytest.fixture
def topic(broker: KafkaBroker) -> str:
    """A topic of two partitions with a few events."""
    return make_topic(broker)


@pytest.fixture
def secured_topic(secure_broker: KafkaBroker) -> str:
    """The same on the secure broker."""
    return make_topic(secure_broker)


def make_topic(broker: KafkaBroker, config: Mapping[str, str] | None = None) -> str:
    name = f"doctor-{uuid.uuid4().hex[:12]}"
    broker.create_topic(name, 2, config)
    EventProducer(broker.bootstrap_servers).produce(name, [b"a", b"b", b"c"], partition=0)
    return name


def as_bob(broker: KafkaBroker, topic: str) -> dict[str, str]:
    """A login that may do only what `grant` has said, and nothing of another test's topic."""
    return sasl(broker, "SCRAM-SHA-256", user=STRANGER) | {"STREAMS_TOPICS": topic}


# -- everything is well ------------------------------------------------------------------------------------------------


async def test_healthy_secure_setup_has_nothing_to_mend(
    diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str, s3_server: S3Server, bucket: str, group: str
) -> None:
    """Only the test certificate's two days are warned about, TLS and login are shown, and no canary is left."""
    report = await diagnose(sasl(secure_broker, "SCRAM-SHA-512"), {"STREAMS_TOPICS": secured_topic})
    address = secure_broker.address("SASL_SSL")
    assert not report.wrong, str(report)
    assert [f"kafka certificate {address}"] == report.about(Status.WARNING), str(report)
    unchecked = ["s3 identity", "s3 owner", "s3 lifecycle", "kafka topics: identity"]
    assert unchecked == report.about(Status.UNCHECKED), str(report)
    assert "TLSv1.3" in report[f"kafka broker {address}"].finding
    assert "SCRAM-SHA-512 as alice accepted" in report[f"kafka broker {address}"].finding
    assert "CN=localhost, issued by CN=streams tests" in report[f"kafka certificate {address}"].finding
    assert "2 partitions" in report[f"kafka topic {secured_topic}"].finding
    assert f"read {secured_topic}/0/0" in report[f"kafka topic {secured_topic}: READ"].finding
    assert "retention.ms=604800000" in report[f"kafka topic {secured_topic}: retention"].finding
    assert "3 events in 2 partitions" in report["kafka lag"].finding
    assert "3 events came in the last 24 h: 3 PUTs" in report["cost"].finding
    assert "at 1 bytes each (a sample)" in report["cost"].finding
    assert [] == s3_server.keys(bucket)
    assert Verdict(report.findings).healthy


async def test_oauth_login_is_shown_and_its_token_is_not(
    diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str
) -> None:
    """A token is got and accepted; neither it nor the secret it was got with is printed."""
    with TokenServer() as tokens:
        login = sasl(secure_broker, "OAUTHBEARER") | {
            "STREAMS_KAFKA_SASL_USERNAME": "",
            "STREAMS_KAFKA_SASL_PASSWORD": "",
            "STREAMS_KAFKA_OAUTH_TOKEN_URL": tokens.url,
            "STREAMS_KAFKA_OAUTH_CLIENT_ID": "alice",
            "STREAMS_KAFKA_OAUTH_CLIENT_SECRET": PASSWORD,
        }
        report = await diagnose(login, {"STREAMS_TOPICS": secured_topic})
    assert not report.wrong, str(report)
    assert "login by OAUTHBEARER as alice" in report[f"kafka broker {secure_broker.address('SASL_SSL')}"].finding
    assert "eyJ" not in str(report), "the beginning of a token"


async def test_live_group_is_described_and_not_disturbed(
    diagnose: Diagnose, broker: KafkaBroker, topic: str, group: str, start_worker: StartWorker
) -> None:
    """Beside a live worker: its membership is shown, its commits are seen, and no rebalance happens."""
    worker = start_worker(topic)
    wait_until(lambda: broker.committed_offsets(group).get((topic, 0)) == 3, 30, worker.log_tail)
    before = worker.stats()["totals"]["rebalances"]
    report = await diagnose()
    assert "1 member" in report[f"kafka group {group}"].finding, str(report)
    assert Status.OK == report[f"kafka group {group}: READ"].status
    assert report["kafka lag"].finding.startswith("0 events")
    assert "no event waits" in report["kafka time to loss"].finding
    assert before == worker.stats()["totals"]["rebalances"]
    assert 1 == broker.group_members(group)


def test_command_prints_json_and_exit_codes(run_command: RunCommand, topic: str) -> None:
    """0 and a list of findings when all is well; 1 when something is wrong."""
    well = run_command("doctor", "--json", topics=topic, check=0)
    document = json.loads(well.raw)
    assert {"check", "status", "finding", "remedy"} == set(document[0])
    assert "wrong" not in {one["status"] for one in document}
    ill = run_command("doctor", topics="no-such-topic", check=1)
    assert "✗ kafka topic no-such-topic: does not exist" in ill.stdout
    assert ill.stdout.rstrip().splitlines()[-1].startswith("1 thing to mend")
    assert "Traceback" not in ill.stderr


def test_command_ends_before_it_begins_when_settings_are_wrong(run_command: RunCommand, topic: str) -> None:
    """All wrong settings are listed, the exit code is 2."""
    settings = {"STREAMS_MAX_IN_FLIGHT": "many", "STREAMS_SINK": "tape"}
    finished = run_command("doctor", topics=topic, settings=settings, check=2)
    assert "STREAMS_MAX_IN_FLIGHT" in finished.stderr
    assert "STREAMS_SINK" in finished.stderr


def test_no_secret_is_printed(run_command: RunCommand, secure_broker: KafkaBroker, secured_topic: str) -> None:
    """Neither where everything is refused nor where a server repeats what it was sent."""
    settings = sasl(secure_broker, "PLAIN", password="canary-kafka-password") | {
        "AWS_ACCESS_KEY_ID": "AKIACANARY",
        "AWS_SECRET_ACCESS_KEY": "canary-aws-secret",
        "AWS_SESSION_TOKEN": "canary-aws-token",
    }
    for form in ((), ("--json",)):
        finished = run_command("doctor", *form, topics=secured_topic, settings=settings, check=1)
        for secret in ("canary-kafka-password", "canary-aws-secret", "canary-aws-token", SECRET_KEY):
            assert secret not in finished.stdout + finished.stderr


# -- Kafka -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_wrong_password(
    mechanism: str, diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str
) -> None:
    """The login's line names the settings; S3 is checked all the same."""
    report = await diagnose(sasl(secure_broker, mechanism, password="wrong"), {"STREAMS_TOPICS": secured_topic})
    line = report[f"kafka broker {secure_broker.address('SASL_SSL')}"]
    assert Status.WRONG == line.status
    assert "the broker refused the login" in line.finding
    assert "STREAMS_KAFKA_SASL_PASSWORD" in line.remedy
    assert [line.check] == report.wrong
    assert "no broker could be used" in report["kafka topics, group, lag"].finding
    assert Status.OK == report["s3 PUT events"].status


async def test_wrong_authority(diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str) -> None:
    """A broker whose certificate the CA file does not cover."""
    assert secure_broker.certificates is not None
    change = {
        "STREAMS_KAFKA_SSL_CA_FILE": str(secure_broker.certificates.other_ca_file),
        "STREAMS_TOPICS": secured_topic,
    }
    report = await diagnose(sasl(secure_broker, "PLAIN"), change)
    line = report[f"kafka broker {secure_broker.address('SASL_SSL')}"]
    assert Status.WRONG == line.status
    assert "not trusted" in line.finding
    assert f"STREAMS_KAFKA_SSL_CA_FILE (now {secure_broker.certificates.other_ca_file})" in line.remedy


async def test_one_of_two_servers_is_unreachable(diagnose: Diagnose, broker: KafkaBroker, topic: str) -> None:
    """Each bootstrap server has a line; the other one is enough for all further checks."""
    dead = f"127.0.0.1:{free_port()}"
    report = await diagnose({"STREAMS_KAFKA_BOOTSTRAP_SERVERS": f"{dead},{broker.bootstrap_servers}"})
    assert [f"kafka broker {dead}"] == report.wrong, str(report)
    assert "connection refused" in report[f"kafka broker {dead}"].finding
    assert Status.OK == report[f"kafka topic {topic}: READ"].status


async def test_plaintext_to_a_tls_port(diagnose: Diagnose, secure_broker: KafkaBroker) -> None:
    """The protocol's setting is named."""
    report = await diagnose({"STREAMS_KAFKA_BOOTSTRAP_SERVERS": secure_broker.address("SSL")})
    assert "STREAMS_KAFKA_SECURITY_PROTOCOL=PLAINTEXT" in (
        report[f"kafka broker {secure_broker.address('SSL')}"].remedy
    )


class MisadvertisingBroker(KafkaBroker):
    """Tells its clients an address where nobody listens."""

    def _properties(self) -> dict[str, str]:
        self.advertised = f"127.0.0.1:{free_port()}"
        return {**super()._properties(), "advertised.listeners": f"PLAINTEXT://{self.advertised}"}


async def test_advertised_listener_is_unreachable(diagnose: Diagnose, tmp_path: Path) -> None:
    """Bootstrapping works and nothing else would: the line names the address that the broker gives out."""
    require(KAFKA)
    broker = MisadvertisingBroker(tmp_path / "misadvertising")
    with broker:
        report = await diagnose({"STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers})
    line = report["kafka advertised listeners"]
    assert Status.WRONG == line.status
    assert f"broker 1 at {broker.advertised}: unreachable: connection refused" in line.finding
    assert "advertised.listeners" in line.remedy


async def test_missing_topic_acl(
    diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str, group: str
) -> None:
    """The ACL is there for pasting, for both command lines."""
    secure_broker.grant(STRANGER, group=group)
    report = await diagnose(as_bob(secure_broker, secured_topic))
    line = report[f"kafka topic {secured_topic}"]
    assert Status.WRONG == line.status
    assert (
        f"--add --allow-principal User:bob --operation Read --operation Describe --topic {secured_topic}" in line.remedy
    )
    assert (
        f"confluent kafka acl create --allow --principal User:bob --operations read,describe --topic {secured_topic}"
        in line.remedy
    )
    assert Status.OK == report[f"kafka group {group}: READ"].status
    assert [line.check] == report.wrong


async def test_topic_that_may_be_described_but_not_read(
    diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str, group: str
) -> None:
    """READ is really tried; DESCRIBE alone does not pass for it."""
    secure_broker.grant(STRANGER, group=group)
    secure_broker.grant(STRANGER, topic=secured_topic, operation=AclOperation.DESCRIBE)
    report = await diagnose(as_bob(secure_broker, secured_topic))
    line = report[f"kafka topic {secured_topic}: READ"]
    assert [line.check] == report.wrong, str(report)
    assert f"--operation Read --topic {secured_topic}" in line.remedy


@pytest.mark.parametrize("described", [False, True], ids=["nothing", "describe-only"])
async def test_missing_group_acl(
    described: bool, diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str, group: str
) -> None:
    """Also where the group may be looked at and not be joined."""
    secure_broker.grant(STRANGER, topic=secured_topic)
    if described:
        secure_broker.grant(STRANGER, group=group, operation=AclOperation.DESCRIBE)
    report = await diagnose(as_bob(secure_broker, secured_topic))
    check = f"kafka group {group}: READ" if described else f"kafka group {group}"
    assert [check] == report.wrong, str(report)
    assert f"--allow-principal User:bob --operation Read --group {group}" in report[check].remedy
    assert f"--principal User:bob --operations read --consumer-group {group}" in report[check].remedy


async def test_topic_configuration_may_not_be_read(
    diagnose: Diagnose, secure_broker: KafkaBroker, secured_topic: str, group: str
) -> None:
    """Nothing is wrong then; the optional ACL and the setting that replaces it are named, and the latter works."""
    secure_broker.grant(STRANGER, topic=secured_topic, group=group)
    report = await diagnose(as_bob(secure_broker, secured_topic))
    line = report[f"kafka topic {secured_topic}: retention"]
    assert Status.UNCHECKED == line.status
    assert f"--operation DescribeConfigs --topic {secured_topic}" in line.remedy
    assert f"--operations describe-configs --topic {secured_topic}" in line.remedy
    assert Status.UNCHECKED == report["kafka time to loss"].status
    assert not report.wrong
    told = await diagnose(as_bob(secure_broker, secured_topic), {"STREAMS_KAFKA_RETENTION_SECONDS": "604800"})
    assert "retention 7 days" in told["kafka time to loss"].finding


async def test_missing_topic(diagnose: Diagnose, topic: str) -> None:
    """Named, with what creates it; the topic beside it is checked."""
    report = await diagnose({"STREAMS_TOPICS": f"{topic},absent"})
    assert ["kafka topic absent"] == report.wrong
    assert "--create --topic absent" in report["kafka topic absent"].remedy
    assert Status.OK == report[f"kafka topic {topic}: READ"].status


async def test_pattern_that_matches_nothing(diagnose: Diagnose) -> None:
    """The line says what there is."""
    report = await diagnose({"STREAMS_TOPICS": "^nothing-like-it$"})
    assert ["kafka topics"] == report.wrong
    assert "matches no topic" in report["kafka topics"].finding


def commit(broker: KafkaBroker, group: str, topic: str, offset: int) -> None:
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])
    broker.admin.alter_consumer_group_offsets([request])[group].result(30)


async def test_events_that_retention_took(diagnose: Diagnose, broker: KafkaBroker, topic: str, group: str) -> None:
    """A commit below the log's start: how many are gone, and which."""
    commit(broker, group, topic, 1)
    cut = TopicPartition(topic, 0, 3)
    broker.admin.delete_records([cut])[cut].result(30)
    report = await diagnose()
    line = report["kafka lost to retention"]
    assert Status.WRONG == line.status
    assert f"2 events left Kafka before they were written: {topic}/0 offsets 1 to 2 (2)" in line.finding
    assert f"--entity-name {topic} --add-config retention.ms=" in line.remedy


@pytest.mark.parametrize(
    ("left_ms", "expected"), [(DAY_MS // 2, Status.WARNING), (DAY_MS // 48, Status.WRONG), (4 * DAY_MS, Status.OK)]
)
async def test_events_that_retention_will_take(
    left_ms: int, expected: Status, diagnose: Diagnose, broker: KafkaBroker, group: str
) -> None:
    """The event at the committed offset is read for its age: 12 hours left are a warning, half an hour is wrong."""
    topic = f"doctor-{uuid.uuid4().hex[:12]}"
    broker.create_topic(topic, 1, {"retention.ms": str(7 * DAY_MS)})
    now_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for timestamp_ms in (now_ms - 7 * DAY_MS + left_ms, now_ms):
        producer.produce(topic, b"{}", timestamp=timestamp_ms)
    producer.flush(30)
    report = await diagnose({"STREAMS_TOPICS": topic})
    line = report["kafka time to loss"]
    assert expected == line.status, str(report)
    assert f"{topic}/0: its oldest event that is not written, offset 0" in line.finding
    if expected is not Status.OK:
        assert f"--entity-name {topic} --add-config retention.ms=" in line.remedy


@pytest.mark.fault
async def test_broker_that_answers_nothing_costs_seconds(diagnose: Diagnose, own_broker: KafkaBroker) -> None:
    """A frozen broker accepts connections and says nothing: the check gives up, and S3 is checked meanwhile."""
    own_broker.freeze()
    began = time.monotonic()
    report = await diagnose({"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers})
    assert time.monotonic() - began < 30
    assert "no answer within 10 s" in report[f"kafka broker {own_broker.bootstrap_servers}"].finding
    assert Status.OK == report["s3 PUT events"].status


# -- S3 ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3ServerWithUsers]:
    """A server with an account that may do only what its bucket's policy says."""
    require(S3)
    server = S3ServerWithUsers(tmp_path_factory.mktemp("s3-users"))
    with server:
        yield server


class Limited:
    """A bucket of that server, and the settings for the account."""

    def __init__(self, server: S3ServerWithUsers) -> None:
        self.server = server
        self.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        server.create_bucket(self.bucket)
        self.arn = f"arn:aws:s3:::{self.bucket}"
        self.settings = {
            **server.user_environment(),
            "STREAMS_S3_ENDPOINT_URL": server.endpoint_url,
            "STREAMS_S3_BUCKET": self.bucket,
        }


@pytest.fixture
def limited(limited_server: S3ServerWithUsers) -> Limited:
    return Limited(limited_server)


def statements(finding: Finding) -> list[dict[str, object]]:
    """The statements of the policy in a remedy, which must be JSON as it stands."""
    text = finding.remedy[finding.remedy.index("{") :]
    found: list[dict[str, object]] = json.loads(text)["Statement"]
    return found


async def test_account_that_may_do_nothing(diagnose: Diagnose, limited: Limited) -> None:
    """Every denied PUT is wrong, with the statement for its prefix; nothing else is blamed."""
    report = await diagnose(limited.settings)
    assert ["s3 PUT events", "s3 PUT dead letters", "s3 PUT ledger"] == report.wrong, str(report)
    assert [
        {
            "Sid": "StreamsWrite",
            "Effect": "Allow",
            "Action": ["s3:PutObject"],
            "Resource": [f"{limited.arn}/events/*"],
        }
    ] == statements(report["s3 PUT events"])
    assert "topic.json may not be read" in report["kafka topics: identity"].finding
    assert USER_SECRET_KEY not in str(report)


async def test_policy_for_events_alone_would_lose_dead_letters(diagnose: Diagnose, limited: Limited) -> None:
    """PUT is tried under every prefix; what only commands need is a warning that names them."""
    limited.server.allow(limited.bucket, [(["s3:PutObject"], [f"{limited.arn}/events/*"])])
    report = await diagnose(limited.settings)
    assert ["s3 PUT dead letters", "s3 PUT ledger"] == report.wrong, str(report)
    assert [f"{limited.arn}/dead-letter/*"] == statements(report["s3 PUT dead letters"])[0]["Resource"]
    assert ["s3 LIST", "s3 GET", "s3 DELETE"] == report.about(Status.WARNING)
    assert "verify" in report["s3 LIST"].finding
    assert {"StringLike": {"s3:prefix": ["events/*", "dead-letter/*", "ledger/*"]}} == (
        statements(report["s3 LIST"])[0]["Condition"]
    )
    assert ["s3:GetObject"] == statements(report["s3 GET"])[0]["Action"]
    assert ["s3:DeleteObject"] == statements(report["s3 DELETE"])[0]["Action"]
    left = limited.server.keys(limited.bucket)
    assert 1 == len(left)
    assert f"s3://{limited.bucket}/{left[0]}" in report["s3 DELETE"].finding


async def test_what_is_left_is_named_even_where_events_cannot_be_written(diagnose: Diagnose, limited: Limited) -> None:
    """The other prefixes' canaries stay when DELETE is denied."""
    limited.server.allow(limited.bucket, [(["s3:PutObject"], [f"{limited.arn}/ledger/*"])])
    report = await diagnose(limited.settings)
    assert ["s3 PUT events", "s3 PUT dead letters"] == report.wrong, str(report)
    (left,) = limited.server.keys(limited.bucket)
    assert f"s3://{limited.bucket}/{left}" in report["s3 DELETE"].finding


async def test_pasting_the_remedies_mends_it(diagnose: Diagnose, limited: Limited) -> None:
    """The statements of a first run, allowed as they are, leave nothing wrong and nothing to warn of."""
    limited.server.allow(limited.bucket, [(["s3:PutObject"], [f"{limited.arn}/events/*"])])
    first = await diagnose(limited.settings)
    allowed: list[tuple[list[str], list[str]]] = [(["s3:PutObject"], [f"{limited.arn}/events/*"])]
    for finding in first.findings:
        if "{" in finding.remedy and finding.status in (Status.WRONG, Status.WARNING):
            allowed += [(one["Action"], one["Resource"]) for one in statements(finding)]  # type: ignore[misc] # from JSON
    limited.server.allow(limited.bucket, allowed)
    second = await diagnose(limited.settings)
    assert [] == second.about(Status.WRONG, Status.WARNING), str(second)


async def test_the_other_client_is_tried_where_it_is_configured(diagnose: Diagnose) -> None:
    """PUTs are the configured client's own."""
    report = await diagnose({"STREAMS_S3_CLIENT": "aiobotocore"})
    assert not report.wrong, str(report)
    assert "client aiobotocore" in report["settings"].finding


async def test_wrong_secret_key(diagnose: Diagnose, s3_server: S3Server, bucket: str) -> None:
    """A signature that does not match is told from a missing right."""
    report = await diagnose({"AWS_SECRET_ACCESS_KEY": "not-the-secret"})
    line = report[f"s3 bucket {bucket}"]
    assert [line.check] == report.wrong
    assert "SignatureDoesNotMatch" in line.finding
    assert "AWS_SECRET_ACCESS_KEY" in line.remedy
    assert "not-the-secret" not in str(report)


async def test_no_credentials(diagnose: Diagnose) -> None:
    """An empty chain."""
    report = await diagnose({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert ["s3 credentials"] == report.wrong
    assert "AWS_PROFILE" in report["s3 credentials"].remedy


async def test_storage_class_that_bills_small_objects_as_large_ones(diagnose: Diagnose) -> None:
    """By the size of the events that were read: one byte each."""
    report = await diagnose({"STREAMS_S3_STORAGE_CLASS": "STANDARD_IA"})
    line = report["s3 storage class STANDARD_IA"]
    assert Status.WARNING == line.status
    assert "These events have about 1 bytes: storage here costs 71,235 times STANDARD's" in line.finding
    assert "3 PUTs, $0.0001 a day" in report["cost"].finding


async def test_missing_bucket(diagnose: Diagnose) -> None:
    """Named with what creates it; no request is tried after that."""
    report = await diagnose({"STREAMS_S3_BUCKET": "no-such-bucket"})
    assert ["s3 bucket no-such-bucket"] == report.wrong
    assert "create-bucket --bucket no-such-bucket --region us-east-1" in report["s3 bucket no-such-bucket"].remedy
    assert Status.UNCHECKED == report["s3 requests"].status


async def test_wrong_region(diagnose: Diagnose, bucket: str) -> None:
    """The server's own refusal of a signature for another region."""
    report = await diagnose({"STREAMS_S3_REGION": "eu-west-1"})
    assert [f"s3 bucket {bucket}"] == report.wrong, str(report)
    assert "eu-west-1 is configured" in report[f"s3 bucket {bucket}"].finding
    assert "STREAMS_S3_REGION=us-east-1" in report[f"s3 bucket {bucket}"].remedy


async def test_redirect_to_another_region(diagnose: Diagnose, s3_proxy: S3FaultProxy, bucket: str) -> None:
    """What Amazon S3 answers for a bucket elsewhere: 301 and the region in a header."""
    s3_proxy.rule = always(Reply(301, "PermanentRedirect", headers={"x-amz-bucket-region": "ap-south-1"}), "HEAD")
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    assert "STREAMS_S3_REGION=ap-south-1" in report[f"s3 bucket {bucket}"].remedy


def dated(minutes: float, status: int = 200, code: str = "") -> Reply:
    """An answer of a server whose clock is that far ahead."""
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    return Reply(
        status, code, "The difference between the request time and the current time is too large.", {"Date": date}
    )


async def test_skewed_clock(diagnose: Diagnose, s3_proxy: S3FaultProxy) -> None:
    """Two minutes are a warning."""
    s3_proxy.rule = always(dated(2), "HEAD")
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    assert Status.WARNING == report["clock"].status
    assert "behind S3's" in report["clock"].finding


async def test_clock_that_s3_refuses(diagnose: Diagnose, s3_proxy: S3FaultProxy) -> None:
    """Twenty minutes are wrong: S3 answers RequestTimeTooSkewed, and the clock is blamed."""
    refusal = dated(-20, 403, "RequestTimeTooSkewed")
    s3_proxy.rule = lambda _: refusal
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    assert Status.WRONG == report["clock"].status
    assert "1,200 s ahead of S3's" in report["clock"].finding.replace("1,199", "1,200").replace("1,201", "1,200")
    assert "chronyc" in report["clock"].remedy
    assert "s3 PUT events" not in report.wrong


async def test_denied_key(diagnose: Diagnose, s3_proxy: S3FaultProxy) -> None:
    """A PUT that KMS refuses: the statement names the key and both actions."""
    denial = Reply(403, "AccessDenied", "User is not authorized to perform: kms:GenerateDataKey on the resource")
    s3_proxy.rule = always(denial)
    key = "arn:aws:kms:eu-central-1:111122223333:key/1234"
    settings = {
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_S3_SSE": "aws:kms",
        "STREAMS_S3_SSE_KMS_KEY_ID": key,
    }
    line = (await diagnose(settings))["s3 PUT events"]
    assert Status.WRONG == line.status
    assert [
        {"Sid": "StreamsKey", "Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": [key]}
    ] == statements(line)


async def test_failed_delete_says_what_is_left(
    diagnose: Diagnose, s3_proxy: S3FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    """All canaries that stay are named."""
    s3_proxy.rule = always(ACCESS_DENIED, "DELETE")
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    left = s3_server.keys(bucket)
    assert 3 == len(left)
    assert all(f"s3://{bucket}/{key}" in report["s3 DELETE"].finding for key in left)
    assert Status.WARNING == report["s3 DELETE"].status


async def test_canaries_are_removed_after_a_failure(
    diagnose: Diagnose, s3_proxy: S3FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    """Some canaries were written, then the first prefix fails: none is left."""
    s3_proxy.rule = matching("^events/", ACCESS_DENIED)
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    assert ["s3 PUT events"] == report.wrong, str(report)
    assert [] == s3_server.keys(bucket)


@pytest.mark.fault
async def test_hanging_s3_ends_in_time_and_leaves_nothing(
    diagnose: Diagnose, s3_proxy: S3FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    """A GET that never ends is cut off by the section's limit at the latest, and the canaries are taken away."""
    s3_proxy.rule = first_of(always(Hang(60), "GET"))
    began = time.monotonic()
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}, limit_seconds=5)
    assert time.monotonic() - began < 15
    assert "not done after 5 s" in report["s3"].finding
    assert [] == s3_server.keys(bucket)


@pytest.mark.fault
def test_stopped_command_leaves_no_canary(
    start_command: StartCommand, topic: str, s3_proxy: S3FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    """SIGTERM in the middle of a GET: exit code 143, and the bucket is as it was."""
    s3_proxy.rule = always(Hang(60), "GET")
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}
    command = start_command("doctor", topics=topic, settings=settings)
    wait_until(lambda: 3 == len(s3_server.keys(bucket)), 30, "no canaries")
    command.terminate()
    finished = command.wait(20)
    assert 143 == finished.code, finished.stderr
    assert [] == s3_server.keys(bucket)
    assert "Traceback" not in finished.stderr


class Overwritten(Reply):
    """A success, as a server that does not know If-None-Match gives it."""

    def response(self, request: S3Request) -> bytes:
        return b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n'


async def test_conditional_put_that_is_ignored(diagnose: Diagnose, s3_proxy: S3FaultProxy) -> None:
    """A server that overwrites is worth a warning, no more."""

    def rule(request: S3Request) -> Reply | None:
        return Overwritten(200, "") if request.method == "PUT" and "if-none-match" in request.headers else None

    s3_proxy.rule = rule
    report = await diagnose({"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    assert Status.WARNING == report["s3 conditional PUT"].status, str(report)
    assert not report.wrong


IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:sts::111122223333:assumed-role/streams/worker</Arn><UserId>AROA:worker</UserId>
<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""


async def test_identity_is_shown_where_an_sts_is_configured(diagnose: Diagnose) -> None:
    """The caller's ARN, and the bucket's owner compared with its account."""
    async with HttpServer(HttpReply(200, IDENTITY, {"Content-Type": "text/xml"})) as sts:
        report = await diagnose({"AWS_ENDPOINT_URL_STS": sts.url})
    assert "arn:aws:sts::111122223333:assumed-role/streams/worker" == report["s3 identity"].finding
    assert Status.UNCHECKED != report["s3 owner"].status
