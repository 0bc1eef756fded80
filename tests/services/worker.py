"""`faust -A streams worker` as a real process: started from any directory, with settings in its environment only."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.services.install import ROOT
from tests.services.ports import free_port
from tests.services.process import ServerProcess
from tests.services.waiting import wait_until

# What a worker takes from the person's environment. Not HOME (it has ~/.aws), nothing of AWS's, Kafka's or Faust's.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX")


class WorkerProcess:
    """One worker. `settings` is its environment (`STREAMS_...`, `AWS_...`); web port and data directory are its own.

    `app` is what `faust -A` is given: a module of the tests may change the app or add to it.
    `start` may be called again after it has ended; the log goes on in the same file.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, str], name: str = "worker", app: str = "streams"
    ) -> None:
        self.name = name
        self.app = app
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.settings = dict(settings)
        self.web_port = int(self.settings.setdefault("STREAMS_WEB_PORT", str(free_port())))
        self.settings.setdefault("STREAMS_DATA_DIR", str(directory / "data"))
        self._process = ServerProcess(name, directory / f"{name}.log")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def log_file(self) -> Path:
        return self._process.log_file

    def log(self) -> str:
        """All that it has written to stdout and stderr."""
        return self._process.log()

    def log_tail(self, lines: int = 60) -> str:
        return self._process.log_tail(lines)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._process.start(
            [sys.executable, "-m", "faust", "-A", self.app, "worker"],
            worker_environment(self.directory, self.settings),
            self.directory,
        )

    def terminate(self) -> None:
        """SIGTERM, as Kubernetes and Auto Scaling send it; returns at once: `wait` for the exit code."""
        self._process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._process.kill()

    def freeze(self) -> None:
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    def wait(self, timeout_seconds: float = 60) -> int:
        """The exit code; minus the signal's number when a signal has ended it."""
        return self._process.wait(timeout_seconds)

    # -- what it says -------------------------------------------------------------------------------------------------

    def get(self, path: str, timeout_seconds: float = 5) -> tuple[int, str]:
        """Status and body of a page of its web server; `OSError` when it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=timeout_seconds) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stats(self) -> dict[str, Any]:
        """`GET /stats`."""
        status, body = self.get("/stats")
        assert status == 200, f"/stats answered {status}: {body}"
        document: dict[str, Any] = json.loads(body)
        return document

    def ready(self) -> bool:
        """Whether `/health/ready` says yes now; `AssertionError` when the process has ended."""
        if not self.running:
            raise AssertionError(f"{self.name} ended with exit code {self.wait(1)}\n{self.log_tail()}")
        try:
            return self.get("/health/ready", timeout_seconds=2)[0] == 200
        except OSError:
            return False

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        wait_until(self.ready, timeout_seconds, lambda: f"{self.name} is not ready\n{self.log_tail()}")


def worker_environment(directory: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker or a command: `settings`, and as little of the person's own as will do."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    fixed = {
        "HOME": str(directory),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Where each thread was, in the log, should native code end the process.
        "PYTHONFAULTHANDLER": "1",
        # No wait for an instance's metadata on a machine that is none.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return {**inherited, **fixed, **settings}
