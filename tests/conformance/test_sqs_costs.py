"""What the SQS sink says it has used is what SQS was sent: requests, not events, and the objects beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.errors import RecordRejectedError, SinkUnavailableError
from streams.sinks import usage_of
from streams.stats import Stats
from tests.conformance.conftest import StartAnySink, event
from tests.conformance.http_server import HttpServer
from tests.conformance.test_sqs_requests import error, queue, taking
from tests.services.s3 import S3Server
from tests.services.sqs import SqsServer

pytestmark = pytest.mark.usefixtures("static_credentials")


async def test_events_of_one_request_are_billed_as_one(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """25 events in requests of ten are three requests."""
    http_server.answer = taking()
    sink = await start_any_sink(**queue(http_server.url, sqs_batch_linger_ms=20))
    await asyncio.gather(*(sink.write(event(offset)) for offset in range(25)))
    assert 3 == len(http_server.requests) == usage_of(sink, Stats()).sqs_requests


async def test_large_requests_are_billed_by_64_kib(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """A message of 200 KB is four; quotes, which JSON doubles on the wire, count once."""
    http_server.answer = taking()
    sink = await start_any_sink(**queue(http_server.url))
    await sink.write(event(1, b"x" * 200_000))
    assert 4 == usage_of(sink, Stats()).sqs_requests
    await sink.write(event(2, b'"' * 60_000))
    assert len(http_server.requests[-1].body) > 64 * 1024
    assert 5 == usage_of(sink, Stats()).sqs_requests


@pytest.mark.parametrize(("status", "billed"), [(503, 0), (400, 1)])
async def test_answers_5xx_are_not_billed(
    status: int, billed: int, start_any_sink: StartAnySink, http_server: HttpServer
) -> None:
    """As S3 does it; a request that SQS has refused counts."""
    http_server.answer = error(status, "RequestThrottled" if status == 400 else "ServiceUnavailable")
    sink = await start_any_sink(**queue(http_server.url))
    with pytest.raises(SinkUnavailableError):
        await sink.write(event())
    assert billed == usage_of(sink, Stats()).sqs_requests


async def test_objects_of_large_events_and_dead_letter_messages_are_counted(
    start_any_sink: StartAnySink, sqs_server: SqsServer, s3_server: S3Server, bucket: str
) -> None:
    """An event past the limit is a PUT and a request, with real servers for both."""
    settings: dict[str, Any] = {
        **queue(sqs_server.endpoint_url),
        "sqs_queue_url": sqs_server.create_queue(),
        "sqs_max_message_bytes": "4KiB",
        "s3_bucket": bucket,
        "s3_endpoint_url": s3_server.endpoint_url,
    }
    sink = await start_any_sink(**settings)
    await sink.write(event(1))
    await sink.write(event(2, b"x" * 5_000))
    used = usage_of(sink, Stats())
    assert (1, 1, 5_000, 2) == (used.s3_puts, used.s3_objects, used.s3_bytes, used.sqs_requests)
    assert 1 == len(s3_server.keys(bucket))


async def test_requests_for_dead_letters_are_counted(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """They go to a queue of their own, at the same price."""
    http_server.answer = taking()
    sink = await start_any_sink(
        **queue(http_server.url, sqs_dead_letter_queue_url=f"{http_server.url}/000000000000/rejected")
    )
    await sink.write_dead_letter(event(), RecordRejectedError("too_large", "why"))
    assert 1 == usage_of(sink, Stats()).sqs_requests
