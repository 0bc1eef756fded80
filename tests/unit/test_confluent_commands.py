"""Every command of the Confluent CLI in our documentation is one, with flags that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.services.confluent_page import PAGE
from tests.services.install import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
# From the CLI's reference (docs.confluent.io/confluent-cli/current/command-reference), "Cloud"; what our pages use.
COMMON = {"--cluster", "--environment", "--output", "-o", "--help"}
FLAGS: dict[str, set[str]] = {
    "login": set(),
    "environment list": COMMON,
    "environment use": COMMON,
    "kafka cluster list": COMMON,
    "kafka cluster use": COMMON,
    "kafka cluster describe": COMMON,
    "kafka cluster create": COMMON,
    "kafka cluster endpoint list": COMMON,
    "kafka topic list": COMMON,
    "kafka topic describe": COMMON,
    "kafka topic create": COMMON | {"--partitions", "--config", "--if-not-exists"},
    "kafka topic update": COMMON | {"--config"},
    "kafka acl create": COMMON
    | {
        "--allow",
        "--service-account",
        "--principal",
        "--operations",
        "--topic",
        "--consumer-group",
        "--prefix",
    },
    "iam service-account create": COMMON | {"--description"},
    "iam rbac role-binding create": COMMON
    | {"--principal", "--role", "--cloud-cluster", "--kafka-cluster", "--resource", "--prefix"},
    "iam provider create": COMMON | {"--description", "--issuer-uri", "--jwks-uri", "--identity-claim"},
    "iam pool create": COMMON | {"--provider", "--description", "--identity-claim", "--filter"},
    "api-key create": COMMON | {"--resource", "--service-account", "--description"},
    "api-key list": COMMON | {"--service-account", "--resource"},
    "api-key describe": COMMON,
    "api-key delete": COMMON | {"--force"},
}


def commands(page: Path) -> list[str]:
    """What stands behind `confluent` in code: in a block at a line's beginning or in `$( )`, or between backticks."""
    text = page.read_text()
    blocks = re.findall(r"^```.*?^```|^ {4}.*$", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`(confluent [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    found = [match for part in blocks for match in re.findall(r"(?:^ *|\()confluent (.+)$", part, re.MULTILINE)]
    return [re.split(r" \| | # |\) *$", one)[0] for one in found + [line.removeprefix("confluent ") for line in inline]]


def problem(command: str) -> str | None:
    """What is wrong with a command, if anything is."""
    words = shlex.split(command.replace("$(date -I)", "DATE"))
    known = [name for name in FLAGS if words[: len(name.split())] == name.split()]
    if not known:
        return f"no such command: {command}"
    unknown = {word for word in words if word.startswith("-") and word not in FLAGS[known[0]]}
    return f"{known[0]} has no {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_flags_exist(page: Path) -> None:
    """A reader who pastes it gets no usage message."""
    assert [] == [found for found in map(problem, commands(page)) if found]


def test_commands_are_found() -> None:
    """The search for them sees what it should, in blocks, in substitutions and in the text."""
    found = commands(PAGE)
    assert len(found) > 15
    assert any(one.startswith("api-key create --resource") for one in found)
    assert any(one.startswith("iam pool create streams --provider") for one in found)
    assert "api-key delete OLD_KEY" in found


@pytest.mark.parametrize("command", ["kafka acl create --operation read --topic a", "kafka acls create --allow"])
def test_wrong_commands_are_caught(command: str) -> None:
    """A flag of another command line, and a word too many."""
    assert problem(command) is not None
