"""A bounded number of jobs at once, for commands that ask S3 for a lot; the first failure ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

Job = Callable[[], Awaitable[None]]


async def run_in_parallel(jobs: Iterable[Job], limit: int) -> None:
    """Run the jobs, at most `limit` at a time; they are taken from the iterable one by one, as places come free.

    Raises what the first job that failed raised, when the others have been cancelled.
    """
    waiting = iter(jobs)
    runners = [asyncio.create_task(_run(waiting)) for _ in range(limit)]
    try:
        done, _ = await asyncio.wait(runners, return_when=asyncio.FIRST_EXCEPTION)
        for runner in done:
            runner.result()
    finally:
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)


async def _run(jobs: Iterator[Job]) -> None:
    for job in jobs:
        await job()
