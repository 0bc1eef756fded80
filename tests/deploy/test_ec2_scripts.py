"""The scripts of deploy/ec2, executed: with stand-ins for aws, docker and systemctl, and a metadata service of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.deploy.instance import FOLDER, Instance, Pages, serve
from tests.services.install import ROOT, SYSTEMD_ANALYZE
from tests.services.waiting import wait_until

SCRIPTS = sorted(FOLDER.glob("*.sh"))
UNITS = sorted([*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])
STATE = "/latest/meta-data/autoscaling/target-lifecycle-state"
SPOT = "/latest/meta-data/spot/instance-action"
COMPLETE = (
    "aws autoscaling complete-lifecycle-action --region eu-central-1 --lifecycle-action-result CONTINUE "
    "--lifecycle-hook-name drain --auto-scaling-group-name archive --instance-id i-0123456789abcdef0"
)
SECRET = "sasl.password=very-secret"


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path / "instance")


@pytest.fixture
def metadata() -> Iterator[Pages]:
    """The metadata service of an instance that is in service."""
    with serve({STATE: "InService"}) as pages:
        yield pages


# -- as they are ------------------------------------------------------------------------------------------------------


def test_shellcheck_finds_nothing() -> None:
    """No script has what shellcheck knows as a mistake."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (found.returncode, found.stdout)
    assert 4 == len(SCRIPTS)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """systemd itself finds no mistake in the units; only the programs are stand-ins, which are not installed here."""
    require(SYSTEMD_ANALYZE)
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    installed = ["/usr/bin/docker", *(f"/usr/local/lib/streams/{script.name}" for script in SCRIPTS)]
    for unit in UNITS:
        text = unit.read_text()
        for path in installed:
            text = text.replace(path, str(program))
        (tmp_path / unit.name).write_text(text)
    verified = subprocess.run(
        [SYSTEMD_ANALYZE.path, "verify", "--man=no", "--recursive-errors=no", *(tmp_path / u.name for u in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (verified.returncode, verified.stderr)
    assert 4 == len(UNITS)


# -- lifecycle.sh -----------------------------------------------------------------------------------------------------


def test_termination_drains_before_the_group_goes_on(instance: Instance, metadata: Pages) -> None:
    """The worker is stopped first, then the lifecycle action is completed, and the script has done its work."""
    process = instance.start(FOLDER / "lifecycle.sh", {"IMDS": metadata.url})
    assert process.poll() is None
    metadata.pages[STATE] = "Terminated"
    assert 0 == process.wait(30)
    assert ["systemctl stop streams-watch.timer", "systemctl stop streams.service", COMPLETE] == instance.calls()


def test_instance_in_service_is_left_alone(instance: Instance, metadata: Pages) -> None:
    """Neither its own state nor Standby, nor a metadata service that does not answer, stops the worker."""
    process = instance.start(FOLDER / "lifecycle.sh", {"IMDS": metadata.url})
    try:
        for state in ("InService", "Standby", "Detached"):
            metadata.pages[STATE] = state
            wait_for_reading(metadata)
        del metadata.pages[STATE]
        wait_for_reading(metadata)
        assert process.poll() is None
        assert [] == instance.calls()
    finally:
        process.kill()
        process.communicate()


def wait_for_reading(metadata: Pages) -> None:
    """Until the script has read the state that was set before: it reads the other page after it."""
    seen = metadata.reads[SPOT]
    wait_until(lambda: metadata.reads[SPOT] >= seen + 2, 20, "the metadata service was not asked")


@pytest.mark.parametrize(
    ("stop", "said"), [("exit 1", "did not stop as it should"), ("sleep 30", "did not stop as it should")]
)
def test_stop_that_fails_or_hangs_still_completes(instance: Instance, metadata: Pages, stop: str, said: str) -> None:
    """Whatever becomes of the worker, the group hears from the instance before its heartbeat runs out."""
    instance.stand_in("systemctl", f'[[ "$*" == *streams.service ]] || exit 0\n{stop}')
    metadata.pages[STATE] = "Terminated"
    started = time.monotonic()
    code, output = instance.run(FOLDER / "lifecycle.sh", {"IMDS": metadata.url, "STOP_SECONDS": "1"})
    assert 0 == code
    assert said in output
    assert [COMPLETE] == instance.calls("aws")
    assert time.monotonic() - started < 10


def test_completing_is_tried_again(instance: Instance, metadata: Pages) -> None:
    """A throttled call is repeated, a few times only."""
    instance.stand_in("aws", "exit 254")
    metadata.pages[STATE] = "Terminated"
    code, output = instance.run(FOLDER / "lifecycle.sh", {"IMDS": metadata.url})
    assert 0 == code
    assert "when its heartbeat times out" in output
    assert [COMPLETE] * 5 == instance.calls("aws")


def test_spot_interruption_drains_once(instance: Instance, metadata: Pages) -> None:
    """Two minutes' notice: the worker drains at once; if the group terminates the instance then, it is told."""
    metadata.pages[SPOT] = '{"action": "terminate", "time": "2026-01-01T00:02:00Z"}'
    process = instance.start(FOLDER / "lifecycle.sh", {"IMDS": metadata.url})
    wait_until(lambda: instance.calls("systemctl stop streams.service"), 20, "the worker was not stopped")
    assert process.poll() is None
    metadata.pages[STATE] = "Terminated"
    assert 0 == process.wait(30)
    assert ["systemctl stop streams-watch.timer", "systemctl stop streams.service", COMPLETE] == instance.calls()


# -- watch.sh ---------------------------------------------------------------------------------------------------------

METRICS = """\
# HELP streams_partition_lag_events Events not durable yet.
streams_partition_lag_events{partition="0",topic="orders"} 1200.0
streams_partition_lag_events{partition="1",topic="orders"} 1.5e+06
streams_partition_oldest_pending_seconds{partition="0",topic="orders"} 9.5
streams_partition_oldest_pending_seconds{partition="1",topic="orders"} 12.25
streams_partition_time_to_loss_seconds{partition="0",topic="orders"} +Inf
streams_partition_time_to_loss_seconds{partition="1",topic="orders"} 90000.0
streams_sink_failing 1.0
"""


def published(instance: Instance) -> dict[str, tuple[str, float]]:
    (call,) = instance.calls("aws cloudwatch put-metric-data --region eu-central-1 --namespace Streams --metric-data ")
    data = json.loads(call[call.index("[") :])
    assert all([{"Name": "AutoScalingGroupName", "Value": "archive"}] == figure["Dimensions"] for figure in data)
    return {figure["MetricName"]: (figure["Unit"], figure["Value"]) for figure in data}


def test_figures_of_a_worker_are_published(instance: Instance) -> None:
    """The sum of its partitions' lag, the oldest event, the shortest time to loss, and whether the sink fails."""
    with serve({"/metrics": METRICS}) as pages:
        code, output = instance.run(FOLDER / "watch.sh", {"METRICS_URL": f"{pages.url}/metrics"})
    assert (0, "") == (code, output)
    assert {
        "LagEvents": ("Count", 1_501_200),
        "OldestPendingSeconds": ("Seconds", 12.25),
        "SinkFailing": ("Count", 1),
        "TimeToLossSeconds": ("Seconds", 90_000),
    } == published(instance)


def test_spare_worker_counts_as_one_without_backlog(instance: Instance) -> None:
    """Without partitions there is a sample of 0, so that the average stays the backlog per instance."""
    with serve({"/metrics": "streams_sink_failing 0.0\n"}) as pages:
        assert (0, "") == instance.run(FOLDER / "watch.sh", {"METRICS_URL": f"{pages.url}/metrics"})
    zero = {"LagEvents": ("Count", 0), "OldestPendingSeconds": ("Seconds", 0), "SinkFailing": ("Count", 0)}
    assert zero == published(instance)


def test_names_of_the_metrics_are_the_workers() -> None:
    """What watch.sh looks for is what streams/metrics.py makes."""
    names = {word for word in (FOLDER / "watch.sh").read_text().replace("\\", "/").split("/") if "streams_" in word}
    wanted = {name.strip("^ {") for name in names}
    made = (ROOT / "streams" / "metrics.py").read_text()
    assert 4 == len(wanted)
    assert [] == [name for name in wanted if f'"{name}"' not in made]


def test_worker_without_a_page_publishes_nothing(instance: Instance) -> None:
    """While it starts there is no figure; that nobody publishes is an alarm of its own."""
    with serve({}) as pages:
        assert (0, "") == instance.run(FOLDER / "watch.sh", {"METRICS_URL": f"{pages.url}/metrics"})
    assert [] == instance.calls("aws")


def test_unhealthy_worker_is_restarted(instance: Instance) -> None:
    """Docker only says that a container is unhealthy."""
    instance.stand_in("docker", "echo unhealthy")
    code, _ = instance.run(FOLDER / "watch.sh")
    assert 0 == code
    assert ["systemctl restart --no-block streams.service"] == instance.calls("systemctl")


# -- prepare.sh -------------------------------------------------------------------------------------------------------


def test_secret_is_a_file_of_the_worker_alone(instance: Instance) -> None:
    """It goes from Secrets Manager into a file for user 10001, and is printed nowhere; the image is pulled."""
    instance.stand_in("aws", f'[[ $1 == secretsmanager ]] && echo "{SECRET}"; [[ $1 != ecr ]] || echo a-password')
    instance.stand_in("docker", "[[ $1 != login ]] || [[ $(cat) == a-password ]]")
    code, output = instance.run(FOLDER / "prepare.sh")
    assert (0, "") == (code, output)
    written = instance.folder / "client.properties"
    assert f"{SECRET}\n" == written.read_text()
    assert 0o400 == written.stat().st_mode & 0o777
    assert [f"chown 10001:10001 {written}.new"] == instance.calls("chown")
    registry = instance.environment["IMAGE"].split("/")[0]
    assert [
        f"docker login --username AWS --password-stdin {registry}",
        f"docker pull --quiet {instance.environment['IMAGE']}",
    ] == instance.calls("docker")
    assert not any(SECRET in call or "a-password" in call for call in instance.calls())


def test_start_goes_on_with_what_is_there(instance: Instance) -> None:
    """An outage of Secrets Manager and of the registry does not keep a worker from starting again."""
    (instance.folder / "client.properties").write_text("as before")
    instance.stand_in("aws", "echo half; exit 255")
    instance.stand_in("docker", "[[ $1 == image ]]")
    code, output = instance.run(FOLDER / "prepare.sh")
    assert 0 == code
    assert "going on with the last one" in output
    assert "going on with the one that is here" in output
    assert "as before" == (instance.folder / "client.properties").read_text()
    assert not (instance.folder / "client.properties.new").exists()


@pytest.mark.parametrize(("program", "said"), [("aws", "cannot be read"), ("docker", "cannot be pulled")])
def test_first_start_needs_secret_and_image(instance: Instance, program: str, said: str) -> None:
    """Without them the start fails with the name of what is missing; systemd tries again."""
    instance.stand_in("aws", "echo text")
    instance.stand_in(program, "exit 1")
    code, output = instance.run(FOLDER / "prepare.sh")
    assert 1 == code
    assert said in output
