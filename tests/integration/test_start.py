"""What cannot work ends at the start: exit code 2, one message that names the setting, no traceback, no secret."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import StartWorker
from tests.integration.logins import assert_log_keeps_secrets, listener, oauth, sasl
from tests.services.archive import Archive, next_offsets
from tests.services.certificates import Certificates, make_certificates
from tests.services.kafka import STRANGER, KafkaBroker
from tests.services.oauth import TokenServer
from tests.services.ports import free_port
from tests.services.waiting import wait_until

START_LIMIT_SECONDS = 20
EXIT_CONFIGURATION = 2
WRONG_PASSWORD = "not-the-password-of-anybody"

AssertRefused = Callable[..., str]
MakeSecureTopic = Callable[[], str]


@pytest.fixture
def assert_refused(start_worker: StartWorker) -> AssertRefused:
    """The worker ends in time with the exit code for configurations; returns the message, which has these words."""

    def check(topics: str, settings: Mapping[str, str], *words: str) -> str:
        worker = start_worker(topics, settings, wait=False)
        code = worker.wait(START_LIMIT_SECONDS)
        log = worker.log()
        assert (EXIT_CONFIGURATION, False) == (code, "Traceback" in log), log
        assert 1 == log.count("streams: cannot"), f"one message\n{log}"
        message = log.partition("streams: cannot")[2]
        assert [] == [word for word in words if word not in message], message
        assert_log_keeps_secrets(worker)
        return message

    return check


@pytest.fixture
def make_secure_topic(secure_broker: KafkaBroker) -> MakeSecureTopic:
    """Creates a topic of a new name on the secure broker."""

    def make() -> str:
        name = f"guarded-{uuid.uuid4().hex[:12]}"
        secure_broker.create_topic(name)
        return name

    return make


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class TestTopics:
    def test_missing_topic_is_named(self, make_topic: MakeTopic, assert_refused: AssertRefused) -> None:
        """Among several topics, the one that does not exist."""
        present, missing = make_topic(), f"missing-{uuid.uuid4().hex}"
        message = assert_refused(f"{present},{missing}", {}, "STREAMS_TOPICS", missing)
        assert present not in message

    def test_pattern_without_a_match_shows_what_there_is(
        self, make_topic: MakeTopic, assert_refused: AssertRefused
    ) -> None:
        """A pattern that matches nothing is a mistake, not an empty assignment."""
        make_topic()
        assert_refused(r"^no-topic-is-called-so\..*", {}, "STREAMS_TOPICS", "matches no topic", "This user sees: ")


class TestPermissions:
    """`bob` logs in and may do what he was granted."""

    def test_topic_without_any_permission(
        self, secure_broker: KafkaBroker, make_secure_topic: MakeSecureTopic, group: str, assert_refused: AssertRefused
    ) -> None:
        """Kafka hides a topic that a user may not describe; the message says so."""
        topic = make_secure_topic()
        secure_broker.grant(STRANGER, group=group)
        login = sasl(secure_broker, "PLAIN", user=STRANGER)
        assert_refused(topic, login, "STREAMS_TOPICS", topic, "READ")

    def test_topic_that_may_only_be_described(
        self, secure_broker: KafkaBroker, make_secure_topic: MakeSecureTopic, group: str, assert_refused: AssertRefused
    ) -> None:
        """The topic is seen, and the broker refuses the first fetch."""
        topic = make_secure_topic()
        secure_broker.grant(STRANGER, topic=topic, operation=AclOperation.DESCRIBE)
        secure_broker.grant(STRANGER, group=group)
        login = sasl(secure_broker, "PLAIN", user=STRANGER)
        assert_refused(topic, login, "STREAMS_TOPICS", topic, "READ")

    @pytest.mark.parametrize("operation", [None, AclOperation.DESCRIBE], ids=["none", "describe-only"])
    def test_group_that_may_not_be_read(
        self,
        operation: AclOperation | None,
        secure_broker: KafkaBroker,
        make_secure_topic: MakeSecureTopic,
        group: str,
        assert_refused: AssertRefused,
    ) -> None:
        """A user who may read the topic still cannot join a group that was not granted."""
        topic = make_secure_topic()
        secure_broker.grant(STRANGER, topic=topic)
        if operation is not None:
            secure_broker.grant(STRANGER, group=group, operation=operation)
        login = sasl(secure_broker, "PLAIN", user=STRANGER)
        assert_refused(topic, login, "STREAMS_CONSUMER_GROUP", group, "READ")

    def test_pattern_takes_only_what_may_be_seen(
        self, secure_broker: KafkaBroker, make_secure_topic: MakeSecureTopic, group: str, start_worker: StartWorker
    ) -> None:
        """Topics that were not granted do not exist for a pattern."""
        granted, hidden = make_secure_topic(), make_secure_topic()
        secure_broker.grant(STRANGER, topic=granted, group=group)
        worker = start_worker(f"^({granted}|{hidden})$", sasl(secure_broker, "PLAIN", user=STRANGER))
        wait_until(lambda: worker.stats()["partitions"], START_LIMIT_SECONDS, worker.log_tail)
        assert [granted] == [partition["topic"] for partition in worker.stats()["partitions"]]


class TestLogin:
    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    def test_wrong_password(self, mechanism: str, secure_broker: KafkaBroker, assert_refused: AssertRefused) -> None:
        """The broker refuses the login, whatever the mechanism."""
        login = sasl(secure_broker, mechanism, password=WRONG_PASSWORD)
        assert_refused("any", login, "wrong credentials", "STREAMS_KAFKA_SASL_USERNAME", "STREAMS_KAFKA_SASL_PASSWORD")

    def test_wrong_oauth_client(self, secure_broker: KafkaBroker, assert_refused: AssertRefused) -> None:
        """The token endpoint refuses."""
        with TokenServer() as tokens:
            login = oauth(secure_broker, tokens.url, client_secret=WRONG_PASSWORD)
            assert_refused("any", login, "invalid_client", "STREAMS_KAFKA_OAUTH_CLIENT_SECRET")

    def test_unreachable_token_endpoint(self, secure_broker: KafkaBroker, assert_refused: AssertRefused) -> None:
        """A token endpoint that is not there is told from a broker that is not there."""
        url = f"http://127.0.0.1:{free_port()}/token"
        assert_refused("any", oauth(secure_broker, url), "STREAMS_KAFKA_OAUTH_TOKEN_URL", url)

    def test_untrusted_broker(self, secure_broker: KafkaBroker, assert_refused: AssertRefused) -> None:
        """A broker whose certificate another authority has signed."""
        assert secure_broker.certificates is not None
        login = sasl(secure_broker, "PLAIN") | {
            "STREAMS_KAFKA_SSL_CA_FILE": str(secure_broker.certificates.other_ca_file)
        }
        assert_refused("any", login, "not trusted", "STREAMS_KAFKA_SSL_CA_FILE")

    @pytest.mark.parametrize(
        ("spoken", "actual"),
        [("PLAINTEXT", "SSL"), ("SASL_PLAINTEXT", "SASL_SSL"), ("SSL", "PLAINTEXT"), ("SASL_SSL", "SASL_PLAINTEXT")],
    )
    def test_other_protocol_than_the_listeners(
        self, spoken: str, actual: str, secure_broker: KafkaBroker, assert_refused: AssertRefused
    ) -> None:
        """TLS where there is none, and none where there is: the setting of the protocol is named."""
        login = sasl(secure_broker, "PLAIN", spoken) if "SASL" in spoken else listener(secure_broker, spoken)
        login["STREAMS_KAFKA_BOOTSTRAP_SERVERS"] = secure_broker.address(actual)
        where = f"{secure_broker.address(actual)}: the broker closed the connection"
        assert_refused("any", login, where, f"STREAMS_KAFKA_SECURITY_PROTOCOL={spoken}")


class TestAddresses:
    def test_unreachable_brokers_are_all_named(self, assert_refused: AssertRefused) -> None:
        """Each of several bootstrap servers, with what is wrong with it."""
        closed = f"127.0.0.1:{free_port()}"
        unknown = "no-such-host.invalid:9092"
        assert_refused(
            "any",
            {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": f"{closed},{unknown}"},
            "STREAMS_KAFKA_BOOTSTRAP_SERVERS",
            f"{closed}: unreachable",
            f"{unknown}: the name cannot be resolved",
        )

    def test_broker_that_never_answers(self, silent_port: int, assert_refused: AssertRefused) -> None:
        """A connection that is taken and not answered does not hang the start."""
        server = f"127.0.0.1:{silent_port}"
        assert_refused("any", {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": server}, "STREAMS_KAFKA_BOOTSTRAP_SERVERS", server)

    def test_one_good_bootstrap_server_is_enough(
        self, broker: KafkaBroker, make_topic: MakeTopic, start_worker: StartWorker
    ) -> None:
        """A broker that is down does not keep a worker from starting."""
        servers = f"127.0.0.1:{free_port()},{broker.bootstrap_servers}"
        worker = start_worker(make_topic(), {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": servers})
        wait_until(lambda: worker.stats()["state"] == "running", 30, lambda: str(worker.stats()))

    def test_taken_web_port(self, silent_port: int, make_topic: MakeTopic, assert_refused: AssertRefused) -> None:
        """The web endpoints' port belongs to somebody else."""
        settings = {"STREAMS_WEB_PORT": str(silent_port)}
        assert_refused(make_topic(), settings, "STREAMS_WEB_PORT", "STREAMS_WEB_ENABLED", str(silent_port))


