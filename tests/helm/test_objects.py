"""What operators are given, against their own schemas; and the script of `helm test`, run against a web server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.conftest import require
from tests.helm.conftest import CHART, Helm, Values, with_settings
from tests.services.install import CRD_SCHEMAS, HELM_UNITTEST_PROGRAM

pytestmark = [pytest.mark.helm, pytest.mark.timeout(60)]

CUSTOM = {
    "ExternalSecret": "external-secrets.io_externalsecrets",
    "PodMonitor": "monitoring.coreos.com_podmonitors",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules",
    "ScaledObject": "keda.sh_scaledobjects",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors",
    "TriggerAuthentication": "keda.sh_triggerauthentications",
}
SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "me"}
OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_OAUTH_TOKEN_URL": "https://login.example.com/token",
    "KAFKA_OAUTH_EXTENSIONS": "logicalCluster=lkc-1",
}
EXTERNAL = {
    "enabled": True,
    "secretStoreRef": {"name": "aws", "kind": "ClusterSecretStore"},
    "data": {"KAFKA_SASL_PASSWORD": {"key": "streams/kafka", "property": "api-secret"}},
}
MONITORING: Values = {
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}, "alertLabels": {"team": "data"}},
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Streams"}},
    "networkPolicy": {
        "enabled": True,
        "ingressNamespaces": ["monitoring"],
        "ingressFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        "kafkaPorts": [9092, 9093],
        "kafkaTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "extraEgress": [{"ports": [{"port": 9000}], "to": [{"podSelector": {"matchLabels": {"app": "s3"}}}]}],
    },
}
STATIC_WITH_KEDA = (
    with_settings(**SASL)
    | MONITORING
    | {
        "workload": {"kind": "StatefulSet"},
        "credentials": {"externalSecret": EXTERNAL},
        "autoscaling": {
            "kind": "keda",
            "partitions": 12,
            "maxReplicas": 12,
            "keda": {"limitToPartitionsWithLag": True},
        },
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    }
)
WITH_HPA = (
    with_settings(**OAUTH)
    | MONITORING
    | {
        "credentials": {"existingSecret": "sso", "keys": {"KAFKA_OAUTH_CLIENT_ID": "id", "ADMIN_TOKEN": "token"}},
        "autoscaling": {
            "kind": "hpa",
            "partitions": 6,
            "hpa": {
                "metrics": [
                    {
                        "type": "External",
                        "external": {
                            "metric": {"name": "lag"},
                            "target": {"type": "AverageValue", "averageValue": "10000"},
                        },
                    }
                ]
            },
        },
        "serviceMonitor": {"enabled": True},
    }
)
KEDA_WITH_OAUTH = WITH_HPA | {"autoscaling": {"kind": "keda", "partitions": 6}}
ALL = {"static-keda": STATIC_WITH_KEDA, "hpa": WITH_HPA, "keda-oauth": KEDA_WITH_OAUTH}


def closed(schema: Any) -> Any:
    """A copy in which an object takes no names but its own: Kubernetes would drop others without a word."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource")
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema and not is_open:
        inner["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        inner.pop("type", None)
    if isinstance(schema.get("pattern"), str):  # Go takes flags anywhere, Python only in front
        inner["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
    return inner


@cache
def custom_schema(kind: str, version: str) -> Values:
    """The schema of the operator for this version of the resource."""
    require(CRD_SCHEMAS)
    file = CRD_SCHEMAS.path.with_name(f"{CUSTOM[kind]}.yaml")
    definition = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    (schema,) = (
        item["schema"]["openAPIV3Schema"] for item in definition["spec"]["versions"] if item["name"] == version
    )
    # Kubernetes checks the metadata itself.
    return {**closed(schema), "properties": {**closed(schema["properties"]), "metadata": {"type": "object"}}}


def validate(manifest: Values) -> None:
    jsonschema.validate(manifest, custom_schema(manifest["kind"], manifest["apiVersion"].rsplit("/", 1)[1]))


@pytest.mark.parametrize("values", ALL.values(), ids=ALL)
def test_custom_resources_match_the_operators_schemas(helm: Helm, values: Values) -> None:
    """Every custom resource is one that its operator accepts, without an unknown field."""
    found = [manifest for kind, manifest in helm.manifests(values).items() if kind in CUSTOM]
    assert len(found) >= 2
    for manifest in found:
        validate(manifest)


def test_custom_resources_are_checked_strictly(helm: Helm) -> None:
    """The check above sees a misspelt field, at the top and deep inside."""
    manifest = helm.manifests(STATIC_WITH_KEDA)["ScaledObject"]
    for place in (manifest["spec"], manifest["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]):
        place["maxReplicas"] = 1
        with pytest.raises(jsonschema.ValidationError, match="maxReplicas"):
            validate(manifest)
        del place["maxReplicas"]


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
@pytest.mark.parametrize("values", ALL.values(), ids=ALL)
def test_other_manifests_match_the_schemas_of_kubernetes(helm: Helm, values: Values, version: str) -> None:
    """StatefulSet, HorizontalPodAutoscaler, NetworkPolicy and the rest are what this version accepts."""
    manifests = helm.manifests(values, version=version)
    assert {"NetworkPolicy", "Pod", "Service"} < manifests.keys()
    for kind, manifest in manifests.items():
        if kind not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("values", ALL.values(), ids=ALL)
def test_values_pass_strict_lint(helm: Helm, values: Values) -> None:
    """`helm lint --strict` has nothing to say about the optional parts either."""
    linted = helm.run(["lint", "--strict", str(CHART)], values)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_keda_logs_in_with_what_the_worker_has(helm: Helm) -> None:
    """OAUTHBEARER: each parameter comes from the Secret or the ConfigMap of the workers, under KEDA's names."""
    manifests = helm.manifests(KEDA_WITH_OAUTH)
    (trigger,) = manifests["ScaledObject"]["spec"]["triggers"]
    assert ("oauthbearer", "enable") == (trigger["metadata"]["sasl"], trigger["metadata"]["tls"])
    spec = manifests["TriggerAuthentication"]["spec"]
    assert [{"parameter": "username", "name": "sso", "key": "id"}] == spec["secretTargetRef"]
    settings = manifests["ConfigMap"]["data"]
    given = {target["parameter"]: settings[target["key"]] for target in spec["configMapTargetRef"]}
    assert given == {
        "oauthTokenEndpointUri": OAUTH["KAFKA_OAUTH_TOKEN_URL"],
        "oauthExtensions": OAUTH["KAFKA_OAUTH_EXTENSIONS"],
    }
    assert "replicas" not in manifests["Deployment"]["spec"]


def test_external_secret_makes_the_secret_that_the_worker_reads(helm: Helm) -> None:
    """Name and keys of the Secret to come are those that the container refers to."""
    manifests = helm.manifests(STATIC_WITH_KEDA)
    external = manifests["ExternalSecret"]["spec"]
    (worker,) = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    references = [entry["valueFrom"]["secretKeyRef"] for entry in worker["env"] if "secretKeyRef" in entry["valueFrom"]]
    made = [{"name": external["target"]["name"], "key": item["secretKey"]} for item in external["data"]]
    assert made == references


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (with_settings() | {"autoscaling": {"kind": "keda"}}, "autoscaling.partitions is missing"),
        (
            with_settings() | {"autoscaling": {"kind": "hpa", "partitions": 3, "maxReplicas": 4}},
            "autoscaling.maxReplicas is 4, but the topics have 3 partitions",
        ),
        (
            with_settings() | {"autoscaling": {"kind": "hpa", "partitions": 9, "minReplicas": 5}},
            "autoscaling.minReplicas (5) is above autoscaling.maxReplicas (4)",
        ),
        (
            with_settings(TOPICS="a,b")
            | {"autoscaling": {"kind": "keda", "partitions": 4, "keda": {"limitToPartitionsWithLag": True}}},
            "needs a single topic",
        ),
        (
            with_settings(KAFKA_BOOTSTRAP_SERVERS=None, KAFKA_CLIENT_PROPERTIES="/etc/kafka/client.properties")
            | {"autoscaling": {"kind": "keda", "partitions": 4}},
            "KEDA does not read client.properties",
        ),
        (
            with_settings(DRAIN_TIMEOUT_SECONDS=40)
            | {"workload": {"kind": "StatefulSet"}, "terminationGracePeriodSeconds": 60},
            "settings.KAFKA_SESSION_TIMEOUT_SECONDS is 45, but must be at least 50",
        ),
        (
            with_settings() | {"credentials": {"externalSecret": EXTERNAL, "existingSecret": "mine"}},
            "credentials.existingSecret and credentials.externalSecret are set at the same time",
        ),
        (with_settings() | {"credentials": {"externalSecret": {"enabled": True}}}, "secretStoreRef.name is missing"),
        (
            with_settings(KAFKA_SASL_USERNAME="me") | {"credentials": {"values": {"KAFKA_SASL_USERNAME": "me"}}},
            "KAFKA_SASL_USERNAME is in settings and in the credentials",
        ),
        (
            with_settings() | {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}},
            "serviceMonitor.enabled needs service.enabled",
        ),
    ],
)
def test_contradictions_are_refused(helm: Helm, values: Values, sentence: str) -> None:
    """What each value alone allows, and all together do not, is said in words."""
    assert sentence in helm.refusal(values)


def test_scraped_once(helm: Helm) -> None:
    """With a monitor the annotations for a Prometheus without operator are left out."""
    manifests = helm.manifests(with_settings() | {"podMonitor": {"enabled": True}})
    assert "prometheus.io/scrape" not in manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]


