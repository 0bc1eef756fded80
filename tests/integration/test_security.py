"""Every way to log in to Kafka, for real: the worker starts, archives and commits."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from tests.conftest import require
from tests.integration.conftest import StartWorker
from tests.integration.logins import Login, assert_log_keeps_secrets, listener, oauth, sasl
from tests.services.archive import Archive, next_offsets
from tests.services.certificates import CLIENT_KEY_PASSWORD, make_certificates
from tests.services.install import KAFKA
from tests.services.kafka import PASSWORD, SUPERUSER, KafkaBroker
from tests.services.oauth import TokenServer
from tests.services.producer import EventProducer
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

AssertArchives = Callable[[Mapping[str, str]], WorkerProcess]

CLIENTS = 8
"""Consumer, admin, group offsets, and what the checks before the start need."""
PASSWORD_MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@pytest.fixture
def own_secure_broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """One whose passwords and certificates a test may change."""
    require(KAFKA)
    with KafkaBroker(tmp_path / "kafka", secure=True) as broker:
        broker.create_topic("events")
        yield broker


@pytest.fixture
def assert_archives(
    secure_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> AssertArchives:
    """A worker with this login archives a few events and commits them, and its log gives nothing away."""

    def check(login: Mapping[str, str]) -> WorkerProcess:
        topic = f"secured-{uuid.uuid4().hex[:12]}"
        secure_broker.create_topic(topic, 2)
        producer = EventProducer(secure_broker.bootstrap_servers)
        expected = producer.produce(topic, [b"{}", b"[]", b"0"], partition=0)
        expected |= producer.produce(topic, [b"left", b"right"], partition=1)
        worker = start_worker(topic, {**login, "STREAMS_LOG_LEVEL": "debug"})
        wait_until(
            lambda: secure_broker.committed_offsets(group) == next_offsets(expected),
            30,
            lambda: f"committed: {secure_broker.committed_offsets(group)}\n{worker.log_tail()}",
        )
        archive.assert_complete(expected)
        assert_log_keeps_secrets(worker)
        return worker

    return check


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS)
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_archives_over_sasl(
    protocol: str, mechanism: str, secure_broker: KafkaBroker, assert_archives: AssertArchives
) -> None:
    """A name and a password, with and without TLS below."""
    assert_archives(sasl(secure_broker, mechanism, protocol))


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_archives_over_oauth(protocol: str, secure_broker: KafkaBroker, assert_archives: AssertArchives) -> None:
    """Client credentials are exchanged for a token, once for each client of librdkafka's in the process."""
    with TokenServer() as tokens:
        extras = {"STREAMS_KAFKA_OAUTH_SCOPE": "kafka.read", "STREAMS_KAFKA_OAUTH_EXTENSIONS": "logicalCluster=lkc-1"}
        assert_archives(oauth(secure_broker, tokens.url, protocol) | extras)
        assert {"grant_type": "client_credentials", "scope": "kafka.read"} == tokens.requests[0]
        assert [] == [form for form in tokens.requests if form != tokens.requests[0]]
        assert len(tokens.requests) <= CLIENTS


def test_archives_over_tls(secure_broker: KafkaBroker, assert_archives: AssertArchives) -> None:
    """TLS alone: the broker proves who it is, the worker does not."""
    assert_archives(listener(secure_broker, "SSL"))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain-key", "encrypted-key"])
def test_archives_over_mutual_tls(encrypted: bool, secure_broker: KafkaBroker, assert_archives: AssertArchives) -> None:
    """The worker shows a certificate of its own; its key may be encrypted."""
    certificates = secure_broker.certificates
    assert certificates is not None
    login = listener(secure_broker, "SSL") | {
        "STREAMS_KAFKA_SSL_CERT_FILE": str(certificates.client_cert_file),
        "STREAMS_KAFKA_SSL_KEY_FILE": str(certificates.client_key_file),
    }
    if encrypted:
        login["STREAMS_KAFKA_SSL_KEY_FILE"] = str(certificates.client_key_encrypted_file)
        login["STREAMS_KAFKA_SSL_KEY_PASSWORD"] = CLIENT_KEY_PASSWORD
    assert_archives(login)


