"""Looks at something again and again from threads of its own, beside the load that is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bench.errors import BenchError

_END_SECONDS = 60.0
"""How long a look may still take when it is over."""


class Sampler:
    """Calls each of `looks` every so many seconds within its `with` block, the first time at once.

    `check` raises what has ended a thread of it: a measurement with a hole is none.
    """

    def __init__(self, looks: dict[Callable[[], None], float]) -> None:
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(look, every_seconds), daemon=True)
            for look, every_seconds in looks.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_END_SECONDS)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return round(time.monotonic() - self._began, 3)

    def check(self) -> None:
        """Raises `BenchError` when looking has failed."""
        if self._failure is not None:
            raise BenchError(f"watching failed: {self._failure!r}") from self._failure

    def _repeat(self, look: Callable[[], None], every_seconds: float) -> None:
        try:
            while not self._stop.is_set():
                look()
                self._stop.wait(every_seconds)
        except Exception as error:
            self._failure = error