def test_suites_of_helm_unittest_pass() -> None:
    """The chart's own suites, which people who change it run without Python."""
    require(HELM_UNITTEST_PROGRAM)
    command = [str(HELM_UNITTEST_PROGRAM.path), "--strict", "--file", "tests/*_test.yaml", str(CHART)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"{len(list((CHART / 'tests').glob('*_test.yaml')))} passed" in finished.stdout


# -- helm test --------------------------------------------------------------------------------------------------------


class Worker(BaseHTTPRequestHandler):
    """A worker's web endpoints, ready after `refusals` questions."""

    refusals = 0

    def do_GET(self) -> None:
        pages = {"/health/ready": self._ready(), "/stats": (200, {"state": "running", "partitions": [], "lag": 7})}
        status, body = pages[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def _ready(self) -> tuple[int, Values]:
        if self.path == "/health/ready" and type(self).refusals > 0:
            type(self).refusals -= 1
            return 503, {"ok": False, "reason": "waiting for the consumer group", "state": "starting"}
        return 200, {"ok": True, "reason": "ready", "state": "running"}

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def worker(refusals: int) -> Iterator[int]:
    """The port of a worker that is ready after so many questions."""
    handler = type("OneWorker", (Worker,), {"refusals": refusals})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def run_helm_test(helm: Helm, port: int, wait_seconds: str) -> subprocess.CompletedProcess[str]:
    """Runs the very text that the test's pod is given."""
    (container,) = helm.manifests(with_settings())["Pod"]["spec"]["containers"]
    assert ["python", "-c"] == container["command"]
    assert {"WORKERS_HOST", "WORKERS_PORT"} == {entry["name"] for entry in container["env"]}
    environment = {"WORKERS_HOST": "127.0.0.1", "WORKERS_PORT": str(port), "WORKERS_WAIT_SECONDS": wait_seconds}
    return subprocess.run(
        [sys.executable, "-c", *container["args"]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_helm_test_waits_for_the_workers_and_shows_their_numbers(helm: Helm) -> None:
    """A worker that becomes ready passes; what it said before and then is in the log."""
    with worker(refusals=1) as port:
        finished = run_helm_test(helm, port, "30")
    assert finished.returncode == 0, finished.stderr
    assert "127.0.0.1: not ready: waiting for the consumer group" in finished.stdout
    assert "127.0.0.1: running, 0 partitions, lag 7" in finished.stdout


def test_helm_test_fails_where_nobody_is_ready(helm: Helm) -> None:
    """Workers that are not ready in time, or not there, fail the release's test with a sentence."""
    with worker(refusals=1000) as port:
        finished = run_helm_test(helm, port, "0.1")
    assert finished.returncode == 1
    assert "were not all ready" in finished.stderr
    nobody = run_helm_test(helm, port, "0.1")
    assert nobody.returncode == 1
    assert "refused" in nobody.stdout


def test_helm_test_asks_the_service_of_the_release(helm: Helm) -> None:
    """Host and port are those of the headless Service, as a release of any name has it."""
    manifests = helm.manifests(with_settings(WEB_PORT=8080), release="orders")
    (container,) = manifests["Pod"]["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    service = manifests["Service"]
    assert f"{service['metadata']['name']}.default.svc" == given["WORKERS_HOST"]
    assert str(service["spec"]["ports"][0]["port"]) == given["WORKERS_PORT"]
