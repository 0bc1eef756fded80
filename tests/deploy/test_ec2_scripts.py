"""The scripts of deploy/ec2, executed: with stand-ins for aws, docker and systemctl, and a metadata service of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.metrics import Metrics
from streams.stats import Kind
from tests.conftest import require
from tests.deploy.instance import FOLDER, Instance, Pages, serve
from tests.services.install import ROOT, SYSTEMD_ANALYZE
from tests.services.waiting import wait_until
from tests.unit.status_of_nobody import StatusOfNobody

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
streams_lag_unknown_partitions 0.0
streams_rebalances_total 3.0
streams_rebalances_created 1.7e+09
streams_condition_active{condition="kafka_unreachable"} 0.0
streams_condition_active{condition="group_not_joined"} 0.0
streams_condition_active{condition="end_offsets_old"} 1.0
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
        "LagUnknown": ("Count", 0),
        "OldestPendingSeconds": ("Seconds", 12.25),
        "SinkFailing": ("Count", 1),
        "TimeToLossSeconds": ("Seconds", 90_000),
    } == published(instance)


SPARE = {
    "streams_lag_unknown_partitions": 0.0,
    "streams_rebalances_total": 1.0,
    'streams_condition_active{condition="kafka_unreachable"}': 0.0,
    'streams_condition_active{condition="group_not_joined"}': 0.0,
    "streams_sink_failing": 0.0,
}
ZERO = {"LagEvents": ("Count", 0), "OldestPendingSeconds": ("Seconds", 0), "SinkFailing": ("Count", 0)}


def published_of(instance: Instance, metrics: dict[str, float]) -> dict[str, tuple[str, float]]:
    text = "".join(f"{name} {value}\n" for name, value in metrics.items())
    with serve({"/metrics": text}) as pages:
        assert (0, "") == instance.run(FOLDER / "watch.sh", {"METRICS_URL": f"{pages.url}/metrics"})
    return published(instance)


def test_spare_worker_counts_as_one_without_backlog(instance: Instance) -> None:
    """The group has given it no partition: a sample of 0, so that the average stays the backlog per instance."""
    assert ZERO | {"LagUnknown": ("Count", 0)} == published_of(instance, SPARE)


@pytest.mark.parametrize(
    "known",
    [
        {'streams_partition_lag_events{partition="0",topic="orders"}': 7.0, "streams_lag_unknown_partitions": 1.0},
        {"streams_lag_unknown_partitions": 2.0},
        {"streams_rebalances_total": 0.0},
        {'streams_condition_active{condition="kafka_unreachable"}': 1.0},
        {'streams_condition_active{condition="group_not_joined"}': 1.0},
    ],
    ids=["one of two", "all", "not joined yet", "no broker", "out of the group"],
)
def test_unknown_lag_is_no_sample_and_said(instance: Instance, known: dict[str, float]) -> None:
    """As /stats has null then: a 0 would make the group smaller. The worker still counts as one that is there."""
    found = published_of(instance, SPARE | known)
    assert "LagEvents" not in found
    assert {"LagUnknown": ("Count", 1), "SinkFailing": ("Count", 0)} == {
        name: value for name, value in found.items() if name != "OldestPendingSeconds"
    }


@pytest.mark.parametrize("kind", [None, Kind.BROKERS_DOWN, Kind.NOT_JOINED, Kind.END_OFFSETS_OLD])
@pytest.mark.parametrize("assigned", [True, False])
def test_lag_is_left_out_where_stats_has_null(instance: Instance, kind: Kind | None, assigned: bool) -> None:
    """With the real pages of a worker without partitions: both come to the same answer."""
    status = StatusOfNobody()
    status.assigned, status.stats.rebalances = assigned, int(assigned)
    if kind is not None:
        status.stats.conditions.begin(kind, "A test.", "Nothing.")
    with serve({"/metrics": Metrics(status).render().decode()}) as pages:
        assert (0, "") == instance.run(FOLDER / "watch.sh", {"METRICS_URL": f"{pages.url}/metrics"})
    found = published(instance).get("LagEvents")
    assert status.document()["lag"] == (None if found is None else found[1])


def test_worker_that_loses_its_brokers_tells_the_lag_while_it_is_known(instance: Instance) -> None:
    """Ends are old after 30 s; until then the lag of its partitions is what /stats shows, too."""
    lag = {'streams_partition_lag_events{partition="0",topic="orders"}': 7.0}
    away = {'streams_condition_active{condition="kafka_unreachable"}': 1.0}
    assert ("Count", 7) == published_of(instance, SPARE | lag | away)["LagEvents"]


def test_names_of_the_metrics_are_the_workers() -> None:
    """What watch.sh looks for is what streams/metrics.py makes."""
    script = (FOLDER / "watch.sh").read_text()
    wanted = {name.removesuffix("_total") for name in re.findall(r"/\^(streams_\w+)", script)}
    made = (ROOT / "streams" / "metrics.py").read_text()
    assert 7 == len(wanted)
    assert [] == [name for name in wanted if f'"{name}"' not in made]
    (conditions,) = re.findall(r'condition="\(([a-z_|]+)\)"', script)
    assert {Kind.BROKERS_DOWN, Kind.NOT_JOINED} == {Kind(name) for name in conditions.split("|")}


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
