"""`faust -A streams <command>` as a real process, with settings in its environment only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.worker import worker_environment


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    """Exit code; minus the signal's number when a signal has ended it."""
    raw: bytes
    """Standard output."""
    stderr: str

    @property
    def stdout(self) -> str:
        return self.raw.decode()

    def json(self) -> Any:
        """What it printed with `--json`."""
        return json.loads(self.raw)


class Command:
    """A command that is running."""

    def __init__(self, name: str, *args: str, settings: Mapping[str, str], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = " ".join([name, *args])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", "streams", name, *args],
            env=worker_environment(directory, {"STREAMS_DATA_DIR": str(directory / "data"), **settings}),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_seconds: float = 120) -> Finished:
        """Wait for the end; one that does not come fails the test."""
        try:
            out, err = self._process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            raise AssertionError(
                f"{self.name} did not end within {timeout_seconds:g} s\n{out.decode()}\n{err.decode()}"
            ) from None
        return Finished(self._process.returncode, out, err.decode())
