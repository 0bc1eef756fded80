"""What a cluster is given: valid manifests, the right environment, safe pods, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest

from streams.settings import Settings
from tests.helm.conftest import CHART, REQUIRED_SETTINGS, Helm, Manifests, Values, with_settings

pytestmark = [pytest.mark.helm, pytest.mark.timeout(60)]

Render = Callable[..., Manifests]

PASSWORD = "s3cr3t-password"
EVERYTHING: Values = with_settings(MAX_IN_FLIGHT_BYTES=67108864, KAFKA_SSL_CA_FILE="/etc/kafka/ca.pem") | {
    "replicaCount": 3,
    "credentials": {"values": {"KAFKA_SASL_USERNAME": "key", "KAFKA_SASL_PASSWORD": PASSWORD}},
    "image": {"repository": "registry.example.com/streams", "digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/streams"}},
    "service": {"enabled": True, "annotations": {"example.com/owner": "data"}},
    "podAnnotations": {"example.com/owner": "data"},
    "podLabels": {"team": "data"},
    "priorityClassName": "high",
    "extraEnv": [{"name": "AWS_PROFILE", "value": "archive"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "kafka-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/kafka", "readOnly": True}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]
            }
        }
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
}


def pod(manifests: Manifests) -> dict[str, Any]:
    spec: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(manifests: Manifests) -> dict[str, Any]:
    (only,) = pod(manifests)["containers"]
    assert isinstance(only, dict)
    return only


@pytest.mark.parametrize("values", [{}, with_settings(), EVERYTHING], ids=["defaults", "smallest", "everything"])
def test_chart_passes_strict_lint(helm: Helm, values: Values) -> None:
    """`helm lint --strict` has nothing to say, with and without values."""
    linted = helm.run(["lint", "--strict", str(CHART)], values)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
@pytest.mark.parametrize("values", [with_settings(), EVERYTHING], ids=["smallest", "everything"])
def test_manifests_match_the_schemas_of_kubernetes(helm: Helm, values: Values, version: str) -> None:
    """Every manifest is one that this version of Kubernetes accepts, without an unknown field."""
    for manifest in helm.manifests(values, version=version).values():
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("version", "policy"),
    [
        ("1.26.15", None),
        ("v1.26.15-eks-49f1e8e", None),
        ("1.27.0", "AlwaysAllow"),
        ("v1.27.1-eks-2f008fe", "AlwaysAllow"),
    ],
)
def test_workers_that_are_not_ready_hold_up_no_drain(helm: Helm, version: str, policy: str | None) -> None:
    """Wherever Kubernetes has the field by default, under EKS's names of versions, too."""
    budget = helm.manifests(with_settings(), version=version)["PodDisruptionBudget"]
    assert policy == budget["spec"].get("unhealthyPodEvictionPolicy")


def test_everything_asked_for_is_rendered(helm: Helm) -> None:
    """All optional objects are there, and the optional parts of the pod arrive as given."""
    manifests = helm.manifests(EVERYTHING)
    kinds = {"ConfigMap", "Deployment", "Pod", "PodDisruptionBudget", "Secret", "Service", "ServiceAccount"}
    assert kinds == manifests.keys()
    spec = pod(manifests)
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert EVERYTHING[name] == spec[name]
    selector = {"labelSelector": manifests["Deployment"]["spec"]["selector"]}
    assert [{**constraint, **selector} for constraint in EVERYTHING["topologySpreadConstraints"]] == spec[
        "topologySpreadConstraints"
    ]
    assert EVERYTHING["serviceAccount"]["annotations"] == manifests["ServiceAccount"]["metadata"]["annotations"]
    assert f"registry.example.com/streams@sha256:{'0' * 64}" == container(manifests)["image"]
    assert {"name": "AWS_PROFILE", "value": "archive"} in container(manifests)["env"]
    assert EVERYTHING["extraVolumeMounts"][0] in container(manifests)["volumeMounts"]


