"""`docs/confluent-cloud.md`, followed to the letter on brokers that are set up as Confluent Cloud is.

Three brokers with TLS, SASL and ACLs; no topic can be made by a client, and none with fewer than three replicas.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AclBinding, AclOperation, AdminClient, NewTopic, ResourceType

from streams.doctor.examination import examine
from streams.doctor.findings import Finding, Status
from streams.settings import load_settings
from tests.conftest import require, show_on_failure
from tests.integration.conftest import StartWorker
from tests.services import confluent_page
from tests.services.archive import Archive, Content, next_offsets
from tests.services.install import KAFKA
from tests.services.kafka import PASSWORD
from tests.services.kafka_cluster import NODES, KafkaCluster
from tests.services.oauth import TokenServer
from tests.services.producer import EventProducer, Expected
from tests.services.s3 import REGION, S3Server
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

pytestmark = pytest.mark.kafka

PLAIN_KEY = "KEYFORPLAIN"
# With the page's ACLs by name; SCRAM is what all other tests here log in with.
MECHANISMS = ["PLAIN", "OAUTHBEARER"]
READER = {AclOperation.READ.name, AclOperation.DESCRIBE.name, AclOperation.DESCRIBE_CONFIGS.name}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """The cluster, shared by this file; a test that kills a broker starts it again."""
    require(KAFKA)
    if shutil.which("javac") is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("the brokers' policy class needs javac: install a JDK, version 17 or later")
    with KafkaCluster(tmp_path_factory.mktemp("cloud"), (PLAIN_KEY,)) as cluster:
        yield cluster


@dataclass(frozen=True)
class Account:
    """A service account with a key of its own, a topic and a group: the page's variables with this test's values."""

    cloud: KafkaCluster
    directory: Path
    values: Mapping[str, str]

    @property
    def key(self) -> str:
        return self.values["API_KEY"]

    @property
    def topic(self) -> str:
        return self.values["TOPIC"]

    def acls(self, block: str = "acls") -> list[AclBinding]:
        return confluent_page.acls(confluent_page.block(block), self.values)

    def settings(self) -> dict[str, str]:
        """Steps 6 and 7: the file, and the variables beside it."""
        confluent_page.run("client.properties", self.values, self.directory)
        settings = confluent_page.run("worker", self.values, self.directory)
        properties = self.directory / settings["STREAMS_KAFKA_CLIENT_PROPERTIES"]
        assert 0o600 == properties.stat().st_mode & 0o777
        return {**settings, "STREAMS_KAFKA_CLIENT_PROPERTIES": str(properties)}

    def scram_settings(self, key: str = "") -> dict[str, str]:
        """The login of a key that comes and goes, which PLAIN's users of a plain broker cannot."""
        return {
            **confluent_page.run("worker", self.values, self.directory),
            "STREAMS_KAFKA_CLIENT_PROPERTIES": "",
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": self.values["BOOTSTRAP"],
            "STREAMS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "STREAMS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "STREAMS_KAFKA_SASL_USERNAME": key or self.key,
            "STREAMS_KAFKA_SASL_PASSWORD": PASSWORD,
        }

    def oauth_settings(self, token_url: str) -> dict[str, str]:
        """The page's variables for a token; the secret is the reader's own."""
        values = {**self.values, "TOKEN_URL": token_url, "CLIENT_ID": self.key, "POOL": "pool-test"}
        return {
            **confluent_page.run("worker", self.values, self.directory),
            **confluent_page.run("oauth", values, self.directory),
            "STREAMS_KAFKA_CLIENT_PROPERTIES": "",
            "STREAMS_KAFKA_OAUTH_CLIENT_SECRET": PASSWORD,
        }

    def produce(self, count: int, topic: str = "") -> Expected:
        events: list[Content] = [(b"%d" % number, b'{"event": %d}' % number, ()) for number in range(count)]
        return EventProducer(self.cloud.addresses("PLAINTEXT")).produce(topic or self.topic, events)


