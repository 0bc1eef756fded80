"""The sink contract (`streams.sinks`), rule by rule, over every sink and against real servers.

S3 by obstore, S3 by aiobotocore, SQS standard and SQS FIFO: what is written is read back with boto3 and compared.
"""

from __future__ import annotations

import asyncio

import pytest

from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError
from streams.record import Record
from tests.conformance.conftest import StartAnySink, Target, event
from tests.services.ports import free_port

pytestmark = pytest.mark.usefixtures("static_credentials")

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    "record",
    [
        event(),
        event(value=b""),
        event(value=None),
        event(value=EVERY_BYTE),
        event(value=b"\r\n\x00"),
        event(value="żółć 😀 \uffff".encode()),
        event(value=b'"\t\r\n"'),
        event(key=None),
        event(key=b""),
        event(key=EVERY_BYTE),
        event(headers=(("a", b"1"), ("a", b"2"), ("b", None), ("", b""))),
        event(headers=(("żółć=&%", EVERY_BYTE),)),
        event(headers=(("", None),)),
        event(headers=(("large", b"x" * 3000),)),
        event(timestamp_ms=None, timestamp_type=None),
        event(timestamp_ms=-1, timestamp_type=1),
        event(key=None, value=None),
    ],
    ids=lambda record: repr(record)[:60],
)
async def test_event_comes_back_byte_for_byte(start_any_sink: StartAnySink, target: Target, record: Record) -> None:
    """Value, key, headers, timestamp and nulls survive, whatever bytes they hold; the bytes sent are counted."""
    sink = await start_any_sink(**target.settings)
    assert await sink.write(record) >= len(record.value or b"")
    assert [record] == target.events()


@pytest.mark.parametrize("value", [b'{"id": 7}', b'"\xef\xbf\xbf"', None, EVERY_BYTE], ids=repr)
async def test_envelope_holds_the_whole_event(start_any_sink: StartAnySink, target: Target, value: bytes) -> None:
    """With `STREAMS_BODY=envelope` the body alone is the event."""
    sink = await start_any_sink(**target.settings, body="envelope")
    record = event(value=value, headers=(("h", EVERY_BYTE),), key=None)
    await sink.write(record)
    assert [record] == target.events(envelope=True)


async def test_two_hundred_writes_overlap(start_any_sink: StartAnySink, target: Target) -> None:
    """Writes that wait at the same time never mix up their bodies or metadata."""
    sink = await start_any_sink(**target.settings)
    records = [event(offset=offset, value=b"value %d" % offset, key=b"key %d" % (offset % 30)) for offset in range(200)]
    await asyncio.gather(*(sink.write(record) for record in records))
    assert records == target.events()


async def test_writing_again_is_harmless(start_any_sink: StartAnySink, target: Target) -> None:
    """A redelivered event is there once; in a standard queue, which has no names, it is there again and identical."""
    sink = await start_any_sink(**target.settings)
    await sink.write(event())
    await sink.write(event())
    assert [event()] * (2 if target.keeps_repeats else 1) == target.events()


async def test_cancelled_write_leaves_its_neighbours_alone(start_any_sink: StartAnySink, target: Target) -> None:
    """A rebalance or shutdown cancels writes: they raise that and nothing else, and all others become durable."""
    sink = await start_any_sink(**target.settings)
    tasks = [asyncio.create_task(sink.write(event(offset=offset))) for offset in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::3])
    await sink.write(event(offset=30))
    found = {record.offset for record in target.events()}
    assert {offset for offset in range(31) if offset % 3 or offset == 30} <= found


async def test_dead_letter_holds_the_event_and_the_reason(start_any_sink: StartAnySink, target: Target) -> None:
    """A rejected event is kept whole, under a name that depends on its position alone."""
    sink = await start_any_sink(**target.settings)
    record = event(key=EVERY_BYTE, value=b"not json", headers=(("h", None),))
    rejection = RecordRejectedError("too_large", "no room")
    first = await sink.write_dead_letter(record, rejection)
    assert first == await sink.write_dead_letter(record, rejection)
    letters = target.dead_letters()
    assert [(record, "too_large", "no room")] * len(letters) == [
        (one.record, one.reason, one.detail) for one in letters
    ]
    assert letters


async def test_missing_place_refuses(start_any_sink: StartAnySink, target: Target) -> None:
    """The events wait until somebody makes the bucket or queue; the message says which setting to look at."""
    sink = await start_any_sink(**target.missing)
    outcomes = await asyncio.gather(
        *(sink.write(event(at, key=b"%d" % at)) for at in range(12)), return_exceptions=True
    )
    for outcome in outcomes:
        assert isinstance(outcome, SinkRefusedError)
        assert target.missing_reason == outcome.reason
        assert "STREAMS_S" in outcome.remedy
    assert len(outcomes) == len({id(outcome) for outcome in outcomes}), "each write has an exception of its own"


async def test_service_that_is_down_is_unavailable(start_any_sink: StartAnySink, target: Target) -> None:
    """Starting needs no network, and an outage is never the event's fault."""
    address = f"http://127.0.0.1:{free_port()}"
    sink = await start_any_sink(**{**target.settings, "s3_endpoint_url": address, "sqs_endpoint_url": address})
    with pytest.raises(SinkUnavailableError) as caught:
        await sink.write(event())
    assert caught.value.reason == "connection"


async def test_no_credentials_refuse(
    start_any_sink: StartAnySink, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker without credentials says so and holds its events."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    sink = await start_any_sink(**target.settings)
    with pytest.raises(SinkRefusedError) as caught:
        await sink.write(event())
    assert caught.value.reason == "credentials_missing"
