"""Gets the programs that the tests run for real, into `.services/` (git-ignored): `python -m tests.services.install`.

Kafka and ElasticMQ (the SQS server) come as jars through Maven, versitygw (the S3 server), helm and compose-spec
through `go install`. What is there already is left alone, so that calling this before every test run costs nothing.
Standard library only.

What only the system's package manager has (`PACKAGES`) is installed on a throw-away machine alone: as root, with `CI`
set. Anywhere else the command is printed for the person to run.

A missing toolchain is no error on a person's machine, where the tests that need it are skipped; with `CI` set it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / ".services"
POM = Path(__file__).with_name("pom.xml")
ELASTICMQ_POM = Path(__file__).with_name("pom-elasticmq.xml")

KAFKA_JARS = SERVICES / "kafka-4.1.1"
ELASTICMQ_JARS = SERVICES / "elasticmq-1.6.14"
VERSITYGW = SERVICES / "versitygw-v1.8.0" / "versitygw"
HELM = SERVICES / "helm-v3.22.0" / "helm"
HELM_UNITTEST = SERVICES / "helm-unittest-v1.1.2" / "helm-unittest"
PROMTOOL = SERVICES / "promtool-v0.316.0" / "promtool"
CRD_FILES = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*.yaml",
    "github.com/kedacore/keda/v2@v2.20.2": "config/crd/bases/*.yaml",
    "github.com/external-secrets/external-secrets@v1.3.2": "config/crds/bases/*.yaml",
}
CRDS = SERVICES / "crds-prometheus-operator-0.85.0-keda-2.20.2-external-secrets-1.3.2" / "keda.sh_scaledobjects.yaml"
COMPOSE_SPEC = SERVICES / "compose-spec-v2.16.2" / "cmd"


class NotInstalledError(Exception):
    """A program is not there; the message says what to install."""


@dataclass(frozen=True)
class Part:
    """One thing to install: `path` exists when it is complete, `install` makes it."""

    name: str
    path: Path
    tools: tuple[str, ...]
    install: Callable[[Path], None]
    duration: str
    package: str | None = None
    """The Debian package that has it, for what is not made in `.services/`."""

    def missing_tools(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]

    def problem(self) -> str | None:
        """Why tests cannot use this part, in words for the person who runs them; `None` when they can."""
        if not self.path.exists():
            if self.package:
                return f"{self.name} is not installed (Debian, Ubuntu: {_apt_command(self.package)})"
            missing = self.missing_tools()
            remedy = f"install {' and '.join(missing)}, then run make test" if missing else "run make services"
            return f"{self.name} is not installed: {remedy}"
        if "java" in self.tools and shutil.which("java") is None:
            return f"{self.name} needs java: install a JDK, version 17 or later"
        return None


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    finished = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if finished.returncode != 0:
        output = finished.stdout.decode(errors="replace").strip()
        raise NotInstalledError(f"{' '.join(command)}\nfailed with exit code {finished.returncode}:\n{output}")


def _copy_jars(pom: Path) -> Callable[[Path], None]:
    def install(partial: Path) -> None:
        _run(["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"])

    return install


def _go_install(module: str, tags: str = "") -> Callable[[Path], None]:
    def install(partial: Path) -> None:
        _run(["go", "install", f"-tags={tags}", module], {"GOBIN": str(partial)})

    return install


def _unpacked(module: str) -> Path:
    """Where Go has put the module's files."""
    described = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, check=False)
    module_files = json.loads(described.stdout or b"{}")
    if "Dir" not in module_files:
        raise NotInstalledError(f"{module}: {module_files.get('Error') or described.stderr.decode(errors='replace')}")
    return Path(module_files["Dir"])


def _go_build(module: str, package: str) -> Callable[[Path], None]:
    """For a module that replaces others in its go.mod, which `go install` refuses: built where it was unpacked."""

    def install(partial: Path) -> None:
        _run(["go", "build", "-C", str(_unpacked(module)), "-o", str(partial / Path(package).name), package])

    return install


def _copy_crds(partial: Path) -> None:
    for module, pattern in CRD_FILES.items():
        for file in _unpacked(module).glob(pattern):
            shutil.copyfile(file, partial / file.name)


def _apt_command(package: str) -> str:
    return f"sudo apt-get install --no-install-recommends {package}"


@cache
def _update_package_lists() -> None:
    _run(["apt-get", "-qq", "update"])


