"""The CloudFormation template: valid, locked down, with times that fit; and its user data, executed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.ec2.build import MAX_WORKERS, TEMPLATE, written
from streams.doctor.remedies import CANARY_FOLDER
from streams.settings import load_settings
from tests.deploy.conftest import SETTINGS
from tests.deploy.instance import FOLDER, Instance, serve
from tests.deploy.template import load, text, true
from tests.services.install import ROOT

DOCUMENT = load()
PARAMETERS: dict[str, Any] = DOCUMENT["Parameters"]
RESOURCES: dict[str, Any] = DOCUMENT["Resources"]
LAUNCH = RESOURCES["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
GROUP = RESOURCES["Group"]["Properties"]
UNIT = (FOLDER / "streams.service").read_text()

VALUES = {
    "SecretArn": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kafka-AbCdEf",
    "Topics": "^orders\\..*",
    "ConsumerGroup": "streams-archive",
    "BucketName": "my-event-archive",
    "EventPrefix": "events/",
    "DeadLetterPrefix": "dead-letter/",
    "LedgerPrefix": "ledger/",
    "ImageRepository": "streams",
    "ImageTag": "0.1.0",
    "ExtraSettings": "STREAMS_BODY=envelope;STREAMS_MAX_IN_FLIGHT=2000",
    "LogGroup": "/streams/archive",
}
USER_DATA = text(LAUNCH["UserData"], VALUES)

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html: 16 KB before it is encoded.
USER_DATA_LIMIT_BYTES = 16_384
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html: without a bucket for it.
TEMPLATE_LIMIT_BYTES = 51_200


# -- valid ------------------------------------------------------------------------------------------------------------


def test_cfn_lint_finds_nothing() -> None:
    """Every resource and property is as CloudFormation's own schemas say."""
    cfn_lint = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([cfn_lint, TEMPLATE], capture_output=True, text=True, timeout=100, check=False)
    assert (0, "") == (found.returncode, found.stdout)


def test_template_has_the_scripts_as_they_are() -> None:
    """Files and template cannot drift: python deploy/ec2/build.py was run after the last change."""
    assert TEMPLATE.read_text() == written(TEMPLATE.read_text())


def test_template_and_user_data_are_within_their_limits() -> None:
    """AWS refuses larger ones; a kilobyte of user data is left for longer parameters."""
    assert TEMPLATE.stat().st_size < TEMPLATE_LIMIT_BYTES
    assert len(USER_DATA.encode()) < USER_DATA_LIMIT_BYTES - 1024


