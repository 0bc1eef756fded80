"""The image, built for real, looked into and started against the real broker and S3 server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import MakeTopic, Produce
from tests.deploy.instance import FOLDER, Instance, serve
from tests.image.conftest import LABELS
from tests.image.container import Container, Image
from tests.services.archive import Archive
from tests.services.kafka import KafkaBroker
from tests.services.ports import free_port
from tests.services.s3 import S3Server
from tests.services.waiting import wait_until

# The build is in the first of them; a machine that makes the base image too needs a minute more.
pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

MEGABYTE = 1_000_000
SIGTERM = 15
EVENTS = 200


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink())


def files_in(*folders: Path) -> list[Path]:
    return [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]


def test_image_has_neither_compiler_nor_installer_nor_caches(image: Image) -> None:
    """What could build or fetch more code is not there, and nothing that building left behind."""
    path = image.environment["PATH"].split(":")
    found = [name for name in ("gcc", "cc", "make", "pip", "pip3") for folder in path if _there(image, folder, name)]
    assert [] == found
    assert [] == [path for path in (image.root / "opt/streams").rglob("*") if path.name in ("pip", "setuptools")]
    caches = [image.root / "var/cache/apt", image.root / "var/lib/apt/lists", image.root / "root/.cache"]
    assert [] == [path for path in files_in(*caches) if path.stat().st_size]
    for module in ("pip", "setuptools", "ensurepip"):
        assert 0 != image.run(["python", "-c", f"import {module}"]).returncode, module


def _there(image: Image, folder: str, name: str) -> bool:
    return shutil.which(name, path=str(image.root / folder.lstrip("/"))) is not None


def test_image_is_small(image: Image) -> None:
    """What we add to the base stays within 140 MB, so that instances and pods start soon."""
    assert size(image.root / "opt/streams") < 140 * MEGABYTE


def test_labels_say_where_the_image_comes_from(image: Image) -> None:
    """Version, revision, source and time are the build's arguments; the licence is ours."""
    prefix = "org.opencontainers.image."
    labels = image.config["Labels"]
    assert LABELS == {name: labels[f"{prefix}{name.lower()}"] for name in LABELS}
    assert labels[f"{prefix}licenses"] == "Apache-2.0"


def test_files_are_not_the_workers_to_change(image: Image) -> None:
    """It runs as 10001, which owns nothing but its home, and cannot write to its root."""
    assert "10001:10001" == image.config["User"]
    assert [] == [path for path in (image.root / "opt/streams").rglob("*") if path.lstat().st_uid == 10001]
    written = image.run(["sh", "-c", "id -u; : > /tmp/here && echo tmp; : > $HOME/there"])
    assert "10001\ntmp\n" == written.stdout
    assert "Read-only file system" in written.stderr


@pytest.fixture
def settings(broker: KafkaBroker, s3_server: S3Server, bucket: str, group: str) -> dict[str, str]:
    """What `docker run --env` would be given."""
    return {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAMS_CONSUMER_GROUP": group,
        "STREAMS_S3_BUCKET": bucket,
        "STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url,
        "STREAMS_WEB_BIND": "127.0.0.1",
        "STREAMS_WEB_PORT": str(free_port()),
        "AWS_EC2_METADATA_DISABLED": "true",
        **s3_server.environment(),
    }


StartContainer = Callable[[Mapping[str, str]], Container]


@pytest.fixture
def start(image: Image, tmp_path: Path) -> Iterator[StartContainer]:
    """Starts the image's own command with these settings."""
    started: list[Container] = []

    def started_container(settings: Mapping[str, str]) -> Container:
        container = Container(image, settings, tmp_path / "container.log")
        started.append(container)
        container.start()
        return container

    yield started_container
    for container in started:
        container.kill()


