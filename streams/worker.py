"""The process around the app: preflight, signals, a bounded end, an exit code that can be believed."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import os
import signal
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import faust
import faust.cli.worker

from streams.consumer.consumer import SHARE_OF_TIMEOUT_FOR_WRITES
from streams.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.application import StreamsApp

logger = logging.getLogger(__name__)

GC_THRESHOLD_OBJECTS = 50_000

SAME_SIGNAL_SECONDS = 0.5
"""A second signal within this time is the same one: `timeout` and some process managers send two."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2


class StreamsWorker(faust.Worker):
    """Faust's worker, with what it lacks: it leaves in time, and at once when asked twice.

    Exit codes: 0 after a clean drain, 1 when something had to be given up (its events will be delivered again), 2 for a
    configuration that cannot work, 128 + n for a second signal n.
    """

    app: StreamsApp
    _stopping_since: float | None = None
    _stopping: asyncio.Task[None] | None = None

    def _setup_logging(self) -> None:
        """Log as `STREAMS_LOG_FORMAT` and `STREAMS_LOG_LEVEL` say; Faust's spinner and log tables are not for logs."""
        logging.config.dictConfig(self.logging_config or {})
        self.spinner = None

    def install_signal_handlers(self) -> None:
        """SIGTERM and SIGINT stop in order, a second one at once; Faust's own handlers are not used."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._on_stop_signal, number)

    def _on_stop_signal(self, number: signal.Signals) -> None:
        now = monotonic()
        if self._stopping_since is not None:
            if now - self._stopping_since < SAME_SIGNAL_SECONDS:
                return
            logger.warning("second %s: leaving at once; events in flight will be delivered again", number.name)
            _leave(128 + number)
        self._stopping_since = now
        timeout = self.app.settings.drain_timeout_seconds
        self.app.begin_drain()
        logger.info(
            "%s: stopping within %.0f s, of which writes in flight have %.0f s",
            number.name,
            timeout,
            timeout * SHARE_OF_TIMEOUT_FOR_WRITES,
        )
        self._leave_after(timeout)
        self._stopping = self.loop.create_task(self._stop_and_leave())

    async def _stop_and_leave(self) -> None:
        """Stop every service; then there is nothing left to wait for, and the process ends here."""
        try:
            await self.stop()
        except Exception:
            logger.exception("stopping failed")
        code = EXIT_OK if self.app.drained else EXIT_FAILED
        logger.info("left the group, exit code %d", code)
        _leave(code)

    def stop_and_shutdown(self) -> None:
        """The worker's own future is done as soon as stopping has begun: wait for the rest of it, which leaves."""
        if self._stopping is not None:
            self.loop.run_until_complete(self._stopping)
        super().stop_and_shutdown()

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
