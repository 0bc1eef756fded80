"""Gets the rivals with the ordinary package clients, into `.services/`: `python -m bench.rivals.install`.

Benthos is built with Go, Kafka Connect comes through Maven and its stand-in sink is compiled with `javac`, Quix Streams
gets a virtual environment of its own, because its pins differ from ours. What is there already is left alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.services.install import SERVICES, NotInstalledError, Part, install

BENTHOS_VERSION = "4.27.0"
CONNECT_VERSION = "4.1.1"
QUIX_VERSION = "3.28.1"

_HERE = Path(__file__).resolve().parent
BENTHOS = SERVICES / f"benthos-v{BENTHOS_VERSION}" / "benthos"
CONNECT_JARS = SERVICES / f"connect-{CONNECT_VERSION}"
QUIX_PYTHON = SERVICES / f"quixstreams-{QUIX_VERSION}" / "bin" / "python"
_COMPLETE = "complete"  # a file beside what was installed: it is written last
_TELL_EVERY_SECONDS = 10.0
_OUTPUT_LINES = 25


def tell(words: str) -> None:
    """Say it at once, also where the output is a file."""
    print(words, flush=True)


def missing(parts: Sequence[Part]) -> dict[str, str]:
    """Install what is not there yet; returns why not, by the name of what still is not."""
    reasons = {part.name: _get(part) for part in parts}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _get(part: Part) -> str | None:
    if part.path.exists():
        return None
    if tools := part.missing_tools():
        return f"it needs {' and '.join(tools)}, which {'is' if len(tools) == 1 else 'are'} not on the PATH"
    tell(f"{part.name}: installing (about {part.duration}) ...")
    began = time.monotonic()
    try:
        install(part)
    except (NotInstalledError, OSError, subprocess.CalledProcessError) as error:
        return f"it could not be installed. {error}"
    tell(f"{part.name}: installed after {time.monotonic() - began:.0f} s")
    return None


def _install_benthos(partial: Path) -> None:
    _run("Benthos", ["go", "build", "-v", "-trimpath", "-o", str(partial / BENTHOS.name), "."], "packages", "benthos")


def _install_connect(partial: Path) -> None:
    source, classes = _HERE / "connect", partial / "classes"
    copy = ["mvn", "-B", "-f", str(source / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    _run("Kafka Connect", copy, "lines of Maven")
    compiled = ["javac", "-nowarn", "-cp", str(partial / "*"), "-d", str(classes)]
    _run("Kafka Connect", [*compiled, *map(str, sorted((source / "src").glob("*.java")))], "lines of javac")
    services = classes / "META-INF" / "services"
    services.mkdir(parents=True)
    (services / "org.apache.kafka.connect.sink.SinkConnector").write_text("streams.bench.S3SinkConnector\n")
    (partial / _COMPLETE).touch()


def _install_quix(partial: Path) -> None:
    venv.create(partial, with_pip=True)
    pip = [str(partial / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    _run("Quix Streams", [*pip, f"quixstreams[s3]=={QUIX_VERSION}"], "lines of pip")
    (partial / _COMPLETE).touch()


def _run(name: str, command: Sequence[str], unit: str, directory: str = "") -> None:
    """Run a client of a package registry, and count its lines of output while it works."""
    process = subprocess.Popen(
        command, cwd=_HERE / directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    lines: list[str] = []
    told = time.monotonic()
    for line in process.stdout:
        lines.append(line.rstrip())
        if time.monotonic() - told > _TELL_EVERY_SECONDS:
            told = time.monotonic()
            tell(f"{name}: {len(lines)} {unit}")
    if process.wait() != 0:
        tail = "\n".join(lines[-_OUTPUT_LINES:])
        raise NotInstalledError(f"{command[0]} ended with exit code {process.returncode}:\n{tail}")


BENTHOS_PART = Part(f"Benthos {BENTHOS_VERSION}", BENTHOS, ("go",), _install_benthos, "2 minutes, once")
CONNECT_PART = Part(
    f"Kafka Connect {CONNECT_VERSION}",
    CONNECT_JARS / _COMPLETE,
    ("java", "javac", "mvn"),
    _install_connect,
    "30 s, once",
)
QUIX_PART = Part(f"Quix Streams {QUIX_VERSION}", QUIX_PYTHON.parents[1] / _COMPLETE, (), _install_quix, "40 s, once")
PARTS = (BENTHOS_PART, CONNECT_PART, QUIX_PART)


def main() -> int:
    """Install everything; a missing toolchain is told, and is no error."""
    reasons = missing(PARTS)
    for part in PARTS:
        tell(f"{part.name}: {'installed' if part.name not in reasons else f'skipped: {reasons[part.name]}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