class TestSettings:
    def test_all_mistakes_are_told_at_once(self, assert_refused: AssertRefused) -> None:
        """One start shows every setting that is wrong, missing or unknown."""
        message = assert_refused(
            "orders",
            {
                "STREAMS_CONSUMER_GROUP": "",
                "STREAMS_S3_BUCKET": "s3://bucket",
                "STREAMS_MAX_IN_FLIGHT": "many",
                "STREAMS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "STREAMS_OBJECT_KEY_TEMPLATE": "message_{value.message_id}.json",
                "STREAMS_MAX_INFLIGHT": "5",
            },
            "STREAMS_CONSUMER_GROUP: is not set",
            "STREAMS_S3_BUCKET",
            "STREAMS_MAX_IN_FLIGHT: 'many'",
            "STREAMS_KAFKA_SASL_MECHANISM",
            "STREAMS_OBJECT_KEY_TEMPLATE",
            "did you mean STREAMS_MAX_IN_FLIGHT?",
        )
        assert "6 mistakes" in message

    def test_web_endpoints_can_be_switched_off(
        self, make_topic: MakeTopic, start_worker: StartWorker, broker: KafkaBroker, group: str
    ) -> None:
        """Nothing listens, and the worker works."""
        worker = start_worker(make_topic(), {"STREAMS_WEB_ENABLED": "false"}, wait=False)
        wait_until(lambda: broker.group_members(group) == 1 and "assigned:" in worker.log(), 20, worker.log_tail)
        with pytest.raises(OSError, match="refused"):
            worker.get("/stats")

    def test_log_can_be_json(self, make_topic: MakeTopic, start_worker: StartWorker) -> None:
        """Every line that the worker writes, from its start to its end, is a JSON object."""
        worker = start_worker(make_topic(), {"STREAMS_LOG_FORMAT": "json"})
        worker.terminate()
        assert 0 == worker.wait(20), worker.log_tail()
        lines = [json.loads(line) for line in worker.log().splitlines()]
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def test_auto_acknowledging_agent_is_refused(
    broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, group: str
) -> None:
    """An agent that would acknowledge events before they are durable stops the worker before anything is consumed."""
    topic = make_topic()
    produce(topic, [b"not to be acknowledged"])
    worker = start_worker(topic, wait=False, app="tests.integration.apps.auto_acknowledging")
    assert EXIT_CONFIGURATION == worker.wait(START_LIMIT_SECONDS)
    for words in ("streams: cannot", "careless", "stream.noack()"):
        assert words in worker.log()
    assert "Traceback" not in worker.log()
    assert {} == broker.committed_offsets(group)


