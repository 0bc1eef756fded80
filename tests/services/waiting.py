"""Waiting for a condition, with a limit and words for the day it does not come true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(
    condition: Callable[[], Result],
    timeout_seconds: float,
    describe: str | Callable[[], str],
    interval_seconds: float = 0.1,
) -> Result:
    """Call `condition` until it returns something true, and return that.

    Raises `AssertionError` with `describe` (a sentence, or a function that says how things stand) after
    `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            words = describe() if callable(describe) else describe
            raise AssertionError(f"not within {timeout_seconds:g} s: {words}")
        time.sleep(interval_seconds)
