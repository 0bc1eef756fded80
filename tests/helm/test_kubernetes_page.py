"""docs/kubernetes.md, executed as far as a machine without AWS allows: the files it writes, and what comes of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from streams.settings import Settings
from tests.helm.conftest import CHART, Helm, Values

pytestmark = [pytest.mark.helm, pytest.mark.timeout(60)]

PAGE = CHART.parents[1] / "docs" / "kubernetes.md"
TEXT = PAGE.read_text(encoding="utf-8")
MADE_BY_COMMANDS = {"ACCOUNT": "111122223333", "REGISTRY": "registry.example.com", "ISSUER": "oidc.example.com/id/1"}
TYPED = {"API_KEY", "API_SECRET"}


def blocks(kind: str) -> str:
    """All blocks of the page with this word behind `bash`, in order."""
    return "\n".join(re.findall(rf"```bash {kind}\n(.*?)```", TEXT, re.DOTALL))


def run(script: str, folder: Path, **variables: str) -> None:
    environment = {"PATH": os.environ["PATH"], **MADE_BY_COMMANDS, **variables}
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader's directory holds after all blocks that write files."""
    run(f"{blocks('values')}\n{blocks('files')}", tmp_path)
    return tmp_path


def values_of(folder: Path, *names: str) -> Values:
    merged: Values = {}
    for name in names:
        merged |= yaml.safe_load((folder / name).read_text(encoding="utf-8"))
    return merged


def test_each_value_is_given_once() -> None:
    """The table, the block of exports and the variables of all commands name the same values."""
    exported = re.findall(r"^export (\w+)=", blocks("values"), re.MULTILINE)
    assert len(exported) == len(set(exported))
    table = TEXT.split("## 1.")[1].split("```")[0]
    in_table = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"\w+", row)}
    assert set(exported) | TYPED == in_table
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", "\n".join(re.findall(r"```bash.*?\n(.*?)```", TEXT, re.DOTALL))))
    assert used <= in_table | MADE_BY_COMMANDS.keys()
    assert in_table - used == {"AWS_REGION"} - used


def test_policy_allows_writing_under_the_prefixes_and_nothing_else(folder: Path) -> None:
    """The least privilege: writing on the prefixes of the installed settings, and reading whose topics they are."""
    statement, reading = json.loads((folder / "policy.json").read_text(encoding="utf-8"))["Statement"]
    assert statement["Action"] == "s3:PutObject"
    settings = values_of(folder, "my-values.yaml")["settings"]
    prefixes = [
        settings["S3_PREFIX"],
        Settings.model_fields["dead_letter_prefix"].default,
        Settings.model_fields["ledger_prefix"].default,
    ]
    assert [f"arn:aws:s3:::{settings['S3_BUCKET']}/{prefix}*" for prefix in prefixes] == statement["Resource"]
    assert ("s3:GetObject", f"{statement['Resource'][-1]}/topic.json") == (reading["Action"], reading["Resource"])


def test_trust_policies_name_who_may_use_the_role(folder: Path) -> None:
    """EKS Pod Identity's service, or for IRSA exactly this service account."""
    (trust,) = json.loads((folder / "trust.json").read_text(encoding="utf-8"))["Statement"]
    assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    # The first line asks AWS for the issuer, the last two make the role.
    document = re.search(r"cat > trust.json.*?\nEND\n", blocks("irsa"), re.DOTALL)
    assert document is not None
    run(f"{blocks('values')}\n{document[0]}", folder)
    (trust,) = json.loads((folder / "trust.json").read_text(encoding="utf-8"))["Statement"]
    subject = trust["Condition"]["StringEquals"][f"{MADE_BY_COMMANDS['ISSUER']}:sub"]
    assert subject == "system:serviceaccount:streams:streams"


@pytest.mark.parametrize(
    "files",
    [("my-values.yaml",), ("my-values.yaml", "monitoring.yaml"), ("my-values.yaml", "monitoring.yaml", "scaling.yaml")],
)
def test_values_of_the_page_render(helm: Helm, folder: Path, files: tuple[str, ...]) -> None:
    """Each step's command has values that the chart takes, under the names that later commands use."""
    manifests = helm.manifests(values_of(folder, *files), release="streams")
    assert manifests["Deployment"]["metadata"]["name"] == "streams"
    assert manifests["ServiceAccount"]["metadata"]["name"] == "streams"
    assert ("PodMonitor" in manifests) == ("monitoring.yaml" in files)
    assert ("ScaledObject" in manifests) == ("scaling.yaml" in files)


def test_secret_of_the_page_is_the_one_that_is_read(folder: Path) -> None:
    """The keys of the Secret's command are those of the values."""
    credentials = values_of(folder, "my-values.yaml")["credentials"]
    command = re.search(r"create secret generic (\S+) (.*)", TEXT)
    assert command is not None
    assert credentials["existingSecret"] == command[1]
    assert set(credentials["keys"].values()) == set(re.findall(r"--from-file=([\w-]+)=", command[2]))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_doctor_runs_as_a_job_with_the_workers_pod(helm: Helm, folder: Path, kind: str) -> None:
    """The page's jq makes a valid Job of the workload: its environment and account, doctor as its command."""
    if shutil.which("jq") is None:
        if os.environ.get("CI"):
            pytest.fail("jq is not installed")
        pytest.skip("jq is not installed")
    values = values_of(folder, "my-values.yaml") | {"workload": {"kind": kind}}
    workload = helm.manifests(values, release="streams")[kind]
    (folder / "workloads.json").write_text(json.dumps({"kind": "List", "items": [workload]}))
    script = re.sub(r"kubectl .*? --output json \|", "cat workloads.json |", blocks("doctor"), flags=re.DOTALL)
    run(f"{blocks('values')}\n{script}", folder)
    job = json.loads((folder / "doctor.json").read_text(encoding="utf-8"))
    kubernetes_validate.validate(job, "1.31", strict=True)
    pod, original = job["spec"]["template"]["spec"], workload["spec"]["template"]["spec"]
    assert ["faust", "-A", "streams", "doctor"] == pod["containers"][0]["command"]
    for field in ("env", "envFrom", "image", "securityContext", "volumeMounts"):
        assert original["containers"][0][field] == pod["containers"][0][field]
    assert original["serviceAccountName"] == pod["serviceAccountName"]


def test_links_of_the_pages_lead_somewhere() -> None:
    """Every relative link of this page and the chart's README is a file, and its heading exists."""
    for page in (PAGE, CHART / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
            path, _, heading = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            if heading:
                headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                names = {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}
                assert heading in names, f"{page.name}: {target}"
