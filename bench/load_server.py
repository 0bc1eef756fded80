"""Builds, starts and asks the load server (`bench/loadstub`), which plays S3 and SQS at an exact latency.

It is made for load and proves nothing about correctness: it checks and stores nothing. Building it needs Go.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError

REPOSITORY = Path(__file__).resolve().parent.parent
_SOURCE = Path(__file__).resolve().parent / "loadstub"
_BINARY = REPOSITORY / ".services" / "bench" / "loadstub"
_ANSWER_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """What the server has seen so far; times are nanoseconds since the epoch, 0 before the first write.

    A write is a PUT to S3 or a send to SQS. `puts` are the events that were written, `keys` those that differ, and
    `requests` what they came in; only a batch of SQS has more than one event to a request.
    """

    puts: int
    requests: int
    refused: int
    keys: int
    body_bytes: int
    other_requests: int
    connections: int
    max_in_flight: int
    first_put_ns: int
    last_put_ns: int
    abandoned_puts: int
    steady_per_second: float


def build() -> Path:
    """Compile the server; Go's own cache makes every build but the first take a moment."""
    if shutil.which("go") is None:
        raise BenchError("the load server needs Go 1.21 or later: install it and put `go` on the PATH")
    _BINARY.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        ["go", "build", "-trimpath", "-o", str(_BINARY), "."], cwd=_SOURCE, capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        raise BenchError(f"the load server does not compile:\n{built.stderr}")
    return _BINARY


class LoadServer:
    """A running load server; use it as a context manager."""

    def __init__(self, latency_ms: float) -> None:
        self._process = subprocess.Popen(
            [str(build()), "-latency", f"{latency_ms}ms"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            raise BenchError("the load server ended at once: its message is above")
        self._connection = http.client.HTTPConnection(self.address, timeout=_ANSWER_TIMEOUT_SECONDS)

    def __enter__(self) -> LoadServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.communicate()

    @property
    def url(self) -> str:
        """The endpoint that clients of S3 and of SQS are given."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """Its process, so that its own CPU can be shown beside what is measured."""
        return self._process.pid

    def counts(self) -> ServerCounts:
        """Ask for the counts; costs the server some microseconds."""
        self._connection.request("GET", "/__stats")
        return ServerCounts(**json.loads(self._connection.getresponse().read()))


@contextmanager
def load_server(latency_ms: float) -> Iterator[LoadServer]:
    """Run a load server of its own for one measurement, so that nothing is left of the one before."""
    with LoadServer(latency_ms) as server:
        yield server