def test_settings_become_the_workers_environment(helm: Helm) -> None:
    """Settings are variables with the worker's prefix, in the words that the worker understands."""
    settings = {
        "MAX_IN_FLIGHT_BYTES": 67108864,
        "COMMIT_INTERVAL_SECONDS": 0.5,
        "ALLOW_OVERWRITE": True,
        "S3_PREFIX": "",
    }
    manifests = helm.manifests(with_settings(**settings, S3_REGION=None))
    expected = {
        **{f"STREAMS_{name}": value for name, value in REQUIRED_SETTINGS.items()},
        "STREAMS_MAX_IN_FLIGHT_BYTES": "67108864",
        "STREAMS_COMMIT_INTERVAL_SECONDS": "0.5",
        "STREAMS_ALLOW_OVERWRITE": "true",
        "STREAMS_S3_PREFIX": "",
        "STREAMS_DATA_DIR": "/tmp/streams",  # noqa: S108 - the pod's own emptyDir
        "STREAMS_DRAIN_TIMEOUT_SECONDS": "25",
        "STREAMS_LOG_FORMAT": "json",
        "STREAMS_WEB_BIND": "0.0.0.0",
        "STREAMS_WEB_PORT": "6066",
    }
    assert expected == manifests["ConfigMap"]["data"]
    assert [{"configMapRef": {"name": manifests["ConfigMap"]["metadata"]["name"]}}] == container(manifests)["envFrom"]