FOREIGN_VARIABLES = {
    # What Kubernetes writes into every container of a namespace that has services of these names.
    **{
        name: value
        for service in ("WEB", "STREAMS", "KAFKA", "WORKER", "BROKER", "NODE", "APP", "STREAMS_S3", "STREAMS_KAFKA")
        for name, value in {
            f"{service}_SERVICE_HOST": "10.96.0.17",
            f"{service}_SERVICE_PORT": "6066",
            f"{service}_SERVICE_PORT_HTTP": "6066",
            f"{service}_PORT": "tcp://10.96.0.17:6066",
            f"{service}_PORT_6066_TCP": "tcp://10.96.0.17:6066",
            f"{service}_PORT_6066_TCP_PROTO": "tcp",
            f"{service}_PORT_6066_TCP_PORT": "6066",
            f"{service}_PORT_6066_TCP_ADDR": "10.96.0.17",
        }.items()
    },
    # Faust's own names for settings, any of which would win over the app's (faust/types/settings/base.py).
    "APP_ENV_PREFIX": "KAFKA",
    "APP_VERSION": "7",
    "BROKER_URL": "tcp://10.96.0.17:9092",
    "BROKER_CONSUMER_URL": "kafka://10.96.0.17:9092",
    "BROKER_CLIENT_ID": "somebody-else",
    "BROKER_COMMIT_INTERVAL": "3600",
    "BROKER_MAX_POLL_RECORDS": "none",
    "CONSUMER_AUTO_OFFSET_RESET": "latest",
    "KAFKA_BROKER_URL": "kafka://10.96.0.17:9092",
    "KAFKA_BOOTSTRAP_SERVERS": "10.96.0.17:9092",
    "NODE_CANONICAL_URL": "http://10.96.0.17",
    "NODE_HOSTNAME": "node-7",
    "PROCESSING_GUARANTEE": "exactly_once",
    "STREAM_BUFFER_MAXSIZE": "0",
    "STREAM_WAIT_EMPTY": "no",
    "TIMEZONE": "Mars/Olympus",
    "WEB_BIND": "0.0.0.0",
    "WEB_HOST": "10.96.0.17",
    "WORKER": "1",
    "WORKER_REDIRECT_STDOUTS": "yes",
    # Read by Faust while it is imported. (FAUST_WEB_PORT=tcp://... ends it there, before the worker has a say.)
    "F_DATADIR": "/nowhere/at/all",
    "F_STRICT": "1",
    "FAUST_BLOCKING_TIMEOUT": "0.001",
    "FAUST_CONSOLE_PORT": "1",
    "FAUST_LOOP": "aio",
    "FAUST_WEB_BIND": "0.0.0.0",
    "FAUST_WEB_TRANSPORT": "tcp://10.96.0.17:6066",
}


