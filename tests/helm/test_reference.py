"""The chart's schema, table and variables say what the worker's settings and values.yaml say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from streams.settings import Settings
from tests.helm import generate
from tests.helm.conftest import CHART, REQUIRED_SETTINGS, Helm, Manifests, Values, with_settings

pytestmark = [pytest.mark.helm, pytest.mark.timeout(60)]

NAMES = {name.upper() for name in Settings.model_fields}


def leaves(values: dict[str, Any], path: str = "") -> set[str]:
    """The paths of all values that are not a mapping with entries."""
    found: set[str] = set()
    for name, value in values.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else {path + name}
    return found


def variables(manifests: Manifests) -> set[str]:
    """Names of the variables that the worker is given."""
    (workload,) = (manifests[kind] for kind in ("Deployment", "StatefulSet") if kind in manifests)
    (worker,) = workload["spec"]["template"]["spec"]["containers"]
    return set(manifests["ConfigMap"]["data"]) | {entry["name"] for entry in worker.get("env", [])}


def test_schema_has_the_workers_settings() -> None:
    """A setting that is added, renamed or bounded otherwise is so here too (python -m tests.helm.generate)."""
    schema = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    assert generate.schema_document(schema) == schema


def test_every_setting_can_be_given_and_no_other_name() -> None:
    """Each of the worker's settings is in the ConfigMap, in the credentials, or set by the chart itself."""
    schema = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    plain = set(schema["properties"]["settings"]["properties"])
    secret = set(schema["definitions"]["secretSetting"]["enum"])
    assert plain | secret | generate.SET_BY_THE_CHART == NAMES
    assert plain & secret == generate.NAMES_OF_ACCOUNTS
    assert {"KAFKA_SASL_PASSWORD", "ADMIN_TOKEN"} <= secret - plain


def _accepts(name: str, value: object) -> bool:
    given: dict[str, Any] = {key.lower(): text for key, text in REQUIRED_SETTINGS.items()} | {name.lower(): value}
    try:
        Settings(**given)
    except ValidationError:
        return False
    return True


def test_schema_and_worker_agree_on_words_and_bounds() -> None:
    """What the schema allows the worker takes, and one below or above a bound neither of them."""
    for name, rule in generate.settings_schema()["properties"].items():
        for word in rule.get("enum", []):
            assert word is None or _accepts(name, word), f"{name}={word}"
        for bound, step in (("minimum", -1), ("maximum", 1)):
            if bound in rule:
                assert _accepts(name, rule[bound]), f"{name}={rule[bound]}"
                assert not _accepts(name, rule[bound] + step), f"{name}={rule[bound] + step}"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_every_variable_of_the_chart_is_a_setting(helm: Helm, kind: str) -> None:
    """Everything that can be set arrives under a name that the worker knows."""
    schema = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))["properties"]["settings"]["properties"]
    left_out = generate.NAMES_OF_ACCOUNTS
    settings = {name: _value(name, rule) for name, rule in schema.items() if name not in left_out}
    values = with_settings(**settings) | {
        "workload": {"kind": kind},
        "credentials": {"existingSecret": "mine", "keys": dict.fromkeys(generate.credential_names(), "key")},
        "terminationGracePeriodSeconds": 60,
    }
    set_here = {"DATA_DIR"} | ({"KAFKA_GROUP_INSTANCE_ID"} if kind == "StatefulSet" else set())
    expected = {f"STREAMS_{name}" for name in (settings.keys() | generate.credential_names() | set_here)}
    assert expected == variables(helm.manifests(values))
    assert {name.removeprefix("STREAMS_") for name in expected} <= NAMES


def _value(name: str, rule: Values) -> object:
    """Any value that the schema accepts."""
    if name in ("KAFKA_SESSION_TIMEOUT_SECONDS", "DRAIN_TIMEOUT_SECONDS"):
        return {"KAFKA_SESSION_TIMEOUT_SECONDS": 60, "DRAIN_TIMEOUT_SECONDS": 30}[name]
    if "enum" in rule:
        return rule["enum"][0]
    types = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    return True if "boolean" in types else "text" if "string" in types and "pattern" not in rule else rule["minimum"]


def test_every_value_is_documented() -> None:
    """Each path of values.yaml has a comment of its own or of the mapping that it is in."""
    documented = {path for path, _, _ in generate.rows()}
    values = yaml.safe_load(generate.VALUES.read_text(encoding="utf-8"))
    missing = {
        path for path in leaves(values) if not any(path == row or path.startswith(f"{row}.") for row in documented)
    }
    assert set() == missing
    for path, _, comment in generate.rows():
        assert len(comment) > 3, path


def test_table_equals_the_comments() -> None:
    """The README's table is generated (python -m tests.helm.generate)."""
    text = generate.README.read_text(encoding="utf-8")
    assert generate.readme(text) == text


def test_schema_knows_every_value() -> None:
    """Nothing in values.yaml is only there by name: each path has a rule."""
    schema = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    for path in leaves(yaml.safe_load(generate.VALUES.read_text(encoding="utf-8"))):
        assert _rule(schema, path.split(".")), path