def ready(settings: Mapping[str, str]) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{settings['STREAMS_WEB_PORT']}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_container_archives_drains_and_proves(
    image: Image,
    start: StartContainer,
    settings: dict[str, str],
    make_topic: MakeTopic,
    produce: Produce,
    archive: Archive,
) -> None:
    """On a read-only root: ready, healthy, every event in S3, a clean drain; then doctor and verify find all well."""
    settings["STREAMS_TOPICS"] = topic = make_topic(2)
    expected = produce(topic, [b'{"message_id": %d}' % number for number in range(EVENTS)])
    container = start(settings)
    wait_until(lambda: ready(settings) or not container.running, 60, container.log)
    assert container.running, container.log()
    assert 0 == image.run(image.health_check, settings).returncode
    wait_until(lambda: len(archive.keys()) == EVENTS, 60, container.log)
    container.stop()
    assert 0 == container.wait(40), container.log()
    archive.assert_complete(expected)
    assert 0 != image.run(image.health_check, settings).returncode
    doctor = image.run(["python", "-m", "streams", "doctor"], settings)
    assert 0 == doctor.returncode, doctor.stdout + doctor.stderr
    verified = image.run(["faust", "-A", "streams", "verify", "--json"], settings)
    assert 0 == verified.returncode, verified.stdout + verified.stderr
    assert EVENTS == sum(partition["objects"] for partition in json.loads(verified.stdout)["partitions"])


def test_instance_that_is_terminated_drains_the_container(
    start: StartContainer,
    settings: dict[str, str],
    make_topic: MakeTopic,
    produce: Produce,
    archive: Archive,
    tmp_path: Path,
) -> None:
    """deploy/ec2 with a real worker: its figures are published, and it drains before the group goes on."""
    settings["STREAMS_TOPICS"] = topic = make_topic()
    expected = produce(topic, [b"event"] * EVENTS)
    container = start(settings)
    wait_until(lambda: len(archive.keys()) == EVENTS, 60, container.log)
    instance = Instance(tmp_path / "instance")
    page = f"http://127.0.0.1:{settings['STREAMS_WEB_PORT']}/metrics"

    def published() -> str:
        assert (0, "") == instance.run(FOLDER / "watch.sh", {"METRICS_URL": page})
        return instance.calls("aws cloudwatch put-metric-data")[-1]

    # For a moment after the last event the lag is unknown, and not published.
    wait_until(lambda: '"MetricName":"LagEvents","Unit":"Count","Value":' in published(), 20, container.log)
    worker = container.first_process
    instance.stand_in(
        "systemctl", f"[[ $2 != streams.service ]] || {{ kill {worker}; while kill -0 {worker}; do :; done; }}"
    )
    with serve({"/latest/meta-data/autoscaling/target-lifecycle-state": "Terminated"}) as metadata:
        code, output = instance.run(FOLDER / "lifecycle.sh", {"IMDS": metadata.url})
    assert "the worker has stopped" in output
    assert (0, 0) == (code, container.wait(1)), container.log()
    assert 1 == len(instance.calls("aws autoscaling complete-lifecycle-action"))
    archive.assert_complete(expected)


def test_container_that_is_stopped_at_once_ends_at_once(start: StartContainer, settings: dict[str, str]) -> None:
    """The first process has its handler before Faust is imported: a SIGTERM in the first second is not lost."""
    settings["STREAMS_TOPICS"] = "never-reached"
    container = start(settings)
    wait_until(lambda: catches_sigterm(container), 30, container.log, interval_seconds=0.005)
    # What the settings are made with; the worker's own handler comes after it.
    assert "pydantic_core" not in Path(f"/proc/{container.first_process}/maps").read_text()
    os.kill(container.first_process, SIGTERM)
    assert 128 + SIGTERM == container.wait(10), container.log()


def catches_sigterm(container: Container) -> bool:
    """Whether the kernel would deliver a SIGTERM: it knows a handler."""
    status = Path(f"/proc/{container.first_process}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (SIGTERM - 1) & 1)
