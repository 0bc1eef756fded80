"""The CloudFormation template as data, and as much of CloudFormation's evaluation as its tests need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from deploy.ec2.build import TEMPLATE

Values = Mapping[str, str]

PSEUDO = {
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::Partition": "aws",
    "AWS::StackName": "archive",
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (`!Ref`) as the long ones (`{"Ref": ...}`)."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


def load() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    return document


def text(node: Any, values: Values) -> str:
    """What an expression of Ref, Sub, Join, Split and Base64 stands for."""
    if isinstance(node, str):
        return node
    ((function, argument),) = node.items()
    match function:
        case "Ref":
            return {**PSEUDO, **values}[argument]
        case "Fn::Sub":
            return re.sub(r"\$\{([\w:]+)\}", lambda name: {**PSEUDO, **values}[name[1]], argument)
        case "Fn::Join":
            return str(argument[0].join(_texts(argument[1], values)))
        case "Fn::Base64":
            return text(argument, values)
    raise AssertionError(f"{function} is not known here")


def _texts(node: Any, values: Values) -> list[str]:
    if isinstance(node, dict):
        separator, whole = node["Fn::Split"]
        return text(whole, values).split(separator)
    return [text(item, values) for item in node]


def true(node: Any, values: Values) -> bool:
    """Whether a condition of a rule holds."""
    ((function, argument),) = node.items()
    match function:
        case "Fn::Equals":
            return text(argument[0], values) == text(argument[1], values)
        case "Fn::Not":
            return not true(argument[0], values)
        case "Fn::Contains":
            return text(argument[1], values) in argument[0]
    raise AssertionError(f"{function} is not known here")
