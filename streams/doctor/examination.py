"""`doctor`: checks everything that the worker needs, each as one finding with its remedy; knows nothing of a terminal.

The machine, Kafka and the sink are examined side by side, each within a time limit, and reported one after the other.
The checks are in `machine`, `kafka` (with `connection`, `offsets` and `costs`), `sinks.s3_doctor`,
`sinks.sqs_doctor` and `identity`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

from streams.doctor.findings import Finding, censored, secrets_of, wrong
from streams.doctor.identity import examine_identities
from streams.doctor.kafka import examine_kafka
from streams.doctor.machine import examine_machine
from streams.settings import Settings
from streams.sinks.s3_doctor import examine_s3
from streams.sinks.sqs_doctor import examine_sqs

logger = logging.getLogger(__name__)

SECTION_LIMIT_SECONDS: Final = 50.0
"""For all checks of Kafka, for all of S3 and for all of SQS: nobody waits for the doctor for more than a minute."""

Section = AsyncGenerator[Finding, None]


async def examine(settings: Settings, limit_seconds: float = SECTION_LIMIT_SECONDS, *, send: bool = False) -> Section:
    """Every finding, in the order of the report, each as soon as it is its turn.

    Sections run side by side; one that takes longer than `limit_seconds` ends with a finding that says so. With `send`
    each SQS queue gets a message, which stays there.
    """
    sections = {"machine": examine_machine(settings), "kafka": examine_kafka(settings)}
    if settings.sink == "sqs":
        sections["sqs"] = examine_sqs(settings, send=send)
    if settings.s3_bucket:
        sections["s3"] = examine_s3(settings)
    if settings.sink == "s3":
        sections["identity"] = examine_identities(settings)
    secrets = secrets_of(settings)
    async with aclosing(side_by_side(sections, limit_seconds)) as findings:
        async for finding in findings:
            yield censored(finding, secrets)


async def side_by_side(sections: Mapping[str, Section], limit_seconds: float) -> Section:
    """The findings of sections that run at the same time, one section after the other."""
    queues: list[asyncio.Queue[Finding | None]] = [asyncio.Queue() for _ in sections]
    tasks = [
        asyncio.create_task(_run(name, section, queue, limit_seconds))
        for (name, section), queue in zip(sections.items(), queues, strict=True)
    ]
    try:
        for queue, task in zip(queues, tasks, strict=True):
            while (finding := await queue.get()) is not None:
                yield finding
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(name: str, section: Section, queue: asyncio.Queue[Finding | None], limit_seconds: float) -> None:
    """Move a section's findings into its queue; `None` is the last, whatever happens."""
    try:
        async with aclosing(section) as findings, asyncio.timeout(limit_seconds):
            async for finding in findings:
                queue.put_nowait(finding)
    except TimeoutError:
        queue.put_nowait(_out_of_time(name, limit_seconds))
    except Exception as error:
        # A library's surprise: the other sections go on, and the report says that this one did not.
        logger.debug("doctor: %s", name, exc_info=True)
        queue.put_nowait(_unexpected(name, error))
    finally:
        queue.put_nowait(None)


def _unexpected(name: str, error: Exception) -> Finding:
    return wrong(
        name,
        f"stopped by an unexpected {type(error).__name__}; what is missing above was not checked",
        "Run it again; if it happens again, report it with this line.",
    )


def _out_of_time(name: str, limit_seconds: float) -> Finding:
    return wrong(
        name,
        f"the checks were not done after {limit_seconds:.0f} s; what is missing above was not checked",
        "Something answers too slowly or not at all: look at the lines above and at the network, and run it again.",
    )
