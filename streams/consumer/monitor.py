"""Faust's monitor, reduced to what an event can afford: plain counters instead of per-stream runtimes.

What it leaves out (runtimes, per-task counts) is measured where the write happens, in `stats`.
"""

from __future__ import annotations

from typing import Any

from faust.sensors.monitor import Monitor
from faust.types import TP


class CountingMonitor(Monitor):
    """Counts events in and out of the agents; everything else of Faust's monitor works as before."""

    mundane_level = "debug"

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: Any) -> None:
        """An agent has taken a run of events."""
        self.events_total += len(event.value.records)

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """The agent takes the next run; nothing is known of the events of the last one here."""
