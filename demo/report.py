"""What the person at the terminal sees: steps, a progress bar, the closing table. Plain lines when nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.benchmark import Measurement

PLAIN_STEP = 250
"""Without a terminal, progress is one line for as many objects."""
PLAIN_WIDTH_COLUMNS = 80

Advance = Callable[[int], None]


class Report:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = PLAIN_WIDTH_COLUMNS

    def step(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Advance]:
        """Yields the function that is told how many are done."""
        if not self._console.is_terminal:
            yield self._plain_progress(description, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(description, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _plain_progress(self, description: str, total: int) -> Advance:
        shown = 0

        def advance(done: int) -> None:
            nonlocal shown
            if done >= min(shown + PLAIN_STEP, total) and done > shown:
                shown = done
                self.step(f"{description}: {done} of {total}")

        return advance

    def table(self, measurements: Sequence[Measurement], cost: str) -> None:
        """The result beside the published figures, and what the rate of the first row would cost."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=f"\n{cost}", caption_justify="left")
        table.add_column("", no_wrap=True)
        for heading in ("messages", "seconds", "per second", "verified"):
            table.add_column(heading, justify="right")
        for row in measurements:
            verified = "" if row.verified is None else f"{row.verified:,}"
            table.add_row(row.system, f"{row.messages:,}", f"{row.seconds:.2f}", f"{row.per_second:,.0f}", verified)
        self._console.print()
        self._console.print(table)
        self._console.print()
