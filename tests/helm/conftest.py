"""Renders the chart with the real helm program, for tests that look at the manifests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import require
from tests.services.install import HELM_PROGRAM, PROMTOOL_PROGRAM

CHART = Path(__file__).resolve().parents[2] / "helm" / "streams"
KUBERNETES_VERSION = "1.31.0"

Values = dict[str, Any]
Manifests = dict[str, Values]
"""By kind: this chart has no two of a kind, but for the ConfigMap of the dashboard, which is "Dashboard" here."""

REQUIRED_SETTINGS = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker-1:9092",
    "TOPICS": "orders",
    "CONSUMER_GROUP": "orders-to-s3",
    "S3_BUCKET": "my-events",
}


def with_settings(**settings: object) -> Values:
    """The smallest values that render, with these settings added."""
    return {"settings": REQUIRED_SETTINGS | settings}


def _kind(document: Values) -> str:
    is_dashboard = document["kind"] == "ConfigMap" and document["metadata"]["name"].endswith("-dashboard")
    return "Dashboard" if is_dashboard else str(document["kind"])


class Helm:
    """The helm program, applied to this chart."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def run(self, command: list[str], values: Values) -> subprocess.CompletedProcess[str]:
        values_file = self._folder / "values.yaml"
        values_file.write_text(yaml.safe_dump(values))
        return subprocess.run(
            [self._program, *command, "--values", str(values_file)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def template(
        self, values: Values, release: str = "orders", version: str = KUBERNETES_VERSION
    ) -> subprocess.CompletedProcess[str]:
        return self.run(["template", release, str(CHART), "--kube-version", version], values)

    def manifests(self, values: Values, release: str = "orders", version: str = KUBERNETES_VERSION) -> Manifests:
        """What the chart renders for this version of Kubernetes."""
        rendered = self.template(values, release, version)
        assert rendered.returncode == 0, rendered.stderr
        documents = [document for document in yaml.safe_load_all(rendered.stdout) if document]
        by_kind = {_kind(document): document for document in documents}
        assert len(documents) == len(by_kind)
        return by_kind

    def refusal(self, values: Values) -> str:
        """What helm says about values that must not render."""
        rendered = self.template(values)
        assert rendered.returncode != 0, rendered.stdout
        return rendered.stderr


@pytest.fixture(scope="session")
def helm_program() -> str:
    """The installed helm, or a person's own; without one these tests are skipped, in CI they fail."""
    found = str(HELM_PROGRAM.path) if HELM_PROGRAM.path.exists() else shutil.which("helm")
    if found:
        return found
    reason = "helm is not installed: python -m tests.services.install helm (needs Go)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' checker of rules."""
    require(PROMTOOL_PROGRAM)
    return str(PROMTOOL_PROGRAM.path)


@pytest.fixture
def helm(helm_program: str, tmp_path: Path) -> Helm:
    return Helm(helm_program, tmp_path)


@pytest.fixture
def render(helm: Helm) -> Callable[..., Manifests]:
    """Renders the smallest values that work, with these top-level values beside them."""

    def rendered(**values: object) -> Manifests:
        return helm.manifests(with_settings() | values)

    return rendered
