"""The IAM policies that the pages hand out: the rights that are needed, on no more than is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from streams.archive.restore_errors import NAME_PREFIX
from streams.settings import Settings
from tests.services.install import ROOT

Statement = dict[str, Any]

SECURITY = (ROOT / "docs" / "security.md").read_text()
CLUSTER = "my-cluster/CLUSTER_UUID"
REQUIRES = {
    "Connect": (),
    "DescribeTopic": ("Connect",),
    "DescribeTopicDynamicConfiguration": ("Connect",),
    "ReadData": ("Connect", "DescribeTopic", "AlterGroup"),
    "WriteData": ("Connect", "DescribeTopic"),
    "DescribeGroup": ("Connect",),
    "AlterGroup": ("Connect", "DescribeGroup"),
    "DescribeTransactionalId": ("Connect",),
    "AlterTransactionalId": ("Connect", "DescribeTransactionalId", "WriteData"),
}
"""What AWS wants beside each action (https://docs.aws.amazon.com/msk/latest/developerguide/kafka-actions.html)."""
RESOURCES = {"Topic": "topic", "Data": "topic", "Group": "group", "TransactionalId": "transactional-id"}


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def statements(text: str, kind: str) -> list[Statement]:
    """Those of the page's one policy in a block of this kind."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    found: list[Statement] = json.loads(block)["Statement"]
    return found


def kafka_rights(kind: str) -> Iterator[tuple[str, str]]:
    """Each action and its resource, `kind/name`."""
    for statement in statements(SECURITY, f"json {kind}"):
        assert "Allow" == statement["Effect"]
        resource = statement["Resource"].removeprefix("arn:aws:kafka:eu-central-1:111122223333:")
        for action in listed(statement["Action"]):
            yield action.removeprefix("kafka-cluster:"), resource


def acls(row: str) -> set[str]:
    """The operations in a row of the table of Kafka's rights, as MSK names them."""
    (table,) = re.findall(r"^### Kafka\n(.*?)^### ", SECURITY, re.DOTALL | re.MULTILINE)
    (line,) = re.findall(rf"^\| {row} \| (.*)$", table, re.MULTILINE)
    topics, group, others = line.split(" | ", 2)
    names = {
        "DESCRIBE_CONFIGS": "DescribeTopicDynamicConfiguration",
        "DESCRIBE": "DescribeTopic",
        "READ": "ReadData",
        "WRITE": "WriteData",
    }
    found = {names[word] for word in re.findall(r"DESCRIBE_CONFIGS|DESCRIBE|READ|WRITE", topics)}
    found |= {"AlterGroup"} if "READ" in group else set()
    return found | ({"AlterTransactionalId"} if "WRITE" in others else set())


@pytest.mark.parametrize(("kind", "row"), [("msk-worker", "worker"), ("msk-restore", "`restore`, on the target")])
def test_msk_policy_is_what_the_acls_are(kind: str, row: str) -> None:
    """The rights of the table, with what AWS requires beside each of them, and nothing else."""
    actions = {action for action, _ in kafka_rights(kind)}
    assert acls(row) == actions - {"Connect", "DescribeGroup", "DescribeTransactionalId"}
    for action in actions:
        assert set(REQUIRES[action]) <= actions, action


@pytest.mark.parametrize("kind", ["msk-worker", "msk-restore"])
def test_msk_policy_names_its_topics_groups_and_transactions(kind: str) -> None:
    """Each action stands with the kind of resource that it is for, in one cluster; never with all of them."""
    for action, resource in kafka_rights(kind):
        kinds = [name for suffix, name in RESOURCES.items() if re.search(rf"{suffix}($|Dynamic)", action)] or [
            "cluster"
        ]
        resource_kind, _, name = resource.partition("/")
        assert [resource_kind] == kinds, action
        assert name.startswith(CLUSTER)
        assert not name.endswith("/*")
        if name.endswith("*"):
            assert name.removeprefix(f"{CLUSTER}/").rstrip("*") in (NAME_PREFIX, "orders.")


def test_only_restore_may_write_to_kafka() -> None:
    """Dead letters and the ledger are in S3."""
    assert not {"WriteData", "AlterTransactionalId"} & {action for action, _ in kafka_rights("msk-worker")}


def test_readme_names_every_right_of_the_worker_in_the_bucket() -> None:
    """Under its three prefixes, as its own example sets them, and on topic.json."""
    text = (ROOT / "README.md").read_text()
    (bucket,) = re.findall(r"STREAMS_S3_BUCKET=(\S+)", text)
    (prefix,) = re.findall(r"STREAMS_S3_PREFIX=(\S+)", text)
    others = [Settings.model_fields[f"{name}_prefix"].default for name in ("dead_letter", "ledger")]
    (rights,) = re.findall(r"\*\*What the worker may do in AWS\*\*.*?\*\*And in Kafka", text, re.DOTALL)
    assert [f"arn:aws:s3:::{bucket}/{prefix}*", *(f"…/{one}*" for one in others), f"…/{others[1]}*/topic.json"] == (
        re.findall(r"`((?:arn:|…)[^`]+)`", rights)
    )
    for action in ("s3:PutObject", "s3:GetObject", "kms:GenerateDataKey", "kms:Decrypt"):
        assert f"`{action}`" in rights


def test_sqs_policy_allows_the_two_prefixes() -> None:
    """Of large events and dead letters, as the page's example sets them; the queues by name."""
    text = (ROOT / "docs" / "sqs.md").read_text()
    (bucket,) = re.findall(r"STREAMS_S3_BUCKET=(\S+)", text)
    (prefix,) = re.findall(r"STREAMS_S3_PREFIX=(\S+)", text)
    sending, writing = statements(text, "json")
    dead_letters = Settings.model_fields["dead_letter_prefix"].default
    assert ("s3:PutObject", [f"arn:aws:s3:::{bucket}/{one}*" for one in (prefix, dead_letters)]) == (
        writing["Action"],
        writing["Resource"],
    )
    assert not [queue for queue in sending["Resource"] if "*" in queue]


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda page: page.name
)
def test_no_page_hands_out_the_whole_bucket(page: Any) -> None:
    """Rights are on the prefixes: what else is in the bucket is nobody's business here."""
    assert [] == re.findall(r"arn:aws:s3:::[\w.$-]+/\*", page.read_text())