def _rule(schema: Values, path: list[str]) -> Values | None:
    rule: Values | None = schema
    for name in path:
        if rule is None:
            return None
        if "$ref" in rule:
            rule = schema["definitions"][rule["$ref"].rsplit("/", 1)[1]]
        properties = rule.get("properties", {}) if rule else {}
        extra = rule.get("additionalProperties") if rule else None
        rule = properties.get(name) or (extra if isinstance(extra, dict) else None)
    return rule


def test_every_object_of_the_schema_is_closed_or_kubernetes_own() -> None:
    """A misspelt name is refused at every level that is the chart's; what is passed on whole is listed here."""
    whole = {
        "podSelector", "namespaceSelector", "labelSelector", "nodeAffinity", "podAffinity", "podAntiAffinity",
        "windowsOptions", "fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef",
        "resource", "containerResource", "pods", "object", "external", "global", "extraVolumes",
    }  # fmt: skip
    assert whole == set(_open_objects(json.loads(generate.SCHEMA.read_text(encoding="utf-8"))))


def _open_objects(rule: Any, name: str = "") -> list[str]:
    """Names of the properties that take an object with any names."""
    if not isinstance(rule, dict):
        return []
    found = [name] if rule.get("type") == "object" and "additionalProperties" not in rule else []
    for key in ("properties", "definitions"):
        for child, of_child in rule.get(key, {}).items():
            found += _open_objects(of_child, child)
    return found + _open_objects(rule.get("items"), name) + _open_objects(rule.get("additionalProperties"), name)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (with_settings(MAX_IN_FLIGHT=0), "MAX_IN_FLIGHT"),
        (with_settings(MAX_IN_FLIGHT="many"), "MAX_IN_FLIGHT"),
        (with_settings(SINK="gcs"), "SINK"),
        (with_settings(UVLOOP="yes"), "UVLOOP"),
        (with_settings(DRAIN_TIMEOUT_SECONDS=None), "DRAIN_TIMEOUT_SECONDS"),
        (with_settings(ADMIN_TOKEN="at-least-16-characters"), "ADMIN_TOKEN"),
        (with_settings(KAFKA_GROUP_INSTANCE_ID="one"), "KAFKA_GROUP_INSTANCE_ID"),
        (with_settings() | {"workload": {"kind": "DaemonSet"}}, "kind"),
        (with_settings() | {"autoscaling": {"kind": "both"}}, "kind"),
        (with_settings() | {"autoscaling": {"kind": "keda", "partitions": 2, "minReplicas": 0}}, "minReplicas"),
        (with_settings() | {"autoscaling": {"keda": {"lagTreshold": 5}}}, "lagTreshold"),
        (with_settings() | {"podMonitor": {"interval": "often"}}, "interval"),
        (with_settings() | {"prometheusRule": {"disabled": ["StreamsLag"]}}, "disabled"),
        (with_settings() | {"prometheusRule": {"thresholds": {"lag": 5}}}, "thresholds"),
        (with_settings() | {"networkPolicy": {"kafkaPorts": [99999]}}, "kafkaPorts"),
        (with_settings() | {"networkPolicy": {"ingressFrom": [{"podSelecter": {}}]}}, "podSelecter"),
        (with_settings() | {"securityContext": {"readonlyRootFilesystem": True}}, "readonlyRootFilesystem"),
        (with_settings() | {"resources": {"limit": {}}}, "limit"),
        (with_settings() | {"credentials": {"values": {"S3_BUCKET": "b"}}}, "S3_BUCKET"),
        (with_settings() | {"credentials": {"externalSecret": {"secretStoreRef": {"kind": "Vault"}}}}, "kind"),
        (with_settings() | {"image": {"digest": "sha256:1"}}, "digest"),
        (with_settings() | {"extraVolumeMounts": [{"name": "x", "mountPath": "/tmp"}]}, "mountPath"),  # noqa: S108 - it is refused
    ],
)
def test_schema_refuses_what_is_wrong(helm: Helm, values: Values, where: str) -> None:
    """Unknown names and bad values are refused at every level, by the schema, with the place."""
    refusal = helm.refusal(values)
    assert "values don't meet the specifications of the schema" in refusal
    assert where in refusal


def test_pages_name_only_values_that_exist() -> None:
    """Every `--set` and every dotted value in the chart's README and docs/kubernetes.md is one of the chart."""
    schema = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    pages = (CHART / "README.md", CHART.parents[1] / "docs" / "kubernetes.md")
    for page in map(Path, pages):
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"--set(?:-string)? ([\w.]+)[=\[{]", text):
            assert _rule(schema, path.split(".")), f"{page.name}: {path}"
        for block in re.findall(r"```yaml\n# my-values.yaml\n(.*?)```", text, re.DOTALL):
            for path in leaves(yaml.safe_load(block)):
                assert _rule(schema, path.split(".")) or path.startswith("serviceAccount.annotations."), path
