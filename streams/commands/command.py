"""What all commands of `faust -A streams` have in common: options, progress, JSON, errors, exit codes.

Each command is a thin module beside this one over a module that knows nothing of click, rich or Faust. Importing
`streams.commands` makes Faust know them.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import signal
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from faust.cli import AppCommand, option
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from streams.errors import ConfigurationError, StreamsError
from streams.logs import logging_config
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.application import StreamsApp

EXIT_OK = 0
EXIT_WRONG = 1
"""Something is missing or wrong."""
EXIT_UNCHECKED = 2
"""It could not be checked, or the call was wrong."""

PLAIN_WIDTH_COLUMNS = 120
PLAIN_PROGRESS_SECONDS = 5.0

Advance = Callable[..., None]

json_option = option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")


class StreamsCommand(AppCommand):
    """A command of the app: a subclass is registered by being defined, under its name in lower case.

    `work` gets the options by name and returns the exit code. A `StreamsError` that it raises is printed, and the exit
    code is 2; SIGTERM and Ctrl-C cancel it and exit with 128 and the signal's number.
    """

    abstract = True
    app: StreamsApp
    needs_bucket = True
    """Whether it is about what lies in S3: such a command is refused with another sink."""

    @abstractmethod
    async def work(self, **options: Any) -> int:
        """Do what the command is for; returns the exit code."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run to the end and leave the process."""
        options = {**self.kwargs, **kwargs}
        self.as_json: bool = bool(options.pop("as_json", False)) or bool(self.json)
        logging.config.dictConfig(logging_config(self.settings.log_format, "warning"))
        sys.exit(asyncio.run(self._until_done_or_told_to_stop(options)))

    async def _until_done_or_told_to_stop(self, options: dict[str, Any]) -> int:
        task = asyncio.create_task(self._checked_work(options))
        received: list[int] = []

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            return await task
        except asyncio.CancelledError:
            if not received:
                raise
            self.notes.print(f"streams {self.name}: stopped by {signal.Signals(received[0]).name}.", markup=False)
            return 128 + received[0]
        except StreamsError as error:
            with suppress(BrokenPipeError):
                self.notes.print(f"streams {self.name}: {error}", markup=False, soft_wrap=True)
            return EXIT_UNCHECKED

    async def _checked_work(self, options: dict[str, Any]) -> int:
        if self.needs_bucket and self.settings.sink != "s3":
            raise ConfigurationError(
                f"this command looks at what lies in S3, and events go to {self.settings.sink.upper()} "
                f"(STREAMS_SINK={self.settings.sink})."
            )
        return await self.work(**options)

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return str(self.ctx.info_name)

    @property
    def settings(self) -> Settings:
        """The worker's own settings."""
        return self.app.settings

    @cached_property
    def console(self) -> Console:
        """Standard output: results."""
        return _console(stderr=False)

    @cached_property
    def notes(self) -> Console:
        """Standard error: progress, notes, errors."""
        return _console(stderr=True)

    def note(self, text: str) -> None:
        """A line for people; nothing where machines read."""
        if not self.as_json:
            self.notes.print(text, markup=False, soft_wrap=True)

    def print_json(self, document: Any) -> None:
        """One JSON document on standard output."""
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Shows how far long work is: yields `advance(count=1)`, cheap enough for every event."""
        if self.as_json:
            yield lambda count=1: None
        elif not self.notes.is_terminal:
            yield self._plain_progress(description, total)
        else:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, TimeRemainingColumn(), console=self.notes, transient=True) as bar:
                task = bar.add_task(description, total=total)
                yield lambda count=1: bar.advance(task, count)

    def _plain_progress(self, description: str, total: int | None) -> Advance:
        done, shown_at = 0, monotonic()

        def advance(count: int = 1) -> None:
            nonlocal done, shown_at
            done += count
            if monotonic() - shown_at >= PLAIN_PROGRESS_SECONDS:
                shown_at = monotonic()
                self.note(f"{description}: {done:,}" + ("" if total is None else f" of {total:,}"))

        return advance


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH_COLUMNS
    return console