def test_worker_accepts_what_the_chart_gives_it(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rendered environment is a configuration that the worker starts with."""
    for name, value in helm.manifests(with_settings())["ConfigMap"]["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (REQUIRED_SETTINGS["TOPICS"], 6066) == (settings.topics, settings.web_port)


def test_secret_values_are_in_the_secret_and_nowhere_else(helm: Helm) -> None:
    """Credentials given as values appear once, in the Secret, and the container refers to them."""
    manifests = helm.manifests(EVERYTHING)
    secret = manifests.pop("Secret")
    assert secret["stringData"] == {"KAFKA_SASL_USERNAME": "key", "KAFKA_SASL_PASSWORD": PASSWORD}
    assert PASSWORD not in json.dumps(manifests)
    reference = {"secretKeyRef": {"name": secret["metadata"]["name"], "key": "KAFKA_SASL_PASSWORD"}}
    assert {"name": "STREAMS_KAFKA_SASL_PASSWORD", "valueFrom": reference} in container(manifests)["env"]


def test_existing_secret_is_referred_to_by_its_own_keys(render: Render) -> None:
    """A Secret that exists is used under the names of its keys, and no other is made."""
    manifests = render(credentials={"existingSecret": "confluent", "keys": {"KAFKA_SASL_PASSWORD": "api-secret"}})
    assert "Secret" not in manifests
    reference = {"secretKeyRef": {"name": "confluent", "key": "api-secret"}}
    assert [{"name": "STREAMS_KAFKA_SASL_PASSWORD", "valueFrom": reference}] == container(manifests)["env"]


def test_changed_setting_restarts_the_workers(helm: Helm) -> None:
    """The pod template differs when a setting does, and only then."""
    one, same, other = (
        helm.manifests(with_settings(MAX_IN_FLIGHT=value))["Deployment"]["spec"]["template"] for value in (10, 10, 20)
    )
    assert one == same
    assert one != other


def test_pod_is_confined(render: Render) -> None:
    """Not root, no new privileges, no capabilities, nothing to write to but /tmp, no token for Kubernetes."""
    manifests = render()
    spec = pod(manifests)
    confinement = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert confinement == spec["securityContext"]
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(manifests)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - as above
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)


def test_probes_ask_the_port_that_the_worker_listens_on(helm: Helm) -> None:
    """Liveness and readiness have their own pages, on the port of the settings."""
    manifests = helm.manifests(with_settings(WEB_PORT=8080))
    worker = container(manifests)
    assert worker["ports"] == [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]
    pages = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    for probe, path in pages.items():
        assert {"path": path, "port": "web"} == worker[probe]["httpGet"]
    assert manifests["ConfigMap"]["data"]["STREAMS_WEB_PORT"] == "8080"
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert tuple(annotations[f"prometheus.io/{name}"] for name in ("scrape", "path", "port")) == (
        "true",
        "/metrics",
        "8080",
    )


def test_selectors_find_the_pods(helm: Helm) -> None:
    """Deployment, disruption budget and Service select labels that the workers carry, and the test's pod does not."""
    manifests = helm.manifests(EVERYTHING)
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= manifests["Pod"]["metadata"]["labels"].items()


def test_service_sets_no_variables_in_other_pods(helm: Helm) -> None:
    """Kubernetes makes STREAMS_..._SERVICE_HOST variables of a Service with an address; ours is headless."""
    assert helm.manifests(EVERYTHING, release="streams")["Service"]["spec"]["clusterIP"] == "None"


def test_grace_period_outlasts_the_drain(render: Render) -> None:
    """By default Kubernetes waits longer than the worker needs to finish its writes."""
    manifests = render()
    drain_seconds = float(manifests["ConfigMap"]["data"]["STREAMS_DRAIN_TIMEOUT_SECONDS"])
    assert pod(manifests)["terminationGracePeriodSeconds"] >= drain_seconds + 5


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            with_settings() | {"terminationGracePeriodSeconds": 29},
            "terminationGracePeriodSeconds is 29, but must be at",
        ),
        (with_settings(DRAIN_TIMEOUT_SECONDS=50), "must be at least 55"),
        (with_settings(TOPICS=""), "settings.TOPICS is missing"),
        (with_settings(KAFKA_BOOTSTRAP_SERVERS=None), "settings.KAFKA_BOOTSTRAP_SERVERS is missing"),
        (with_settings(KAFKA_SASL_PASSWORD="x"), "'KAFKA_SASL_PASSWORD' not allowed"),
        (with_settings(TOPIC="x"), "'TOPIC' not allowed"),
        (with_settings() | {"replicas": 3}, "'replicas' not allowed"),
        (with_settings() | {"extraEnv": [{"name": "STREAMS_TOPICS", "value": "x"}]}, "extraEnv"),
        (with_settings() | {"credentials": {"existingSecret": "confluent"}}, "credentials.keys is empty"),
        (
            with_settings() | {"credentials": {"existingSecret": "a", "values": {"KAFKA_SASL_PASSWORD": "b"}}},
            "choose one",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(helm: Helm, values: Values, sentence: str) -> None:
    """A mistake is said in words before anything reaches the cluster."""
    assert sentence in helm.refusal(values)


def test_all_mistakes_are_said_at_once(helm: Helm) -> None:
    """Nobody has to try again for each missing value."""
    refusal = helm.refusal({})
    for name in REQUIRED_SETTINGS:
        assert f"settings.{name} is missing" in refusal


def test_client_properties_file_can_name_the_brokers(helm: Helm) -> None:
    """With Confluent Cloud's file the bootstrap servers need no setting of their own."""
    manifests = helm.manifests(
        with_settings(KAFKA_BOOTSTRAP_SERVERS=None, KAFKA_CLIENT_PROPERTIES="/etc/kafka/client.properties")
    )
    assert "STREAMS_KAFKA_BOOTSTRAP_SERVERS" not in manifests["ConfigMap"]["data"]


def test_queue_takes_the_place_of_the_bucket(helm: Helm) -> None:
    """With SINK=sqs the queue is asked for, and no bucket."""
    values = with_settings(SINK="sqs", S3_BUCKET=None)
    assert "settings.SQS_QUEUE_URL is missing" in helm.refusal(values)
    given = with_settings(SINK="sqs", S3_BUCKET=None, SQS_QUEUE_URL="https://sqs.eu-west-1.amazonaws.com/1/q")
    assert helm.manifests(given)
