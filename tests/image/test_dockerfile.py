"""What the image promises, read from the Dockerfile; `build.sh` beside this builds it for real, without an engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from streams.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
INSTRUCTIONS = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()


def instruction(start: str) -> str:
    """The rest of the last instruction that begins so."""
    return [line.removeprefix(start).strip() for line in INSTRUCTIONS if line.startswith(start)][-1]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in instruction("ENV ").split())


@contextmanager
def live_page(status: HTTPStatus) -> Iterator[int]:
    """A server whose /health/live answers with this status; yields its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/live" else HTTPStatus.NOT_FOUND)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: its requests are not the test's output."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def health_check(port: int) -> int:
    """Runs the image's own health check here; returns its exit code."""
    _, command = instruction("HEALTHCHECK ").split("CMD ", 1)
    arguments = [sys.executable, *json.loads(command)[1:]]
    variables = os.environ | {"STREAMS_WEB_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(arguments, env=variables, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode


@pytest.mark.parametrize(
    ("status", "exit_code"), [(HTTPStatus.OK, 0), (HTTPStatus.SERVICE_UNAVAILABLE, 1), (HTTPStatus.NOT_FOUND, 1)]
)
def test_health_check_follows_the_live_page(status: HTTPStatus, exit_code: int) -> None:
    """The container is healthy when /health/live answers 200, whatever proxy is set, and not otherwise."""
    with live_page(status) as port:
        assert exit_code == health_check(port)


def test_health_check_fails_when_nobody_listens() -> None:
    """A worker without its web server is not healthy."""
    with live_page(HTTPStatus.OK) as port:
        pass
    assert health_check(port) == 1


def test_worker_is_the_first_process_and_gets_the_signals() -> None:
    """The exec form without a shell in front: SIGTERM reaches the worker."""
    assert ["python", "-m", "streams", "worker"] == json.loads(instruction("CMD "))
    assert not any(line.startswith("ENTRYPOINT") for line in INSTRUCTIONS)


def test_procfile_starts_the_worker() -> None:
    """There the worker is never the first process, and is started as the README says."""
    assert (ROOT / "Procfile").read_text() == "worker: faust -A streams worker\n"


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile follows the rules of hadolint, but for those that a line names with its reason."""
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (found.returncode, found.stdout)


def test_base_is_pinned_by_tag() -> None:
    """A build of next year takes the same Debian and the same Python; a digest can be given as an argument."""
    assert re.fullmatch(r"ARG BASE=python:3\.1[1-3]-slim-[a-z]+", INSTRUCTIONS[first("ARG BASE")])
    assert ["FROM ${BASE} AS build", "FROM ${BASE} AS run"] == [
        line for line in INSTRUCTIONS if line.startswith("FROM")
    ]


def first(start: str) -> int:
    return next(number for number, line in enumerate(INSTRUCTIONS) if line.startswith(start))


def test_image_does_not_run_as_root() -> None:
    """The user is a number, so that Kubernetes' runAsNonRoot can be checked."""
    assert instruction("USER ") == "10001:10001"


def test_variables_of_the_image_are_settings() -> None:
    """The worker refuses variables that it does not know, so the image must not set one."""
    names = {name.removeprefix("STREAMS_") for name in environment() if name.startswith("STREAMS_")}
    assert {"WEB_BIND", "WEB_PORT", "DATA_DIR"} == names
    assert names <= {name.upper() for name in Settings.model_fields}
    assert environment()["STREAMS_WEB_PORT"] == instruction("EXPOSE ")


def test_dependencies_are_checked_against_their_hashes() -> None:
    """Nothing is installed from an index that is not the one that was pinned."""
    installs = [line for line in INSTRUCTIONS if "pip install" in line]
    assert len(installs) == 2
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line