@pytest.fixture
def account(cloud: KafkaCluster, group: str, bucket: str, tmp_path: Path, request: pytest.FixtureRequest) -> Account:
    """An account that may do nothing yet, and a topic of three partitions. Its key is SCRAM's unless the test says."""
    mark = uuid.uuid4().hex[:8]
    key = PLAIN_KEY if getattr(request, "param", "") == "PLAIN" else f"KEY{mark.upper()}"
    values = {
        "ENVIRONMENT": "env-test",
        "CLUSTER": "lkc-test",
        "TOPIC": f"cloud.{mark}.orders",
        "TOPIC_PREFIX": f"cloud.{mark}.",
        "GROUP": group,
        "ACCOUNT_NAME": "streams",
        "BUCKET": bucket,
        "AWS_REGION": REGION,
        "BOOTSTRAP": cloud.addresses("SASL_SSL"),
        "SERVICE_ACCOUNT": key,
        "API_KEY": key,
        "API_SECRET": PASSWORD,
    }
    cloud.create_topic(values["TOPIC"], 3)
    if key != PLAIN_KEY:
        cloud.create_key(key)
    return Account(cloud, tmp_path, values)


@pytest.fixture
def base_settings(cloud: KafkaCluster, s3_server: S3Server) -> dict[str, str]:
    """What is not Confluent Cloud's: the S3 server, and the authority of the test's brokers."""
    return {
        "STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url,
        "STREAMS_KAFKA_SSL_CA_FILE": str(cloud.certificates.ca_file),
        **s3_server.environment(),
    }


def assert_archived(account: Account, archive: Archive, expected: Expected, worker: WorkerProcess) -> None:
    """Every event is an object, and the group's commits say so."""
    group = account.values["GROUP"]

    def committed() -> dict[tuple[str, int], int]:
        return {tp: offset for tp, offset in account.cloud.any.committed_offsets(group).items() if offset}

    wait_until(
        lambda: committed() == next_offsets(expected), 40, lambda: f"committed: {committed()}\n{worker.log_tail()}"
    )
    archive.assert_complete(expected)


def assert_only_reads(account: Account, key: str = "") -> None:
    """The authorizers never had to say no, and were asked for nothing but the rights of a reader."""
    decisions = account.cloud.decisions(key or account.key)
    assert decisions, "the authorizers' log is empty"
    assert set() == {one for one in decisions if one[0] == "Denied"}
    assert {operation for _, operation, _ in decisions} <= READER


# -- the page ----------------------------------------------------------------------------------------------------------


def test_page_names_each_value_once() -> None:
    """Every variable of the page's commands is filled in by the reader at the top, or made by an earlier command."""
    known = set(confluent_page.variables()) | {"SERVICE_ACCOUNT", "BOOTSTRAP", "API_KEY", "API_SECRET"}
    values = dict.fromkeys(known, "value")
    for name in ("acls", "acls-prefix"):
        assert confluent_page.acls(confluent_page.block(name), values)
    text = confluent_page.PAGE.read_text()
    for name in confluent_page.variables():
        assert 1 == text.count(f"export {name}="), name


# -- the worker with exactly the page's rights -------------------------------------------------------------------------


@pytest.mark.parametrize(("account", "mechanism"), [(one, one) for one in MECHANISMS], indirect=["account"])
def test_archives_with_exactly_the_rights_of_the_page(
    mechanism: str, account: Account, cloud: KafkaCluster, start_worker: StartWorker, archive: Archive
) -> None:
    """Step by step: ACLs, client.properties, worker; nothing is denied to it, and it asks for no more than to read."""
    cloud.allow(account.acls())
    expected = account.produce(300)
    with TokenServer(client_id=account.key) as tokens:
        settings = account.settings() if mechanism == "PLAIN" else account.oauth_settings(tokens.url)
        worker = start_worker(settings["STREAMS_TOPICS"], settings)
        assert_archived(account, archive, expected, worker)
        assert_only_reads(account)
        # What the page's table of quotas says.
        assert len(connections(worker, cloud)) <= 4 * NODES
    # Not null: the topic's retention could be read.
    assert [False] * 3 == [one["at_risk"] for one in worker.stats()["partitions"]]


def connections(worker: WorkerProcess, cloud: KafkaCluster) -> list[int]:
    ports = {int(address.rpartition(":")[2]) for address in cloud.addresses("SASL_SSL").split(",")}
    open_now = psutil.Process(worker.pid).net_connections("tcp")
    return [one.raddr.port for one in open_now if one.raddr and one.raddr.port in ports]


