"""What the process around the app does with signals."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from streams import worker as module
from streams.worker import SAME_SIGNAL_SECONDS, StreamsWorker


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that only notes what it would do."""
    worker = object.__new__(StreamsWorker)
    begun: list[str] = []
    app = SimpleNamespace(
        settings=SimpleNamespace(drain_timeout_seconds=5.0), begin_drain=lambda: begun.append("drain")
    )
    loop = SimpleNamespace(create_task=lambda work: work.close())
    worker.begun, worker.app, worker.loop = begun, app, loop  # type: ignore[attr-defined, assignment] # not a real one
    monkeypatch.setattr(worker, "_leave_after", lambda seconds: begun.append(f"leave after {seconds:.0f}"))

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(module, "_leave", leave)
    return worker


def test_second_signal_within_half_a_second_is_the_same_one(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends two: it still drains. A later one ends the process at once."""
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    worker._on_stop_signal(signal.SIGTERM)
    now += SAME_SIGNAL_SECONDS / 2
    worker._on_stop_signal(signal.SIGTERM)
    assert ["drain", "leave after 5"] == worker.begun
    now += SAME_SIGNAL_SECONDS
    with pytest.raises(SystemExit) as ended:
        worker._on_stop_signal(signal.SIGTERM)
    assert 128 + signal.SIGTERM == ended.value.code