def _apt_install(package: str) -> Callable[[Path], None]:
    def install(_: Path) -> None:
        if not os.environ.get("CI") or os.geteuid() != 0:
            raise NotInstalledError(f"Only CI changes the system: {_apt_command(package)}")
        _update_package_lists()
        command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", package]
        _run(command, {"DEBIAN_FRONTEND": "noninteractive"})

    return install


def _debian(program: str, package: str, duration: str) -> Part:
    return Part(program, Path("/usr/bin", program), ("apt-get",), _apt_install(package), duration, package)


KAFKA = Part("Kafka", KAFKA_JARS, ("java", "mvn"), _copy_jars(POM), "10 s")
SQS = Part("ElasticMQ (the SQS server)", ELASTICMQ_JARS, ("java", "mvn"), _copy_jars(ELASTICMQ_POM), "6 s")
S3 = Part(
    "versitygw (the S3 server)",
    VERSITYGW,
    ("go",),
    _go_install("github.com/versity/versitygw/cmd/versitygw@v1.8.0"),
    "75 s, once",
)
HELM_PROGRAM = Part("helm", HELM, ("go",), _go_install("helm.sh/helm/v3/cmd/helm@v3.22.0"), "2 minutes, once")
HELM_UNITTEST_PROGRAM = Part(
    "helm-unittest",
    HELM_UNITTEST,
    ("go",),
    _go_build("github.com/helm-unittest/helm-unittest@v1.1.2", "./cmd/helm-unittest"),
    "80 s, once",
)
# Without the plugins for service discovery: rules need none of them.
PROMTOOL_PROGRAM = Part(
    "promtool",
    PROMTOOL,
    ("go",),
    _go_install("github.com/prometheus/prometheus/cmd/promtool@v0.316.0", "remove_all_sd"),
    "160 s, once",
)
CRD_SCHEMAS = Part("schemas of Kubernetes operators", CRDS, ("go",), _copy_crds, "10 s")
COMPOSE_CHECK = Part(
    "compose-spec (the check of compose.yaml)",
    COMPOSE_SPEC,
    ("go",),
    _go_install("github.com/compose-spec/compose-go/v2/cmd@v2.16.2"),
    "30 s, once",
)
CHROMIUM = _debian("chromium", "chromium", "1 minute, once")
BUILDAH = _debian("buildah", "buildah", "10 s")
MMDEBSTRAP = _debian("mmdebstrap", "mmdebstrap", "10 s")
SYSTEMD_ANALYZE = _debian("systemd-analyze", "systemd", "10 s")
PACKAGES = {
    "chromium": CHROMIUM,
    "buildah": BUILDAH,
    "mmdebstrap": MMDEBSTRAP,
    "systemd-analyze": SYSTEMD_ANALYZE,
}
PARTS = {
    "kafka": KAFKA,
    "s3": S3,
    "sqs": SQS,
    "helm": HELM_PROGRAM,
    "compose": COMPOSE_CHECK,
    "helm-unittest": HELM_UNITTEST_PROGRAM,
    "promtool": PROMTOOL_PROGRAM,
    "crds": CRD_SCHEMAS,
    **PACKAGES,
}


def install(part: Part) -> None:
    """Make `part`, complete or not at all: it is built beside its place and then moved there."""
    missing = part.missing_tools()
    if missing:
        raise NotInstalledError(f"This machine has no {' and '.join(missing)}.")
    if part.package:  # apt-get puts it where it belongs
        part.install(part.path)
        return
    directory = part.path if part in (KAFKA, SQS) else part.path.parent
    partial = directory.with_name(f"{directory.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        part.install(partial)
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _install_and_tell(part: Part) -> bool:
    if part.path.exists():
        print(f"{part.name}: installed")
        return True
    print(f"{part.name}: installing (about {part.duration}) ...", flush=True)
    started = time.monotonic()
    try:
        install(part)
    except NotInstalledError as error:
        print(f"{part.name}: not installed. {error}", file=sys.stderr)
        return False
    print(f"{part.name}: installed after {time.monotonic() - started:.0f} s")
    return True


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"unknown part {unknown[0]!r}: choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    # A list: every part gets its try, also after one that failed.
    outcomes = [_install_and_tell(PARTS[name]) for name in names or PARTS]
    if all(outcomes):
        return 0
    if os.environ.get("CI"):
        return 1
    print("The tests that need what is missing will be skipped.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
