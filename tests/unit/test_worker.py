"""What the process around the app writes and leaves out."""

from __future__ import annotations

import sys

import pytest
from faust.worker import Worker

from streams.worker import StreamsWorker


def test_worker_stopped_while_it_starts_writes_no_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Faust ends its spinner's line then, which would stand among JSON lines that a machine reads."""
    worker = object.__new__(StreamsWorker)
    worker.quiet, worker.stdout = False, sys.stdout
    Worker._on_shutdown_immediately(worker)
    assert capsys.readouterr().out == "\n"
    worker._on_shutdown_immediately()
    assert capsys.readouterr().out == ""
