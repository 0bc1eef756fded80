"""A real Kafka broker: one KRaft node with its own ports and data, which can be killed, restarted and frozen."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.services.certificates import Certificates, make_certificates
from tests.services.install import KAFKA_JARS
from tests.services.ports import free_port
from tests.services.process import ServerProcess
from tests.services.waiting import wait_until

SUPERUSER = "alice"
PASSWORD = "secret"
# Knows its password and may do nothing until `grant` says so.
STRANGER = "bob"

_SASL = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
_SECURITY = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class _Listener:
    name: str
    port: int

    @property
    def address(self) -> str:
        # A number and not a name: where `localhost` is ::1 first, the broker would listen on that one alone.
        return f"127.0.0.1:{self.port}"


class KafkaBroker:
    """A broker in `directory`; ports and data live as long as the object, the process from `start` to `stop` or `kill`.

    With `secure=True` it also has SSL, SASL_PLAINTEXT and SASL_SSL listeners (every mechanism on both, user `alice`
    with password `secret`) and enforces ACLs: `alice` and the plaintext listener may do everything, `bob` (same
    password) nothing. OAUTHBEARER takes any unsigned token, as `tests.services.oauth` hands them out.
    """

    # Beside the two: names that PLAIN knows as well, which a subclass may add.
    plain_users: tuple[str, ...] = ()

    def __init__(self, directory: Path, *, secure: bool = False) -> None:
        self.directory = directory
        self.secure = secure
        self.cluster_id = _cluster_id()
        directory.mkdir(parents=True, exist_ok=True)
        names = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] if secure else ["PLAINTEXT"]
        self._listeners = {name: _Listener(name, free_port()) for name in names}
        self._controller_port = free_port()
        self._process = ServerProcess("the Kafka broker", directory / "broker.log")
        self.certificates: Certificates | None = make_certificates(directory, SUPERUSER) if secure else None
        self._admin: AdminClient | None = None
        self._consumers: dict[str, Consumer] = {}

    @property
    def bootstrap_servers(self) -> str:
        """The plaintext listener, `host:port`."""
        return self.address("PLAINTEXT")

    def address(self, security_protocol: str) -> str:
        """`host:port` of the listener for PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return self._listeners[security_protocol].address

    @property
    def admin(self) -> AdminClient:
        """A client on the plaintext listener that may do everything."""
        if self._admin is None:
            # No log lines of its own: a broker that is down on purpose is not news.
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        return self._admin

    # -- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, timeout_seconds: float = 60) -> None:
        """Start (or start again, with the data that is there) and return when the broker answers."""
        self._consumers.clear()
        self._admin = None  # one from before a kill may wait in vain for the group's coordinator
        properties = self.directory / "server.properties"
        if not properties.exists():
            properties.write_text("\n".join(f"{name}={value}" for name, value in self._properties().items()))
            self._format(properties)
        self._process.start(
            [*self._java("-Xmx512m", "-Xms256m"), "kafka.Kafka", str(properties)], self._environment(), self.directory
        )
        wait_until(
            self._answers,
            timeout_seconds,
            lambda: f"the Kafka broker did not answer\n{self._process.log_tail()}",
        )

    def stop(self, timeout_seconds: float = 60) -> None:
        """Stop in an orderly way (SIGTERM) and wait for the end."""
        self._process.signal(signal.SIGTERM)
        self._process.wait(timeout_seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL), frozen or not; data and ports stay for the next `start`."""
        self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the process in its tracks (SIGSTOP): connections stay open and nothing answers."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    @property
    def running(self) -> bool:
        return self._process.running

    def log_tail(self) -> str:
        return self._process.log_tail()

    def _answers(self) -> bool:
        if not self._process.running:
            raise AssertionError(f"the Kafka broker ended while starting\n{self._process.log_tail()}")
        try:
            return bool(self.admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    # -- topics, groups, permissions ----------------------------------------------------------------------------------

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
        *,
        replication_factor: int = 1,
    ) -> None:
        """Create a topic and return when the broker serves all its partitions."""
        topic = NewTopic(name, partitions, replication_factor, config=dict(config or {}))
        self.admin.create_topics([topic])[name].result(30)
        wait_until(lambda: self._led_partitions(name) == partitions, 30, f"topic {name} has no leader")

    def _led_partitions(self, name: str) -> int:
        metadata = self.admin.list_topics(timeout=10).topics.get(name)
        return 0 if metadata is None else sum(part.leader >= 0 for part in metadata.partitions.values())

    def committed_offsets(self, group: str) -> dict[tuple[str, int], int]:
        """What `group` has committed: (topic, partition) to the next offset it would read.

        Asked by a consumer that never joins: an admin client's question to a coordinator that is starting, or has lost
        touch with its controller, may end the process (librdkafka's issues 4605 and 5040).
        """
        topics = self.admin.list_topics(timeout=30).topics
        places = [TopicPartition(name, number) for name, topic in topics.items() for number in topic.partitions]
        found = self._asking(group).committed(places, timeout=30) if places else []
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    def _asking(self, group: str) -> Consumer:
        if group not in self._consumers:
            options = {"bootstrap.servers": self.bootstrap_servers, "group.id": group, "enable.auto.commit": False}
            self._consumers[group] = Consumer({**options, "log_level": 0})
        return self._consumers[group]

    def group_members(self, group: str) -> int:
        """How many consumers are in the group at the moment."""
        return len(self.admin.describe_consumer_groups([group])[group].result(30).members)

    def grant(
        self, user: str, *, topic: str | None = None, group: str | None = None, operation: AclOperation | None = None
    ) -> None:
        """Allow `user` to read and describe `topic` and `group` (or only `operation`)."""
        named = [(ResourceType.TOPIC, topic), (ResourceType.GROUP, group)]
        operations = [operation] if operation is not None else [AclOperation.READ, AclOperation.DESCRIBE]
        bindings = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", allowed, AclPermissionType.ALLOW)
            for kind, name in named
            if name is not None
            for allowed in operations
        ]
        for created in self.admin.create_acls(bindings).values():
            created.result(30)

    def revoke(self, user: str, *, group: str) -> None:
        """Take back all that `user` was granted on `group`."""
        every = AclBindingFilter(
            ResourceType.GROUP,
            group,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for deleted in self.admin.delete_acls([every]).values():
            deleted.result(30)

    # -- configuration ------------------------------------------------------------------------------------------------

    def _properties(self) -> dict[str, str]:
        listeners = [f"{one.name}://{one.address}" for one in self._listeners.values()]
        protocols = [f"{name}:{name}" for name in self._listeners]
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{self._controller_port}"]),
            "advertised.listeners": ",".join(listeners),
            "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:PLAINTEXT"]),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            # A broker that comes back is let in when its former life's session is over.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            "auto.create.topics.enable": "false",
            "num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # Short enough for a test to see a dead member leave.
            "group.min.session.timeout.ms": "1000",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "2",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Compaction and deletion when a topic's settings call for them, not minutes later.
            "log.cleaner.backoff.ms": "200",
            "log.retention.check.interval.ms": "1000",
            "log.initial.task.delay.ms": "500",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            "message.max.bytes": str(8 * 1024 * 1024),
            **(self._secure_properties() if self.secure else {}),
        }

    def _secure_properties(self) -> dict[str, str]:
        assert self.certificates is not None
        names = (SUPERUSER, STRANGER, *self.plain_users)
        plain = _jaas("plain.PlainLoginModule", **{f"user_{name}": PASSWORD for name in names})
        scram = _jaas("scram.ScramLoginModule")
        # Both the validator and the login of Kafka's own test mode: tokens without a signature.
        oauth = _jaas("oauthbearer.OAuthBearerLoginModule", unsecuredLoginStringClaim_sub="broker")
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificates.broker_keystore_file),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.certificates.ca_file),
            "ssl.client.auth": "requested",
            "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/,DEFAULT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{SUPERUSER}",
            "allow.everyone.if.no.acl.found": "false",
            **{
                f"listener.name.{listener}.{name}": value
                for listener in ("sasl_plaintext", "sasl_ssl")
                for name, value in {
                    "sasl.enabled.mechanisms": _SASL,
                    "plain.sasl.jaas.config": plain,
                    "scram-sha-256.sasl.jaas.config": scram,
                    "scram-sha-512.sasl.jaas.config": scram,
                    "oauthbearer.sasl.jaas.config": oauth,
                }.items()
            },
        }

    def _format(self, properties: Path) -> None:
        """Write the cluster's identity and, with SCRAM, its first users into the data directory."""
        users = [
            f"{mechanism}=[name={name},password={PASSWORD}]"
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for name in (SUPERUSER, STRANGER)
        ]
        scram = [word for user in users for word in ("--add-scram", user)] if self.secure else []
        command = ["kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", str(properties), *scram]
        done = subprocess.run(
            [*self._java("-Xmx256m"), *command], env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            properties.unlink()
            raise AssertionError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")

    def _java(self, *memory: str) -> list[str]:
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        return ["java", *memory, *options, *self._java_options(), "-cp", os.pathsep.join(self._class_path())]

    def _java_options(self) -> list[str]:
        """More of them, for a subclass."""
        return []

    def _class_path(self) -> list[str]:
        return [str(KAFKA_JARS / "*")]

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}


def _cluster_id() -> str:
    """What `kafka-storage random-uuid` prints: 22 characters of URL-safe base64 that do not begin with a dash."""
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


def _jaas(module: str, **options: str) -> str:
    words = [f"{_SECURITY}.{module}", "required", *(f'{name}="{value}"' for name, value in options.items())]
    return " ".join(words) + ";"
