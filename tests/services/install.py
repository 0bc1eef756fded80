"""Gets the programs that the tests run for real, into `.services/` (git-ignored): `python -m tests.services.install`.

Kafka and ElasticMQ (the SQS server) come as jars through Maven, versitygw (the S3 server) and helm through
`go install`. What is there already is left alone, so that calling this before every test run costs nothing. Standard
library only.

A missing toolchain is no error on a person's machine, where the tests that need it are skipped; with `CI` set it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / ".services"
POM = Path(__file__).with_name("pom.xml")
ELASTICMQ_POM = Path(__file__).with_name("pom-elasticmq.xml")

KAFKA_JARS = SERVICES / "kafka-4.1.1"
ELASTICMQ_JARS = SERVICES / "elasticmq-1.6.14"
VERSITYGW = SERVICES / "versitygw-v1.8.0" / "versitygw"
HELM = SERVICES / "helm-v3.22.0" / "helm"


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

    def missing_tools(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]

    def problem(self) -> str | None:
        """Why tests cannot use this part, in words for the person who runs them; `None` when they can."""
        if not self.path.exists():
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


def _go_install(module: str) -> Callable[[Path], None]:
    def install(partial: Path) -> None:
        _run(["go", "install", module], {"GOBIN": str(partial)})

    return install


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
PARTS = {"kafka": KAFKA, "s3": S3, "sqs": SQS, "helm": HELM_PROGRAM}


def install(part: Part) -> None:
    """Make `part`, complete or not at all: it is built beside its place and then moved there."""
    missing = part.missing_tools()
    if missing:
        raise NotInstalledError(f"This machine has no {' and '.join(missing)}.")
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