def test_archives_topics_by_prefix(
    account: Account, cloud: KafkaCluster, start_worker: StartWorker, archive: Archive
) -> None:
    """Step 4b: prefixed ACLs and the page's pattern; topics of others are neither seen nor asked for."""
    cloud.allow(account.acls("acls-prefix"))
    second = account.values["TOPIC_PREFIX"] + "payments"
    cloud.create_topic(second)
    cloud.create_topic(account.topic.replace("cloud.", "other."))
    expected = account.produce(50) | account.produce(50, second)
    (line,) = [line for line in confluent_page.block("worker").splitlines() if "4b: " in line]
    settings = confluent_page.run_text(line.partition("4b: ")[2], account.values, account.directory)
    worker = start_worker(settings["STREAMS_TOPICS"], {**account.scram_settings(), **settings})
    assert_archived(account, archive, expected, worker)
    assert_only_reads(account)


# -- one right less ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    """A right of the page that is left out, and what is said about it."""

    operations: tuple[AclOperation, ...]
    resource: ResourceType
    check: str
    """What `doctor` blames first, `{topic}` and `{group}` filled in; empty: nothing."""
    status: Status = Status.WRONG
    message: str = ""
    """What the worker says before it leaves with code 2; empty: it works."""

    def left(self, account: Account) -> list[AclBinding]:
        return [
            acl for acl in account.acls() if not (acl.restype is self.resource and acl.operation in self.operations)
        ]


MISSING = {
    "topic": Missing(
        (AclOperation.READ, AclOperation.DESCRIBE),
        ResourceType.TOPIC,
        "kafka topic {topic}",
        message="Add an ACL that allows READ (and DESCRIBE) on them",
    ),
    "topic-read": Missing(
        (AclOperation.READ,),
        ResourceType.TOPIC,
        "kafka topic {topic}: READ",
        message="may not read the topic {topic} (STREAMS_TOPICS). Add an ACL that allows READ on it",
    ),
    "topic-describe": Missing((AclOperation.DESCRIBE,), ResourceType.TOPIC, ""),
    "topic-configuration": Missing(
        (AclOperation.DESCRIBE_CONFIGS,), ResourceType.TOPIC, "kafka topic {topic}: retention", Status.UNCHECKED
    ),
    "group": Missing(
        (AclOperation.READ,),
        ResourceType.GROUP,
        "kafka group {group}",
        message="may not use the consumer group {group} (STREAMS_CONSUMER_GROUP). Add an ACL that allows READ",
    ),
}


