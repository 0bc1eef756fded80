"""Three Kafka brokers: set up as a Confluent Cloud cluster is (TLS, SASL, ACLs, three replicas, no topic for nothing),
or, with `secure=False`, plain ones whose topics may have a single replica, so that one broker's death is seen. With
`racks=True` each is in a rack of its own and behind a proxy, which clients may go through.

What a plain Apache broker cannot do is done the nearest way: each API key is a user of its own (in Confluent Cloud the
keys of a service account share its ACLs), and a policy class of the tests refuses topics without three replicas.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.services.certificates import make_certificates
from tests.services.install import KAFKA_JARS
from tests.services.kafka import PASSWORD, SUPERUSER, KafkaBroker
from tests.services.kafka_proxy import KafkaProxy
from tests.services.waiting import wait_until

NODES = 3
OFFSETS_TOPIC = "__consumer_offsets"
_POLICY = Path(__file__).with_name("policy") / "ThreeReplicas.java"
_AUDIT = re.compile(r"Principal = User:(\S+) is (Allowed|Denied) operation = (\w+) .*? on resource = (\S+)")


class _Node(KafkaBroker):
    """One broker and controller of three."""

    voters: str
    policy: Path

    def __init__(
        self, directory: Path, number: int, plain_users: tuple[str, ...], *, secure: bool, racks: bool
    ) -> None:
        self.plain_users = plain_users
        super().__init__(directory, secure=secure)
        self.number = number
        self.proxy = KafkaProxy() if racks else None

    @property
    def voter(self) -> str:
        return f"{self.number}@127.0.0.1:{self._controller_port}"

    @property
    def rack(self) -> str:
        return f"rack-{self.number}"

    def _properties(self) -> dict[str, str]:
        own = super()._properties()
        return {
            **(own if self.proxy is None else self._rack_properties(self.proxy.added_to(own))),
            "node.id": str(self.number),
            "controller.quorum.voters": self.voters,
            "default.replication.factor": "3",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            **({"create.topic.policy.class.name": "ThreeReplicas", "min.insync.replicas": "2"} if self.secure else {}),
            # So that a broker that dies is missed in seconds.
            "controller.quorum.election.timeout.ms": "500",
            "controller.quorum.fetch.timeout.ms": "1500",
        }

    def _rack_properties(self, properties: dict[str, str]) -> dict[str, str]:
        """Consumers that name their rack are sent to its broker, though it is no leader (KIP-392)."""
        selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
        return properties | {"broker.rack": self.rack, "replica.selector.class": selector}

    def _java_options(self) -> list[str]:
        # Every decision of the authorizer, allowed ones too.
        return ["-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"]

    def _class_path(self) -> list[str]:
        return [*super()._class_path(), str(self.policy)] if self.secure else super()._class_path()

    def log(self) -> str:
        return self._process.log()


class KafkaCluster:
    """Three brokers; `nodes` may be killed and started again. Topics are made with `create_topic`, three replicas each.

    The users of PLAIN are fixed when it starts (`plain_users`), those of SCRAM come and go (`create_key`,
    `delete_key`), OAUTHBEARER takes any unsigned token, as `tests.services.oauth` hands them out.
    """

    def __init__(
        self, directory: Path, plain_users: tuple[str, ...] = (), *, secure: bool = True, racks: bool = False
    ) -> None:
        self.secure = secure
        self.nodes = [
            _Node(directory / f"node-{number}", number, plain_users, secure=secure, racks=racks)
            for number in range(1, NODES + 1)
        ]
        # One authority for all three.
        self.certificates = make_certificates(directory, SUPERUSER)
        self._policy = directory / "policy"

    def __enter__(self) -> KafkaCluster:
        if self.secure:
            _compile_policy(self._policy)
        voters = ",".join(node.voter for node in self.nodes)
        for node in self.nodes:
            node.voters, node.policy = voters, self._policy
            node.cluster_id = self.nodes[0].cluster_id
            node.certificates = self.certificates
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def start(self) -> None:
        """Start all that do not run, at once: one alone would wait for the others."""
        ended = [node for node in self.nodes if not node.running]
        with ThreadPoolExecutor(NODES) as starting:
            list(starting.map(lambda node: node.start(), ended))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()
            if node.proxy is not None:
                node.proxy.close()

    @property
    def any(self) -> KafkaBroker:
        """A broker that runs: its plaintext listener may do everything."""
        return next(node for node in self.nodes if node.running)

    def addresses(self, security_protocol: str) -> str:
        """The bootstrap servers with this listener, separated by commas."""
        return ",".join(node.address(security_protocol) for node in self.nodes)

    @property
    def proxies(self) -> list[KafkaProxy]:
        """In front of each broker, in the order of `nodes`; only where they have racks."""
        return [node.proxy for node in self.nodes if node.proxy is not None]

    def create_topic(self, name: str, partitions: int = 1, *, replicas: int = NODES) -> None:
        self.any.create_topic(name, partitions, replication_factor=replicas)

    def coordinator(self, group: str) -> KafkaBroker:
        """The broker that the group's members talk to: it leads the partition in which the group's offsets are.

        Worked out as the brokers do. An admin client that asks a coordinator while it changes may end the process
        (librdkafka's issues 4605 and 5040).
        """
        topics = self.any.admin.list_topics(timeout=10).topics
        if OFFSETS_TOPIC not in topics:  # no group has been here yet: the question makes it
            wait_until(lambda: self._offsets_topic_is_there(group), 30, f"no broker has made {OFFSETS_TOPIC}")
            topics = self.any.admin.list_topics(timeout=10).topics
        number = _java_hash(group) % len(topics[OFFSETS_TOPIC].partitions)
        wait_until(
            lambda: self._leader(OFFSETS_TOPIC, number) > 0, 30, f"the offsets of {group} are in no broker's hands"
        )
        return self.nodes[self._leader(OFFSETS_TOPIC, number) - 1]

    def _offsets_topic_is_there(self, group: str) -> bool:
        with contextlib.suppress(KafkaException, TimeoutError):  # not its coordinator, while the topic is being made
            self.any.admin.describe_consumer_groups([group])[group].result(10)
        return OFFSETS_TOPIC in self.any.admin.list_topics(timeout=10).topics

    def leader(self, topic: str, partition: int) -> KafkaBroker:
        """The broker that leads a partition now."""
        return self.nodes[self._leader(topic, partition) - 1]

    def _leader(self, topic: str, partition: int) -> int:
        """Its number; below 1 where there is none."""
        number: int = self.any.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return number

    def in_sync(self, topic: str, partition: int) -> int:
        """How many replicas of a partition are in sync."""
        return len(self.any.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].isrs)

    def create_key(self, key: str, secret: str = PASSWORD) -> None:
        """A user for SCRAM-SHA-512; returns when every broker knows it."""
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        self._alter(key, UserScramCredentialUpsertion(key, credentials, secret.encode()))
        self._wait_for_key(key, known=True)

    def delete_key(self, key: str) -> None:
        """No new connection can log in with it from then on."""
        self._alter(key, UserScramCredentialDeletion(key, ScramMechanism.SCRAM_SHA_512))
        self._wait_for_key(key, known=False)

    def _wait_for_key(self, key: str, *, known: bool) -> None:
        wait_until(lambda: {known} == {_knows_key(node, key) for node in self.nodes}, 10, f"{key}, known: {known}")

    def allow(self, bindings: Sequence[AclBinding]) -> None:
        """Add ACLs; returns when every broker goes by them."""
        for created in self.any.admin.create_acls(list(bindings)).values():
            created.result(30)
        wait_until(lambda: all(_knows(node, bindings) for node in self.nodes), 10, "the ACLs are not known everywhere")

    def _alter(self, key: str, alteration: UserScramCredentialUpsertion | UserScramCredentialDeletion) -> None:
        self.any.admin.alter_user_scram_credentials([alteration])[key].result(30)

    def decisions(self, user: str) -> set[tuple[str, str, str]]:
        """What the authorizers decided about a user so far: (Allowed or Denied, operation, resource)."""
        lines = _AUDIT.findall("".join(node.log() for node in self.nodes))
        return {(decision, operation, resource) for name, decision, operation, resource in lines if name == user}

    def log_tail(self) -> str:
        return "\n".join(node.log_tail() for node in self.nodes)


def _java_hash(text: str) -> int:
    """Java's `String.hashCode` without its sign, as Kafka maps a group to a partition of `__consumer_offsets`."""
    code = 0
    for character in text:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return code & 0x7FFFFFFF


def _knows(node: KafkaBroker, bindings: Sequence[AclBinding]) -> bool:
    anything: Any = None  # which its types do not allow
    every = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    return set(bindings) <= set(node.admin.describe_acls(every).result(30))


def _knows_key(node: KafkaBroker, key: str) -> bool:
    try:
        answers: Any = node.admin.describe_user_scram_credentials([key])
        answers[key].result(30)
    except KafkaException:  # RESOURCE_NOT_FOUND
        return False
    return True


def _compile_policy(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    command: Sequence[str] = ["javac", "-cp", f"{KAFKA_JARS}/*", "-d", str(directory), str(_POLICY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"javac failed:\n{done.stdout}{done.stderr}"
