"""The real worker, as `faust -A streams worker` in a process of its own: started, watched, and stopped with SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sysconfig
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from demo.errors import DemoError

USUAL_WEB_PORT = 6066
STOP_SECONDS = 40.0
"""Above the worker's own limit for draining (25 s), so that a slow stop is its verdict and not ours."""
COMMAND_SECONDS = 60.0
LOG_TAIL_LINES = 25
NOT_INHERITED = ("STREAMS_", "AWS_", "KAFKA_")
"""Settings of the person's own cluster and account have no business in a demonstration."""

_PROJECT = Path(__file__).resolve().parent.parent


def free_web_port() -> int:
    """The worker's usual port if nobody listens there, else any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_WEB_PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker_environment(settings: dict[str, str]) -> dict[str, str]:
    """Our environment without other settings of the same names, and without a proxy for addresses of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return inherited | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | settings


def faust_command() -> Path:
    """Faust's own program, of the environment that this runs in."""
    command = Path(sysconfig.get_path("scripts")) / "faust"
    if not command.exists():
        raise DemoError("The worker's command `faust` is not in this Python environment: start with `make demo`.")
    return command


def run_command(settings: dict[str, str], *words: str) -> tuple[int, str]:
    """Run `faust -A streams WORDS`, show what it prints, as it prints it, and return exit code and standard error."""
    finished = subprocess.run(
        [faust_command(), "-A", "streams", *words],
        cwd=_PROJECT,
        env=worker_environment(settings),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return finished.returncode, finished.stderr


class Worker:
    """One worker process; leaving the `with` block ends it, whatever happened before."""

    def __init__(self, settings: dict[str, str], log_file: Path) -> None:
        self._settings = settings
        self._log_file = log_file
        self.web_port = free_web_port()
        self.page_url = f"http://127.0.0.1:{self.web_port}/"

    def __enter__(self) -> Worker:
        command = faust_command()
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [command, "-A", "streams", "worker"],
                cwd=_PROJECT,
                env=worker_environment(self._settings | {"STREAMS_WEB_PORT": str(self.web_port)}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demonstration alone, which then stops the worker in order
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def check_running(self) -> None:
        """Raises when the worker has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"The worker ended by itself, with exit code {code}.")

    def stats(self) -> dict[str, Any]:
        """What the worker's `/stats` page says now."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.page_url}stats", timeout=10) as answer:
                document: dict[str, Any] = json.load(answer)
        except (OSError, ValueError) as error:
            raise DemoError(f"The page {self.page_url}stats could not be read: {error}") from error
        return document

    def stop(self) -> None:
        """Asks as an orchestrator does, and wants what an orchestrator wants: a clean drain, exit code 0."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"The worker was still running {STOP_SECONDS:.0f} s after SIGTERM.") from error
        if code != 0:
            raise DemoError(f"The worker's exit code after SIGTERM was {code} instead of 0.")

    def log_tail(self) -> str:
        """The last lines that the worker wrote, for the person who has to find out what went wrong."""
        lines = self._log_file.read_text(errors="replace").splitlines() if self._log_file.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])