async def diagnose(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> list[Finding]:
    """What `doctor` finds about Kafka."""
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)
    for name, value in {**settings, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    return [one async for one in examine(load_settings(), 50) if one.check.startswith("kafka ")]


def blamed(findings: list[Finding], *statuses: Status) -> list[str]:
    """Nothing is archived here, so the bucket cannot say whose events it holds: that check is left out."""
    found = [one.check for one in findings if one.status in statuses]
    return [check for check in found if check != "kafka topics: identity"]


@pytest.mark.parametrize("name", MISSING)
async def test_missing_right_is_named_and_its_remedy_mends_it(
    name: str,
    account: Account,
    cloud: KafkaCluster,
    base_settings: Mapping[str, str],
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`doctor` blames exactly the right that is missing, the worker says what to do, and the pasted remedy mends it."""
    missing = MISSING[name]
    account.produce(3)
    cloud.allow(missing.left(account))
    settings = {**base_settings, **account.scram_settings()}
    words = {"topic": account.topic, "group": account.values["GROUP"]}
    findings = await diagnose(monkeypatch, settings)
    expected = [missing.check.format(**words)] if missing.check else []
    # The time to loss is unknown, too, where the retention is.
    found = [check for check in blamed(findings, missing.status) if check != "kafka time to loss"]
    assert expected == found, [str(one) for one in findings]
    if missing.message:
        worker = start_worker(account.topic, account.scram_settings(), wait=False)
        assert 2 == worker.wait(30), worker.log_tail()
        assert missing.message.format(**words) in worker.log()
    if expected:
        (finding,) = [one for one in findings if one.check == expected[0]]
        cloud.allow(confluent_page.acls(finding.remedy, {}))
        mended = await diagnose(monkeypatch, settings)
        assert [] == blamed(mended, Status.WRONG), [str(one) for one in mended]
        assert [] == blamed(mended, Status.UNCHECKED), [str(one) for one in mended]


# -- what the cluster refuses ------------------------------------------------------------------------------------------


def refusal(admin: AdminClient, topic: str, replicas: int) -> KafkaError:
    """Why a topic is not made."""
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(topic, 1, replicas)])[topic].result(30)
    error: KafkaError = refused.value.args[0]
    return error


def client(account: Account) -> dict[str, str | int | float | bool]:
    return {
        "bootstrap.servers": account.values["BOOTSTRAP"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": account.key,
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(account.cloud.certificates.ca_file),
    }


def test_cluster_refuses_what_confluent_cloud_refuses(account: Account, cloud: KafkaCluster) -> None:
    """The stand-in is one: no topic for the key, none without three replicas for anybody, none by being written to."""
    cloud.allow(account.acls())
    name = f"made-{uuid.uuid4().hex[:8]}"
    assert KafkaError.TOPIC_AUTHORIZATION_FAILED == refusal(AdminClient(client(account)), name, 3).code()
    # What the other tests look for in vain.
    assert "CREATE" in {operation for decision, operation, _ in cloud.decisions(account.key) if decision == "Denied"}
    assert KafkaError.POLICY_VIOLATION == refusal(cloud.any.admin, name, 1).code()
    failures: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": cloud.addresses("PLAINTEXT"), "message.timeout.ms": 2000})
    producer.produce(name, b"{}", on_delivery=lambda error, _: failures.append(error))
    producer.flush(10)
    assert [KafkaError._MSG_TIMED_OUT] == [one and one.code() for one in failures]
    assert name not in cloud.any.admin.list_topics(timeout=10).topics


def test_missing_topic_is_not_made(account: Account, cloud: KafkaCluster, start_worker: StartWorker) -> None:
    """A topic that is not there ends the worker with its name; it does not try to make it, whatever it may do."""
    absent = account.values["TOPIC_PREFIX"] + "absent"
    cloud.allow(account.acls("acls-prefix"))
    worker = start_worker(absent, {**account.scram_settings(), "STREAMS_TOPICS": absent}, wait=False)
    assert 2 == worker.wait(30), worker.log_tail()
    assert f"topics that do not exist (or that this user may not see): {absent}" in worker.log()
    assert_only_reads(account)
    assert absent not in cloud.any.admin.list_topics(timeout=10).topics


# -- a broker less, another key ----------------------------------------------------------------------------------------


@pytest.mark.fault
def test_losing_a_broker_loses_no_event(
    account: Account, cloud: KafkaCluster, start_worker: StartWorker, archive: Archive, request: pytest.FixtureRequest
) -> None:
    """kill -9 of a partition's leader while events are published and archived: two of three go on, all is archived."""
    cloud.allow(account.acls())
    worker = start_worker(account.topic, account.scram_settings())
    before_the_end = threading.Event()
    killed = threading.Event()

    def events() -> Iterator[Content]:
        for number in range(3000):
            if number == 1500:
                before_the_end.set()
            if number == 2000:
                killed.wait(30)
            yield b"%d" % number, b'{"event": %d}' % number, ()

    producer = EventProducer(cloud.addresses("PLAINTEXT"))
    with ThreadPoolExecutor(1) as publishing:
        published = publishing.submit(producer.produce, account.topic, events())
        assert before_the_end.wait(30)
        leader = cloud.leader(account.topic, 0)
        leader.kill()
        killed.set()
        try:
            expected = published.result(60)
            assert 3000 == len(expected)
            assert_archived(account, archive, expected, worker)
            assert NODES - 1 == cloud.in_sync(account.topic, 0)
        finally:
            show_on_failure(request, cloud.log_tail)
            leader.start()
    wait_until(lambda: cloud.in_sync(account.topic, 0) == NODES, 30, "the replica is not in sync again")
    assert_only_reads(account)


def test_rotated_key_needs_no_downtime(
    account: Account, cloud: KafkaCluster, start_worker: StartWorker, archive: Archive
) -> None:
    """A worker with the new key takes over from one with the old; the old key is deleted; no event is missed."""
    old, new = account.key, f"{account.key}NEW"
    cloud.allow(account.acls())
    cloud.create_key(new)
    cloud.allow(confluent_page.acls(confluent_page.block("acls"), {**account.values, "SERVICE_ACCOUNT": new}))
    first = start_worker(account.topic, account.scram_settings())
    expected = account.produce(100)
    second = start_worker(account.topic, account.scram_settings(new))
    expected |= account.produce(100)
    first.terminate()
    assert 0 == first.wait(40), first.log_tail()
    expected |= account.produce(100)
    cloud.delete_key(old)
    expected |= account.produce(100)
    assert_archived(account, archive, expected, second)
    assert_only_reads(account, new)
    forgotten = start_worker(account.topic, account.scram_settings(), wait=False)
    assert 2 == forgotten.wait(30), forgotten.log_tail()
    assert "wrong credentials: the broker refused the login" in forgotten.log()
