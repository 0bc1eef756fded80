"""Remedies ready to paste: Kafka ACLs for both command lines, IAM statements with no more than what is needed. Pure.

Kafka: which request needs which operation is in Kafka's documentation, "Authorization primitives". S3 and SQS:
"Actions, resources, and condition keys for Amazon S3" (Amazon SQS) in AWS' Service Authorization Reference.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from streams.layout import Layout, common_prefix
from streams.settings import Settings

CANARY_FOLDER: Final = ".streams-doctor/"
_CONFLUENT_CLOUD: Final = ".confluent.cloud"
_CLIENT_SIDE_NAMES: Final = {"Read": "read", "Describe": "describe", "DescribeConfigs": "describe-configs"}


# -- Kafka -------------------------------------------------------------------------------------------------------------


class KafkaAcls:
    """The commands that allow this worker something, for who administers the cluster."""

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_bootstrap_servers
        self._cloud = _CONFLUENT_CLOUD in settings.kafka_bootstrap_servers
        self._user = settings.kafka_sasl_username
        self.principal, self._note = _principal(settings)

    def topic(self, topic: str, *operations: str) -> str:
        """Allow operations (`Read`, `Describe`, `DescribeConfigs`) on a topic."""
        return self._commands(["--topic", topic], ["--topic", topic], operations)

    def group(self, group: str, *operations: str) -> str:
        """Allow operations on a consumer group."""
        return self._commands(["--group", group], ["--consumer-group", group], operations)

    def _commands(self, resource: Sequence[str], confluent: Sequence[str], operations: Sequence[str]) -> str:
        allowed = [word for operation in operations for word in ("--operation", operation)]
        kafka = ["kafka-acls", "--bootstrap-server", self._servers, "--command-config", "admin.properties", "--add"]
        names = ",".join(_CLIENT_SIDE_NAMES[operation] for operation in operations)
        who = ["--service-account", "SERVICE_ACCOUNT"] if self._cloud else ["--principal", self.principal]
        lines = [
            shlex.join([*kafka, "--allow-principal", self.principal, *allowed, *resource]),
            shlex.join(["confluent", "kafka", "acl", "create", "--allow", *who, "--operations", names, *confluent]),
        ]
        if not self._cloud:
            return f"{lines[0]}\nor: {lines[1]}{self._note}"
        key = f" ({shlex.join(['confluent', 'api-key', 'describe', self._user])} shows it)" if self._user else ""
        return f"{lines[1]}\nwhere SERVICE_ACCOUNT is the owner of the API key{key}."


def _principal(settings: Settings) -> tuple[str, str]:
    """Who the brokers take this worker for, by their defaults, and a note where that has to be filled in."""
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return f"User:{settings.kafka_oauth_client_id}", "\n(The principal is the token's sub claim.)"
    if settings.uses_sasl:
        return f"User:{settings.kafka_sasl_username}", ""
    if settings.kafka_ssl_cert_file is None:
        return "User:ANONYMOUS", ""
    shows = shlex.join(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", str(settings.kafka_ssl_cert_file)]
    )
    return "User:SUBJECT", f"\nwhere SUBJECT is what this shows behind subject=: {shows}"


# -- S3 ----------------------------------------------------------------------------------------------------------------


class Prefixes:
    """What the keys of events, dead letters and ledgers begin with; a policy need not allow more."""

    def __init__(self, settings: Settings) -> None:
        layout = Layout(settings)
        template = layout.template
        listings = [template.listing_prefix("a", 0), template.listing_prefix("b", 1)]
        self.events = common_prefix(listings)
        self.dead_letters = layout.dead_letter_prefix()
        keeps_ledger = settings.ledger_enabled and settings.sink == "s3"
        self.ledgers = layout.ledger_prefix() if keeps_ledger else ""

    def all(self) -> list[str]:
        """Each once; those that another one covers are left out."""
        found = dict.fromkeys([self.events, self.dead_letters, *([self.ledgers] if self.ledgers else [])])
        return [one for one in found if not any(one != other and one.startswith(other) for other in found)]


class IamStatements:
    """Statements of an IAM policy for this bucket; `region` tells AWS' partition, `account` whose KMS key it is."""

    def __init__(self, settings: Settings, region: str, account: str = "") -> None:
        self._settings = settings
        partition = aws_partition(region)
        self._bucket = f"arn:{partition}:s3:::{settings.s3_bucket}"
        self._key_arns = f"arn:{partition}:kms:{region}:{account or 'ACCOUNT_ID'}"

    def put(self, prefixes: Iterable[str]) -> str:
        """What the worker needs."""
        actions = ["s3:PutObject", *(["s3:PutObjectTagging"] if self._settings.s3_tag_pairs else [])]
        return _policy(_statement("StreamsWrite", actions, self._objects(prefixes)), *self._kms("kms:GenerateDataKey"))

    def get(self, prefixes: Iterable[str]) -> str:
        """What commands need that read objects."""
        return _policy(_statement("StreamsRead", ["s3:GetObject"], self._objects(prefixes)), *self._kms("kms:Decrypt"))

    def identity(self, ledgers: str) -> str:
        """What the worker needs to read which topics the bucket holds, and no other object."""
        resource = f"{self._bucket}/{ledgers}*/topic.json"
        return _policy(_statement("StreamsIdentity", ["s3:GetObject"], [resource]), *self._kms("kms:Decrypt"))

    def delete(self, prefixes: Iterable[str]) -> str:
        """What taking objects away needs."""
        return _policy(_statement("StreamsDelete", ["s3:DeleteObject"], self._objects(prefixes)))

    def list_objects(self, prefixes: Iterable[str]) -> str:
        """What listing needs; limited to our prefixes unless they are the whole bucket."""
        patterns = [f"{prefix}*" for prefix in prefixes]
        condition = {} if "*" in patterns else {"Condition": {"StringLike": {"s3:prefix": patterns}}}
        return _policy({**_statement("StreamsList", ["s3:ListBucket"], [self._bucket]), **condition})

    def bucket(self, *actions: str) -> str:
        """Reading the bucket's own configuration."""
        return _policy(_statement("StreamsDescribe", list(actions), [self._bucket]))

    def kms(self, key: str = "") -> str:
        """What an encrypted object needs, for writing and for reading it."""
        key = key or self._settings.s3_sse_kms_key_id or "KEY_ID"
        return _policy(self._key_statement("StreamsKey", ["kms:GenerateDataKey", "kms:Decrypt"], key))

    def _objects(self, prefixes: Iterable[str]) -> list[str]:
        return [f"{self._bucket}/{prefix}*" for prefix in prefixes]

    def _kms(self, action: str) -> list[dict[str, Any]]:
        key = self._settings.s3_sse_kms_key_id
        return [] if key is None else [self._key_statement("StreamsKey", [action], key)]

    def _key_statement(self, sid: str, actions: Sequence[str], key: str) -> dict[str, Any]:
        return _key_statement(sid, actions, key, self._key_arns)


