"""A server process in a session of its own: started, stopped, killed, frozen, and never left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_started: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


class ServerProcess:
    """One process, its output in `log_file`; `start` again after it has ended appends to the same log."""

    def __init__(self, name: str, log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        if self.running:
            raise RuntimeError(f"{self.name} is already running")
        log: IO[bytes]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _started.add(self)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens when it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_seconds: float) -> int:
        """The exit code (negative: the signal that ended it); `AssertionError` when it does not end in time."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout_seconds:g} s\n{self.log_tail()}") from None

    def kill(self) -> None:
        """End the whole session with SIGKILL, frozen or not, and collect it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it may end between the two calls
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        """The last lines of the log under a heading, for the message of a test that fails."""
        return "\n".join([f"--- log of {self.name} ---", *self.log().splitlines()[-lines:]])


@atexit.register
def _end_what_is_left() -> None:
    """A test run that is cut off between fixtures leaves no server behind."""
    for process in list(_started):
        process.kill()