def test_every_parameter_is_described_limited_and_grouped() -> None:
    """The form in the console explains each value and refuses what cannot work."""
    groups = DOCUMENT["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(PARAMETERS) == sorted(name for group in groups for name in group["Parameters"])
    for name, parameter in PARAMETERS.items():
        assert parameter["Description"], name
        limits = {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter)
        assert limits or parameter["Type"].startswith(("AWS::", "List<AWS::")), name


def test_page_gives_every_parameter_that_has_no_default() -> None:
    """docs/ec2.md deploys without a question left open, and names no parameter that there is not."""
    page = (ROOT / "docs" / "ec2.md").read_text()
    (command,) = re.findall(r"aws cloudformation deploy --stack-name.*?```", page, re.DOTALL)
    given = set(re.findall(r'"(\w+)=\$\w+"', command))
    assert {name for name, parameter in PARAMETERS.items() if "Default" not in parameter} <= given
    assert given <= set(PARAMETERS)
    variables = set(re.findall(r'=\$(\w+)"', command))
    assert variables <= set(re.findall(r"^(?:export )?([A-Z_]+)=", page, re.MULTILINE))


def test_no_parameter_is_a_secret() -> None:
    """Secrets come by reference: nothing in the stack, its history or the user data is one."""
    assert not [name for name in PARAMETERS if re.search("password|key$|token|credential", name, re.IGNORECASE)]
    assert "Default" not in PARAMETERS["SecretArn"]


@pytest.mark.parametrize("most", [1, *MAX_WORKERS])
def test_more_workers_than_partitions_are_refused(most: int) -> None:
    """The rules let a maximum through exactly when there are that many partitions."""
    for partitions in range(1, 80):
        values = {"MaxWorkers": str(most), "Partitions": str(partitions)}
        refused = [
            rule
            for rule in DOCUMENT["Rules"].values()
            if true(rule["RuleCondition"], values) and not true(rule["Assertions"][0]["Assert"], values)
        ]
        assert bool(refused) is (most > partitions), values


def test_rules_are_for_every_allowed_maximum() -> None:
    """The group's size is that parameter, and it has a rule for each value above one."""
    assert [1, *MAX_WORKERS] == PARAMETERS["MaxWorkers"]["AllowedValues"]
    assert {"Ref": "MaxWorkers"} == GROUP["MaxSize"]


# -- locked down ------------------------------------------------------------------------------------------------------

UNRESTRICTED = {
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}
"""Actions for which AWS knows no resource: the service authorization reference says `*` of each."""


def statements() -> list[dict[str, Any]]:
    (policy,) = RESOURCES["Role"]["Properties"]["Policies"]
    found = policy["PolicyDocument"]["Statement"]
    return [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in found]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_rights_are_the_least() -> None:
    """No action is a pattern, and only what AWS offers no resource for is allowed on everything."""
    everywhere: set[str] = set()
    for statement in statements():
        assert "Allow" == statement["Effect"]
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        if "*" in listed(statement["Resource"]):
            everywhere |= set(listed(statement["Action"]))
    assert UNRESTRICTED == everywhere
    assert "ManagedPolicyArns" not in RESOURCES["Role"]["Properties"]


def test_metrics_may_be_published_in_our_namespace_only() -> None:
    """The condition takes the place of the resource that the action does not have."""
    (statement,) = [s for s in statements() if "cloudwatch:PutMetricData" == s["Action"]]
    assert {"StringEquals": {"cloudwatch:namespace": "Streams"}} == statement["Condition"]
    assert "\nNAMESPACE=Streams\n" in USER_DATA


def test_objects_may_be_written_under_the_prefixes_only() -> None:
    """Events, dead letters and the ledger. Options: reading them, and deleting dead letters and doctor's canaries."""
    by_sid = {s["Sid"]: s for s in statements()}
    by_action = {s["Action"]: s for s in by_sid.values() if isinstance(s["Action"], str)}
    prefixes = [
        f"arn:aws:s3:::my-event-archive/{VALUES[name]}*" for name in ("EventPrefix", "DeadLetterPrefix", "LedgerPrefix")
    ]
    for action in ("s3:PutObject", "s3:GetObject"):
        assert prefixes == [text(resource, VALUES) for resource in by_action[action]["Resource"]]
    deletable = ["dead-letter/*", f"events/{CANARY_FOLDER}*", f"ledger/{CANARY_FOLDER}*"]
    assert [f"arn:aws:s3:::my-event-archive/{name}" for name in deletable] == [
        text(resource, VALUES) for resource in by_action["s3:DeleteObject"]["Resource"]
    ]
    assert "arn:aws:s3:::my-event-archive" == text(by_action["s3:ListBucket"]["Resource"], VALUES)
    identities = by_sid["ReadWhichTopicsItHolds"]
    wanted = f"arn:aws:s3:::my-event-archive/{VALUES['LedgerPrefix']}*/topic.json"
    assert ("s3:GetObject", wanted) == (identities["Action"], text(identities["Resource"], VALUES))


def test_lifecycle_action_may_be_ended_for_this_group_only() -> None:
    """The name in the right is the group's."""
    (statement,) = [s for s in statements() if "autoscaling:CompleteLifecycleAction" == s["Action"]]
    name = text(GROUP["AutoScalingGroupName"], VALUES)
    assert text(statement["Resource"], VALUES).endswith(f":autoScalingGroupName/{name}")


def test_metadata_needs_a_token_and_ends_at_the_host() -> None:
    """IMDSv2 only; one hop, because the container has the host's network."""
    assert {"HttpTokens": "required", "HttpPutResponseHopLimit": 1} == LAUNCH["MetadataOptions"]
    assert "--network host" in UNIT


def test_nothing_comes_in_and_little_goes_out() -> None:
    """No ingress rule at all, no key pair; HTTPS and the brokers' port go out."""
    group = RESOURCES["SecurityGroup"]["Properties"]
    assert "SecurityGroupIngress" not in group
    assert not [name for name, resource in RESOURCES.items() if "SecurityGroupIngress" in resource["Type"]]
    assert [443, {"Ref": "KafkaPort"}] == [rule["FromPort"] for rule in group["SecurityGroupEgress"]]
    assert [443, {"Ref": "KafkaPort"}] == [rule["ToPort"] for rule in group["SecurityGroupEgress"]]
    assert "KeyName" not in LAUNCH


def test_disk_is_encrypted() -> None:
    """Whatever the account's default is."""
    (disk,) = LAUNCH["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True


def test_container_is_locked_down() -> None:
    """As the README and the chart run it: read-only root, no rights to gain, an ordinary user."""
    for option in (
        "--read-only",
        "--tmpfs /tmp:rw,noexec,nosuid,nodev,",
        "--user 10001:10001",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "dst=/etc/streams/client.properties,readonly",
    ):
        assert option in UNIT, option


# -- times that fit ---------------------------------------------------------------------------------------------------


def number(pattern: str, where: str) -> float:
    found = re.search(pattern, where)
    assert found is not None, pattern
    return float(found[1])


def test_each_time_limit_is_longer_than_the_one_inside() -> None:
    """The worker drains, Docker waits for it, systemd for Docker, the script for systemd, the group for the script."""
    lifecycle = (FOLDER / "lifecycle.sh").read_text()
    (hook,) = GROUP["LifecycleHookSpecificationList"]
    limits = [
        number(r"STREAMS_DRAIN_TIMEOUT_SECONDS=(\d+)", USER_DATA),
        number(r"--stop-timeout (\d+)", UNIT),
        number(r"TimeoutStopSec=(\d+)", UNIT),
        number(r"STOP_SECONDS:-(\d+)", lifecycle),
        hook["HeartbeatTimeout"],
    ]
    assert limits == sorted(set(limits))
    # A Spot instance has two minutes from the notice, which is seen one poll later.
    poll = number(r"POLL_SECONDS:-(\d+)", lifecycle)
    assert limits[3] + 2 * poll < 120
    # Five tries to complete the action fit as well.
    assert limits[3] + 6 * poll < limits[4]


def test_hook_is_the_one_that_the_script_completes() -> None:
    """Its name is the same, it is at the end of an instance, and a silent instance does not hold up the group."""
    (hook,) = GROUP["LifecycleHookSpecificationList"]
    assert f"\nLIFECYCLE_HOOK={hook['LifecycleHookName']}\n" in USER_DATA
    assert "autoscaling:EC2_INSTANCE_TERMINATING" == hook["LifecycleTransition"]
    assert "CONTINUE" == hook["DefaultResult"]


def test_instances_are_replaced_one_by_one_when_the_new_one_is_ready() -> None:
    """CloudFormation waits for each new worker to say that it is ready, and rolls back when it does not."""
    update = RESOURCES["Group"]["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert 1 == update["MaxBatchSize"]
    assert update["WaitOnResourceSignals"] is True
    assert {"AlarmNotification", "ReplaceUnhealthy"} <= set(update["SuspendProcesses"])
    assert number(r"READY_SECONDS:-(\d+)", USER_DATA) < 15 * 60
    assert "PT15M" == update["PauseTime"] == RESOURCES["Group"]["CreationPolicy"]["ResourceSignal"]["Timeout"]


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_alarms_and_scaling_look_at_what_is_published() -> None:
    """Namespace, name and dimension are those of watch.sh."""
    made = set(re.findall(r'metric\("(\w+)"', (FOLDER / "watch.sh").read_text()))
    watched = [r["Properties"] for r in RESOURCES.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    policies = [r["Properties"] for r in RESOURCES.values() if r["Type"] == "AWS::AutoScaling::ScalingPolicy"]
    tracked = [p["TargetTrackingConfiguration"].get("CustomizedMetricSpecification") for p in policies]
    watched += [metric for metric in tracked if metric]
    assert made == {metric["MetricName"] for metric in watched}
    for metric in watched:
        assert "Streams" == metric["Namespace"]
        assert [{"Name": "AutoScalingGroupName", "Value": {"Ref": "AWS::StackName"}}] == metric["Dimensions"]


def test_absent_data_is_an_alarm() -> None:
    """Nobody publishes when nobody works; the other alarms stay silent then."""
    treated = {
        name: resource["Properties"]["TreatMissingData"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert "breaching" == treated.pop("AbsentAlarm")
    assert {"notBreaching"} == set(treated.values())


def test_absence_is_told_by_a_figure_that_every_worker_publishes() -> None:
    """Not by one that is left out while it is unknown: a worker that runs is not absent."""
    always = re.findall(r'^ +metric\("(\w+)"', (FOLDER / "watch.sh").read_text(), re.MULTILINE)
    assert {"LagUnknown", "OldestPendingSeconds", "SinkFailing"} == set(always)
    assert RESOURCES["AbsentAlarm"]["Properties"]["MetricName"] in always


# -- user data --------------------------------------------------------------------------------------------------------


def environment_file(name: str) -> dict[str, str]:
    """What the user data writes into a file of variables."""
    found = re.search(rf"/etc/streams/{name} <<'END'\n(.*?)\nEND\n", USER_DATA, re.DOTALL)
    assert found is not None
    return dict(line.split("=", 1) for line in found[1].splitlines())


def test_variables_are_settings_that_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker takes them as they are, with a client.properties file as Confluent Cloud hands it out."""
    variables = environment_file("streams.env") | {"STREAMS_KAFKA_CLIENT_RACK": "euc1-az1"}
    names = {name for name in variables if name.startswith("STREAMS_")}
    assert names <= SETTINGS
    assert "STREAMS_KAFKA_CLIENT_RACK" in USER_DATA
    properties = tmp_path / "client.properties"
    properties.write_text("bootstrap.servers=broker-1:9092\nsecurity.protocol=PLAINTEXT\n")
    for name in names:
        monkeypatch.setenv(name, variables[name])
    monkeypatch.setenv("STREAMS_KAFKA_CLIENT_PROPERTIES", str(properties))
    settings = load_settings()
    assert "broker-1:9092" == settings.kafka_bootstrap_servers
    assert "^orders\\..*" == settings.topics
    assert ("envelope", 2000) == (settings.body, settings.max_in_flight)


def test_units_have_every_variable_that_they_use() -> None:
    """unit.env and setup.sh set what the unit and the scripts read."""
    known = set(environment_file("unit.env")) | {"INSTANCE_ID", "RUNTIME_DIRECTORY"}
    scripts = "".join((FOLDER / name).read_text() for name in ("prepare.sh", "lifecycle.sh", "watch.sh"))
    used = set(re.findall(r"\$\{?([A-Z_]+)\b(?!:-)", UNIT + scripts)) - {"NF", "IMDS", "METRICS_URL"}
    assert used <= known | {"DOCKER_CONFIG"}


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path / "instance")


@pytest.fixture
def metadata_url() -> Iterator[str]:
    """The metadata service, and the worker's page beside it."""
    base = "/latest/meta-data"
    pages = {
        f"{base}/instance-id": "i-0123456789abcdef0",
        f"{base}/placement/availability-zone-id": "euc1-az1",
        "/health/ready": "{}",
    }
    with serve(pages) as service:
        yield service.url


def boot(instance: Instance, metadata_url: str, ready: str) -> tuple[int, str]:
    """Run the user data with the machine's directories replaced by the test's."""
    script = USER_DATA
    for folder in ("/etc/streams", "/etc/systemd/system", "/usr/local/lib/streams"):
        (instance.folder / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        script = script.replace(folder, f"{instance.folder}{folder}")
    script = script.replace("/opt/aws/bin", str(instance.programs))
    path = instance.folder / "user-data"
    path.write_text(script)
    variables = {
        "IMDS": metadata_url,
        "READY_URL": f"{metadata_url}{ready}",
        "READY_SECONDS": "1",
        "CONFIGURATION": str(instance.folder / "etc/streams"),
    }
    return instance.run(path, variables)


def signal(code: int) -> list[str]:
    return [f"cfn-signal --exit-code {code} --stack archive --resource Group --region eu-central-1"]


def installed(instance: Instance, folder: str) -> dict[str, tuple[int, str]]:
    """Mode and text of the files that the user data wrote there; the machine's directories named as in the sources."""
    return {
        path.name: (path.stat().st_mode & 0o777, path.read_text().replace(str(instance.folder), ""))
        for path in (instance.folder / folder).iterdir()
    }


def test_user_data_sets_an_instance_up(instance: Instance, metadata_url: str) -> None:
    """Executed: files with their modes, Docker, the units, ready, and CloudFormation is told of the success."""
    code, output = boot(instance, metadata_url, "/health/ready")
    assert 0 == code, output
    assert signal(0) == instance.calls("cfn-signal")
    assert [
        "systemctl daemon-reload",
        "systemctl enable --now docker.service streams-lifecycle.service",
        "systemctl enable --now streams-watch.timer",
        "systemctl enable streams.service",
        "systemctl start --no-block streams.service",
    ] == instance.calls("systemctl")
    for name in ("unit.env", "streams.env"):
        assert 0o600 == (instance.folder / "etc/streams" / name).stat().st_mode & 0o777
    unit = (instance.folder / "etc/streams/unit.env").read_text()
    assert "IMAGE=111122223333.dkr.ecr.eu-central-1.amazonaws.com/streams:0.1.0\n" in unit
    assert unit.endswith("\nINSTANCE_ID=i-0123456789abcdef0\n")
    settings = (instance.folder / "etc/streams/streams.env").read_text()
    assert settings.endswith("\nSTREAMS_MAX_IN_FLIGHT=2000\nSTREAMS_KAFKA_CLIENT_RACK=euc1-az1\n")
    scripts = installed(instance, "usr/local/lib/streams")
    units = installed(instance, "etc/systemd/system")
    assert {path.name: (0o755, path.read_text()) for path in FOLDER.glob("*.sh")} == scripts
    assert {
        path.name: (0o644, path.read_text()) for path in FOLDER.iterdir() if path.suffix in (".service", ".timer")
    } == units


def test_worker_that_never_gets_ready_fails_the_deployment(instance: Instance, metadata_url: str) -> None:
    """CloudFormation is told of the failure and rolls back; where it does not, the worker has figures and alarms."""
    code, output = boot(instance, metadata_url, "/nothing")
    assert 1 == code
    assert "the worker is not ready after 1 s" in output
    assert ["systemctl enable --now streams-watch.timer"] == instance.calls("systemctl enable --now streams-watch")
    assert signal(1) == instance.calls("cfn-signal")


def test_instance_that_cannot_install_docker_says_so(instance: Instance, metadata_url: str) -> None:
    """After five tries; a subnet without a way out is the usual reason."""
    instance.stand_in("dnf", "exit 1")
    code, output = boot(instance, metadata_url, "/health/ready")
    assert 1 == code
    assert "docker cannot be installed" in output
    assert 5 == len(instance.calls("dnf"))
    assert signal(1) == instance.calls("cfn-signal")