# -- SQS ---------------------------------------------------------------------------------------------------------------

_SQS_OWN_KEY: Final = "alias/aws/sqs"
"""AWS manages it, and its policy lets everybody use it who may use SQS in the account."""


class SqsStatements:
    """Statements of an IAM policy for one queue, and the commands that change it."""

    def __init__(self, queue_url: str, region: str) -> None:
        account, name = urlsplit(queue_url).path.strip("/").rpartition("/")[::2]
        self._url = queue_url
        self._region = region
        self._arns = f"arn:{aws_partition(region)}"
        self._account = account or "ACCOUNT_ID"
        self.name = name
        self.arn = f"{self._arns}:sqs:{region}:{self._account}:{name}"

    def send(self, key: str = "") -> str:
        """What the worker needs; `key` is the queue's KMS key, empty where it has none."""
        statements = [_statement("StreamsSend", ["sqs:SendMessage"], [self.arn])]
        if key and not key.endswith(_SQS_OWN_KEY):
            actions = ["kms:GenerateDataKey", "kms:Decrypt"]
            arns = f"{self._arns}:kms:{self._region}:{self._account}"
            statements.append(_key_statement("StreamsKey", actions, key, arns))
        return _policy(*statements)

    def describe(self) -> str:
        """What reading the queue's attributes needs."""
        return _policy(_statement("StreamsDescribe", ["sqs:GetQueueAttributes"], [self.arn]))

    def create(self) -> str:
        """The command that makes the queue."""
        fifo = ["--attributes", "FifoQueue=true"] if self.name.endswith(".fifo") else []
        return shlex.join(["aws", "sqs", "create-queue", "--queue-name", self.name, "--region", self._region, *fifo])

    def change(self, attribute: str) -> str:
        """The command that sets an attribute (`NAME=VALUE`)."""
        words = ["aws", "sqs", "set-queue-attributes", "--queue-url", self._url, "--region", self._region]
        return shlex.join([*words, "--attributes", attribute])

    def simulate(self, caller: str) -> str:
        """The command that asks IAM whether this caller, by its ARN as STS tells it, may send."""
        words = ["aws", "iam", "simulate-principal-policy", "--policy-source-arn", _policy_source(caller)]
        return shlex.join([*words, "--action-names", "sqs:SendMessage", "--resource-arns", self.arn])


def _policy_source(caller: str) -> str:
    """The role of an assumed role: STS names its session, and leaves the role's path out."""
    found = re.fullmatch(r"(arn:[a-z-]+):sts::(\d+):assumed-role/([^/]+)/.+", caller)
    return f"{found[1]}:iam::{found[2]}:role/{found[3]}" if found else caller or "ROLE_ARN"


# -- IAM ---------------------------------------------------------------------------------------------------------------


def _key_statement(sid: str, actions: Sequence[str], key: str, key_arns: str) -> dict[str, Any]:
    """For a KMS key by id, ARN or alias; `key_arns` is what the ARNs of the account's keys begin with."""
    name = key.rpartition(":")[2] if key.startswith("arn:") else key
    if not name.startswith("alias/"):
        return _statement(sid, actions, [key if key.startswith("arn:") else f"{key_arns}:key/{key}"])
    # KMS developer guide, "Use aliases to control access": a policy cannot name an alias as its resource.
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
    return {**_statement(sid, actions, [f"{key_arns}:key/*"]), "Condition": condition}


def aws_partition(region: str) -> str:
    """The part of AWS that a region belongs to, as ARNs name it."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def _statement(sid: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _policy(*statements: dict[str, Any]) -> str:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