def test_broker_refuses_certificate_of_another_authority(
    secure_broker: KafkaBroker, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The client certificate is really shown (the broker lets in who shows none), and the message names its setting."""
    other = tmp_path / "other"
    other.mkdir()
    certificates = make_certificates(other, SUPERUSER)
    topic = f"secured-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(topic)
    login: Login = listener(secure_broker, "SSL") | {
        "STREAMS_KAFKA_SSL_CERT_FILE": str(certificates.client_cert_file),
        "STREAMS_KAFKA_SSL_KEY_FILE": str(certificates.client_key_file),
    }
    worker = start_worker(topic, login, wait=False)
    assert 2 == worker.wait(20), worker.log_tail()
    assert "STREAMS_KAFKA_SSL_CERT_FILE" in worker.log()
    assert "Traceback" not in worker.log()


def test_archives_with_confluents_client_properties(
    secure_broker: KafkaBroker, assert_archives: AssertArchives, tmp_path: Path
) -> None:
    """The file that Confluent Cloud hands out is all that the worker needs to log in."""
    assert secure_broker.certificates is not None
    properties = tmp_path / "client.properties"
    properties.write_text(
        "# Required connection configs for Kafka producer, consumer, and admin\n"
        f"bootstrap.servers={secure_broker.address('SASL_SSL')}\n"
        "security.protocol=SASL_SSL\n"
        "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required "
        f"username='{SUPERUSER}' password='{PASSWORD}';\n"
        "sasl.mechanism=PLAIN\n"
        "# Required for correctness in Apache Kafka clients prior to 2.6\n"
        "client.dns.lookup=use_all_dns_ips\n"
        "\n"
        "# Best practice for higher availability in Apache Kafka clients prior to 3.0\n"
        "session.timeout.ms=45000\n"
        "\n"
        "# Best practice for Kafka producer to prevent data loss\n"
        "acks=all\n"
        "client.id=ccloud-java-client-0a1b2c3d\n"
    )
    assert_archives(
        {
            "STREAMS_KAFKA_CLIENT_PROPERTIES": str(properties),
            # The file says where the brokers are; an empty variable counts as not set.
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS": "",
            "STREAMS_KAFKA_SSL_CA_FILE": str(secure_broker.certificates.ca_file),
        }
    )


# -- what changes while a worker runs ---------------------------------------------------------------------------------


def assert_refusal_is_told(worker: WorkerProcess, cause: str, remedy: str) -> None:
    """The condition, readiness and the log say why and what to do; liveness asks for a restart after a while."""

    def detail() -> str:
        return next((one["detail"] for one in worker.stats()["conditions"] if one["kind"] == "kafka_unreachable"), "")

    wait_until(lambda: cause in detail(), 40, lambda: f"{detail()}\n{worker.log_tail()}")
    code, body = worker.get("/health/ready")
    assert (503, True, True) == (code, cause in body, remedy in body), body
    assert f"a Kafka broker cannot be used: {cause}" in worker.log()
    wait_until(lambda: 503 == worker.get("/health/live")[0], 20, lambda: worker.get("/health/live")[1])
    assert "a restart reads secrets and certificates again" in worker.get("/health/live")[1]
    assert_log_keeps_secrets(worker)


def test_password_that_is_rotated_while_a_worker_runs(
    own_secure_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """It goes on with what it has until a broker asks again; then it says that a restart with the new one is due."""
    broker, produce = own_secure_broker, EventProducer(own_secure_broker.bootstrap_servers).produce
    expected = produce("events", [b"before"], partition=0)
    worker = start_worker("events", sasl(broker, "SCRAM-SHA-256"), app="tests.integration.apps.impatient_liveness")
    wait_until(lambda: broker.committed_offsets(group) == next_offsets(expected), 30, worker.log_tail)
    new = "the-new-password"
    change = UserScramCredentialUpsertion(
        SUPERUSER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), new.encode()
    )
    for done in broker.admin.alter_user_scram_credentials([change]).values():
        done.result(10)
    broker.restart()
    assert_refusal_is_told(worker, "wrong credentials: the broker refused the login", "Restart with the new one")
    expected |= EventProducer(broker.bootstrap_servers).produce("events", [b"after"], partition=0)
    worker.terminate()
    worker.wait(30)
    worker.settings["STREAMS_KAFKA_SASL_PASSWORD"] = new
    worker.start()
    wait_until(lambda: broker.committed_offsets(group) == next_offsets(expected), 60, worker.log_tail)
    archive.assert_complete(expected)


def test_brokers_with_certificates_of_another_authority_while_a_worker_runs(
    own_secure_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str, tmp_path: Path
) -> None:
    """The file of the authority is renewed on disk: only a restart reads it."""
    broker, produce = own_secure_broker, EventProducer(own_secure_broker.bootstrap_servers).produce
    certificates = broker.certificates
    assert certificates is not None
    expected = produce("events", [b"before"], partition=0)
    login = sasl(broker, "PLAIN")
    worker = start_worker("events", login, app="tests.integration.apps.impatient_liveness")
    wait_until(lambda: broker.committed_offsets(group) == next_offsets(expected), 30, worker.log_tail)
    (tmp_path / "new").mkdir()
    new = make_certificates(tmp_path / "new", SUPERUSER)
    broker.stop()
    certificates.broker_keystore_file.write_bytes(new.broker_keystore_file.read_bytes())
    broker.start()
    assert_refusal_is_told(worker, "its certificate is not trusted", "A restart reads the files again")
    expected |= EventProducer(broker.bootstrap_servers).produce("events", [b"after"], partition=0)
    certificates.ca_file.write_bytes(new.ca_file.read_bytes())
    worker.terminate()
    worker.wait(30)
    worker.start()
    wait_until(lambda: broker.committed_offsets(group) == next_offsets(expected), 60, worker.log_tail)
    archive.assert_complete(expected)
