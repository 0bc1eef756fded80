"""`compose.yaml`: valid by the compose specification, hardened, and on this machine only.

No engine runs here, so the containers themselves are not started; what they mount and run of ours is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.conftest import require
from tests.deploy.conftest import SETTINGS
from tests.services.install import COMPOSE_CHECK, KAFKA_JARS, PROMTOOL_PROGRAM, ROOT
from tests.services.kafka import KafkaBroker
from tests.services.s3 import S3Server

OURS = ("prepare", "worker", "producer")
PARTITIONS = 6
SAMPLES = ROOT / "deploy" / "compose" / "samples.py"


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    """The file as Docker Compose's own loader reads it, paths, anchors and defaults resolved."""
    require(COMPOSE_CHECK)
    loaded = subprocess.run(
        [COMPOSE_CHECK.path, "-format", "json", ROOT / "compose.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    document: dict[str, Any] = json.loads(loaded.stdout)
    return document


@pytest.fixture(scope="session")
def services(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = project["services"]
    return found


def test_every_service_is_there(services: Mapping[str, Any]) -> None:
    """A broker, an S3 server, bucket and topic, the worker, sample events, and the two to look at it."""
    assert {"kafka", "s3", *OURS, "prometheus", "grafana"} == set(services)


def test_ports_are_published_on_the_loopback_address_only(services: Mapping[str, Any]) -> None:
    """Nobody else in the network can reach a broker without a password or a page without a login."""
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert 5 == len(ports)
    assert {"127.0.0.1"} == {port.get("host_ip") for port in ports}


def test_images_are_pinned(services: Mapping[str, Any]) -> None:
    """Each foreign image has the tag of a version; ours is built here."""
    for name, service in services.items():
        repository, _, tag = service["image"].partition(":")
        if name in OURS:
            assert ("streams", "local") == (repository, tag)
            assert str(ROOT) == service["build"]["context"]
        else:
            assert tag.lstrip("v")[:1].isdigit(), service["image"]


def test_broker_is_the_version_that_the_tests_run(services: Mapping[str, Any]) -> None:
    """What is tried by hand is what is tested."""
    assert KAFKA_JARS.name == services["kafka"]["image"].removeprefix("apache/").replace(":", "-")


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(services: Mapping[str, Any], name: str) -> None:
    """The worker refuses a variable that it does not know."""
    variables = {variable for variable in services[name]["environment"] if variable.startswith("STREAMS_")}
    assert variables
    assert variables <= SETTINGS


@pytest.mark.parametrize("name", [*OURS, "prometheus", "grafana"])
def test_containers_are_locked_down(services: Mapping[str, Any], name: str) -> None:
    """Read-only root, no capabilities, none to gain."""
    service = services[name]
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]


def test_mounted_files_exist_and_are_read_only(services: Mapping[str, Any]) -> None:
    """Docker would make a directory of a file that is not there."""
    binds = [v for service in services.values() for v in service.get("volumes", ()) if v["type"] == "bind"]
    assert 7 == len(binds)
    for bind in binds:
        assert Path(bind["source"]).is_file(), bind["source"]
        assert bind["read_only"] is True


def test_services_wait_for_the_health_of_what_they_need(services: Mapping[str, Any]) -> None:
    """Nothing is started before what it needs works, so that one `up` is enough."""
    waits = {
        (name, needed): how["condition"]
        for name, service in services.items()
        for needed, how in service.get("depends_on", {}).items()
    }
    assert {
        ("prepare", "kafka"): "service_healthy",
        ("prepare", "s3"): "service_healthy",
        ("worker", "prepare"): "service_completed_successfully",
        ("producer", "prepare"): "service_completed_successfully",
        ("prometheus", "worker"): "service_healthy",
        ("grafana", "prometheus"): "service_healthy",
    } == waits
    # The worker's health check is in its image.
    for name in ("kafka", "s3", "prometheus", "grafana"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_worker_has_longer_to_stop_than_it_drains(services: Mapping[str, Any]) -> None:
    """SIGKILL comes after the drain timeout."""
    assert "40s" == services["worker"]["stop_grace_period"]


def test_prometheus_and_grafana_find_what_they_are_given(services: Mapping[str, Any]) -> None:
    """The names and paths in their files are those of the services and mounts."""
    folder = ROOT / "deploy" / "compose"
    prometheus = yaml.safe_load((folder / "prometheus.yml").read_text())
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert ["worker:6066"] == targets
    mounted = {v["target"] for v in services["prometheus"]["volumes"]}
    assert set(prometheus["rule_files"]) <= mounted
    source = yaml.safe_load((folder / "grafana-datasource.yml").read_text())["datasources"][0]
    assert "http://prometheus:9090" == source["url"]
    provider = yaml.safe_load((folder / "grafana-dashboards.yml").read_text())["providers"][0]
    dashboards = Path(provider["options"]["path"])
    assert dashboards in {Path(v["target"]).parent for v in services["grafana"]["volumes"]}


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """promtool reads the configuration together with the chart's rules."""
    require(PROMTOOL_PROGRAM)
    configuration = (ROOT / "deploy" / "compose" / "prometheus.yml").read_text()
    rules = ROOT / "helm" / "streams" / "files" / "alerts.yaml"
    (tmp_path / "prometheus.yml").write_text(configuration.replace("/etc/prometheus/alerts.yaml", str(rules)))
    checked = subprocess.run(
        [PROMTOOL_PROGRAM.path, "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == checked.returncode, checked.stdout + checked.stderr
    assert "1 rule files found" in checked.stdout


def test_samples_prepare_and_publish(broker: KafkaBroker, s3_server: S3Server, group: str) -> None:
    """`samples.py` makes topic and bucket, also when they are there, and publishes events to all partitions' topic."""
    name = group.replace("group", "samples")
    environment = {
        **os.environ,
        **s3_server.environment(),
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url,
        "STREAMS_S3_BUCKET": name,
        "STREAMS_TOPICS": name,
    }
    for words in (["prepare"], ["prepare"], ["produce", "5"]):
        command = [sys.executable, str(SAMPLES), *words]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (0, "") == (finished.returncode, finished.stderr), finished.stderr
    assert [] == s3_server.keys(name)
    end: OffsetSpec = OffsetSpec.latest()
    latest = {TopicPartition(name, partition): end for partition in range(PARTITIONS)}
    ends = [future.result().offset for future in broker.admin.list_offsets(latest).values()]
    assert 5 == sum(ends)