def test_foreign_variables_change_nothing(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    broker: KafkaBroker,
    archive: Archive,
    group: str,
) -> None:
    """Variables that belong to somebody else neither crash the worker nor change where it works and what it commits."""
    topic = make_topic(2)
    expected = produce(topic, [b"left"] * 25, partition=0) | produce(topic, [b"right"] * 25, partition=1)
    worker = start_worker(topic, FOREIGN_VARIABLES)
    wait_until(
        lambda: broker.committed_offsets(group) == next_offsets(expected),
        START_LIMIT_SECONDS,
        lambda: f"committed: {broker.committed_offsets(group)}\n{worker.log_tail()}",
    )
    archive.assert_complete(expected)
    wait_until(lambda: worker.stats()["lag"] == 0, START_LIMIT_SECONDS, worker.log_tail)
    assert [] == [line for line in worker.log().splitlines() if "WARNING" in line or "ERROR" in line]
    worker.terminate()
    assert 0 == worker.wait(START_LIMIT_SECONDS), worker.log_tail()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "alice")


def broken_files(certificates: Certificates) -> dict[str, tuple[dict[str, str], str]]:
    """Settings that librdkafka refuses when it makes a client, and what the message must name."""
    own = {
        "STREAMS_KAFKA_SSL_CA_FILE": str(certificates.ca_file),
        "STREAMS_KAFKA_SSL_CERT_FILE": str(certificates.client_cert_file),
        "STREAMS_KAFKA_SSL_KEY_FILE": str(certificates.client_key_encrypted_file),
    }
    other = certificates.other_ca_file
    return {
        "key-password": ({**own, "STREAMS_KAFKA_SSL_KEY_PASSWORD": WRONG_PASSWORD}, "STREAMS_KAFKA_SSL_KEY_PASSWORD"),
        "key-of-another": ({**own, "STREAMS_KAFKA_SSL_CERT_FILE": str(other)}, "STREAMS_KAFKA_SSL_CERT_FILE"),
        "no-authorities": (
            {"STREAMS_KAFKA_SSL_CA_FILE": str(certificates.broker_keystore_file.with_name("client.key"))},
            "STREAMS_KAFKA_SSL_CA_FILE",
        ),
    }


@pytest.mark.parametrize("case", ["key-password", "key-of-another", "no-authorities"])
def test_files_that_cannot_be_used(assert_refused: AssertRefused, certificates: Certificates, case: str) -> None:
    """A certificate that was renewed without its key is told like every other mistake, before any broker is asked."""
    settings, name = broken_files(certificates)[case]
    servers = {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "STREAMS_KAFKA_SECURITY_PROTOCOL": "SSL"}
    assert_refused("orders", servers | settings, name)


@pytest.mark.parametrize("line", ["ssl.cipher.suites=none-of-them", "ssl.crl.location=/nowhere", "ssl.key.pem=no-key"])
def test_properties_that_librdkafka_refuses(assert_refused: AssertRefused, tmp_path: Path, line: str) -> None:
    """The file is named; its values are not shown."""
    file = tmp_path / "client.properties"
    file.write_text(f"{line}\n", encoding="utf-8")
    settings = {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "STREAMS_KAFKA_SECURITY_PROTOCOL": "SSL",
        "STREAMS_KAFKA_CLIENT_PROPERTIES": str(file),
    }
    message = assert_refused("orders", settings)
    assert str(file) in message or "STREAMS_KAFKA_CLIENT_PROPERTIES" in message
