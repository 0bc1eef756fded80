"""The process around the app: preflight, signals, a bounded end, an exit code that can be believed."""

from __future__ import annotations

import gc
import logging
import logging.config
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import faust
import faust.cli.worker

from streams.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.application import StreamsApp

logger = logging.getLogger(__name__)

GC_THRESHOLD_OBJECTS = 50_000

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2


class StreamsWorker(faust.Worker):
    """Faust's worker, with what it lacks: it leaves in time, and at once when asked twice.

    Exit codes: 0 after a clean drain, 1 when something had to be given up (its events will be delivered again), 2 for a
    configuration that cannot work, 128 + n for a second signal n.
    """

    app: StreamsApp

    def _setup_logging(self) -> None:
        """Log as `STREAMS_LOG_FORMAT` and `STREAMS_LOG_LEVEL` say; Faust's spinner and log tables are not for logs."""
        logging.config.dictConfig(self.logging_config or {})
        self.spinner = None

    def _on_shutdown_immediately(self) -> None:
        """Stopped while it started: Faust would end its spinner's line, an empty one among the JSON lines."""

    def _on_sigterm(self) -> None:
        self._on_stop_signal(signal.SIGTERM, super()._on_sigterm)

    def _on_sigint(self) -> None:
        self._on_stop_signal(signal.SIGINT, self._flag_and_shutdown)

    def _flag_and_shutdown(self) -> None:
        self._flag_as_shutdown_by_signal()
        self._schedule_shutdown(signal.SIGINT)

    def _on_stop_signal(self, number: signal.Signals, stop: Callable[[], None]) -> None:
        if self._signal_stop_time:
            logger.warning("second %s: leaving at once; events in flight will be delivered again", number.name)
            _leave(128 + number)
        timeout = self.app.settings.drain_timeout_seconds
        self.app.begin_drain()
        logger.info("%s: stopping; writes in flight may finish within %.0f s", number.name, timeout)
        self._leave_after(timeout)
        stop()

    def _leave_after(self, timeout_seconds: float) -> None:
        """Whatever Kafka or S3 do, the process ends in time (a thread: the event loop itself may be stuck)."""

        def leave() -> None:
            clean = self.app.drained
            logger.warning("the drain timeout of %.0f s is over: leaving (clean: %s)", timeout_seconds, clean)
            _leave(EXIT_OK if clean else EXIT_FAILED)

        timer = threading.Timer(timeout_seconds, leave)
        timer.daemon = True
        timer.start()

    def execute_from_commandline(self) -> NoReturn:
        """Check, run, and exit with a code that says how it ended."""
        # Until Faust installs its handlers: a container's first process would ignore the signal otherwise.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            self.loop.run_until_complete(self.app.preflight())
        except ConfigurationError as error:
            print(f"streams: cannot start: {error}", file=sys.stderr)
            sys.exit(EXIT_CONFIGURATION)
        _collect_garbage_rarely()
        try:
            super().execute_from_commandline()
        except SystemExit as ended:
            if ended.code in (None, EXIT_OK) and not self.app.drained:
                sys.exit(EXIT_FAILED)
            logger.info("left the group, exit code %s", ended.code or EXIT_OK)
            raise


def leave_out_banner() -> None:
    """Faust prints a table of its own before anything is logged; a reader of JSON lines cannot use it."""
    faust.cli.worker.worker.on_worker_created = _say_nothing  # type: ignore[method-assign, assignment] # Faust has no switch


def _say_nothing(command: Any, worker: Any) -> None:
    """Takes the place of Faust's banner."""


def _collect_garbage_rarely() -> None:
    """What is loaded by now stays; an event leaves no cycles, so looking for them every 700 objects is wasted work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, *gc.get_threshold()[1:])


def _leave(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)


def refuse(error: ConfigurationError) -> NoReturn:
    """End a worker that turned out, after it had joined the group, to be unable to work as configured."""
    print(f"streams: cannot go on: {error}", file=sys.stderr, flush=True)
    _leave(EXIT_CONFIGURATION)
