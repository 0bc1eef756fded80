"""`docs/confluent-cloud.md` as the tests follow it: its code blocks by name, and its ACL commands as ACLs.

A block's name is the word behind the language (```` ```bash acls ````). The tests run what the page says, with values
of their own in the variables that it names, so that neither can drift from the other.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import NoReturn

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from tests.services.install import ROOT

PAGE = ROOT / "docs" / "confluent-cloud.md"
_ACL_CREATE = "confluent kafka acl create "


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"not a command of the Confluent CLI: {message}")


def _acl_parser() -> argparse.ArgumentParser:
    """The flags of `confluent kafka acl create` (its reference, "Cloud")."""
    parser = _Parser(allow_abbrev=False, add_help=False)
    parser.add_argument("--allow", action="store_true", required=True)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--service-account")
    who.add_argument("--principal")
    parser.add_argument("--operations", required=True)
    resource = parser.add_mutually_exclusive_group(required=True)
    resource.add_argument("--topic")
    resource.add_argument("--consumer-group")
    parser.add_argument("--prefix", action="store_true")
    parser.add_argument("--cluster")
    parser.add_argument("--environment")
    return parser


def block(name: str) -> str:
    """The text of a named code block."""
    found = re.findall(rf"^```bash {re.escape(name)}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert 1 == len(found), f"{PAGE.name} has {len(found)} blocks named {name}"
    text: str = found[0]
    return text


def variables() -> list[str]:
    """What a reader fills in: the names of the first block."""
    return re.findall(r"^export (\w+)=", block("values"), re.MULTILINE)


def run(name: str, values: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Run a block in bash, in a directory; the `STREAMS_` variables that it has exported."""
    return run_text(block(name), values, directory)


def run_text(text: str, values: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The same with any text."""
    script = f"{text}\nenv -0"
    environment = {"PATH": os.environ["PATH"], **values}
    done = subprocess.run(
        ["bash", "-euc", script], env=environment, cwd=directory, capture_output=True, text=True, check=True
    )
    pairs = (entry.partition("=") for entry in done.stdout.split("\0") if "=" in entry)
    return {key: value for key, _, value in pairs if key.startswith("STREAMS_")}


def acls(text: str, values: Mapping[str, str]) -> list[AclBinding]:
    """The ACLs that the `confluent kafka acl create` lines of a text make; a variable without a value is a KeyError."""
    lines = [line.removeprefix("or: ") for line in text.splitlines()]
    return [
        binding
        for line in lines
        if line.startswith(_ACL_CREATE)
        for binding in _bindings(Template(line.removeprefix(_ACL_CREATE)).substitute(values))
    ]


def _bindings(arguments: str) -> Iterator[AclBinding]:
    wanted = _acl_parser().parse_args(shlex.split(arguments))
    principal = wanted.principal or f"User:{wanted.service_account}"
    kind = ResourceType.TOPIC if wanted.topic else ResourceType.GROUP
    pattern = ResourcePatternType.PREFIXED if wanted.prefix else ResourcePatternType.LITERAL
    for word in wanted.operations.split(","):
        operation = AclOperation[word.upper().replace("-", "_")]
        name = wanted.topic or wanted.consumer_group
        yield AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)
