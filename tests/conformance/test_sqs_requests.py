"""The SQS sink's requests and what it makes of answers that a real server cannot be made to give; large events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from streams.delivery import Delivery
from streams.envelope import decode_dead_letter
from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError, StreamsError
from streams.record import Record
from streams.sinks import LedgerSink
from streams.sinks.sqs_message import payload_location, read_message
from streams.stats import Stats
from tests.conformance.conftest import StartAnySink, event
from tests.conformance.http_server import BrokenServer, HttpServer, Recorded, Reply
from tests.services.s3 import ACCESS_KEY, REGION, S3Server
from tests.services.sqs import SqsServer

pytestmark = pytest.mark.usefixtures("static_credentials")

NAMES = "AWS.SimpleQueueService."
Fault = Callable[[dict[str, Any]], dict[str, Any] | None]


def queue(url: str, **fields: Any) -> dict[str, Any]:
    """Settings for a queue at this server."""
    basis = {"sink": "sqs", "sqs_queue_url": f"{url}/000000000000/orders", "sqs_region": REGION, "on_reject": "hold"}
    return {**basis, **fields}


def error(status: int, code: str, message: str = "what SQS says", query_error: str = "") -> Reply:
    """An answer for a whole request, as SQS writes it."""
    body = orjson.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message}).decode()
    older = {"x-amzn-query-error": f"{query_error};Sender"} if query_error else {}
    return Reply(status, body, {"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": "r-1", **older})


def entries(request: Recorded) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(request.body)["Entries"]
    return found


def taking(fault: Fault = lambda entry: None) -> Callable[[Recorded], Reply]:
    """Answers as SQS does: each entry is taken, or failed with what `fault` says of it."""

    def answer(request: Recorded) -> Reply:
        taken, failed = [], []
        for entry in entries(request):
            found = fault(entry)
            if found is None:
                taken.append({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "-"})
            else:
                failed.append({"Id": entry["Id"], **found})
        return Reply(200, orjson.dumps({"Successful": taken, "Failed": failed}).decode())

    return answer


def offset_of(entry: dict[str, Any]) -> int:
    return int(entry["MessageAttributes"]["kafka-position"]["StringValue"].rpartition("/")[2])


async def test_ten_events_are_one_signed_request(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """One SendMessageBatch in AWS's JSON protocol, signed for the service and region."""
    http_server.answer = taking()
    sink = await start_any_sink(**queue(http_server.url))
    await asyncio.gather(*(sink.write(event(offset)) for offset in range(10)))
    (request,) = http_server.requests
    assert request.headers["X-Amz-Target"] == "AmazonSQS.SendMessageBatch"
    assert request.headers["Content-Type"] == "application/x-amz-json-1.0"
    assert request.access_key == ACCESS_KEY
    assert f"/{REGION}/sqs/aws4_request" in request.headers["Authorization"]
    assert [offset_of(entry) for entry in entries(request)] == list(range(10))


async def test_batch_of_one_is_a_request_for_each_event(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """`STREAMS_SQS_BATCH_EVENTS=1` takes the same path."""
    http_server.answer = taking()
    sink = await start_any_sink(**queue(http_server.url, sqs_batch_events=1))
    await asyncio.gather(*(sink.write(event(offset)) for offset in range(10)))
    assert [1] * 10 == [len(entries(request)) for request in http_server.requests]


async def test_partial_failures_are_retried_with_the_very_same_entry(
    start_any_sink: StartAnySink, http_server: HttpServer
) -> None:
    """Delivery retries what failed and nothing else, and the message is the same, byte for byte."""
    failed_once: set[int] = set()

    def fault(entry: dict[str, Any]) -> dict[str, Any] | None:
        offset = offset_of(entry)
        if offset % 4 or offset in failed_once:
            return None
        failed_once.add(offset)
        return {"Code": "InternalError", "Message": "try again", "SenderFault": False}

    http_server.answer = taking(fault)
    sink = await start_any_sink(**queue(http_server.url))
    acknowledged = await deliver(sink, [event(offset, headers=(("h", b"1"),)) for offset in range(40)])
    sent: dict[int, list[dict[str, Any]]] = {}
    for entry in (entry for request in http_server.requests for entry in entries(request)):
        sent.setdefault(offset_of(entry), []).append({**entry, "Id": ""})
    assert sorted(acknowledged) == list(range(40))
    assert {offset: len(attempts) for offset, attempts in sent.items()} == {
        offset: 1 if offset % 4 else 2 for offset in range(40)
    }
    assert all(attempts[0] == attempts[-1] for attempts in sent.values())


async def test_throttling_shrinks_the_adaptive_limit(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """Throttled entries are congestion to Delivery, as S3's SlowDown is, and every event gets through."""
    failures = iter([True] * 60 + [False] * 10_000)
    throttled = {"Code": "RequestThrottled", "Message": "slow down", "SenderFault": True}
    http_server.answer = taking(lambda entry: throttled if next(failures) else None)
    sink = await start_any_sink(**queue(http_server.url))
    stats = Stats()
    delivery = delivery_of(sink, stats)
    limit = delivery.limit.limit
    acknowledged = await deliver(sink, [event(offset) for offset in range(200)], delivery)
    assert sorted(acknowledged) == list(range(200))
    assert delivery.limit.limit < limit


def delivery_of(sink: Any, stats: Stats) -> Delivery:
    return Delivery(
        sink, stats, max_in_flight=1000, retry_base_seconds=0.01, retry_max_seconds=0.05, dead_letters=False
    )


async def deliver(sink: Any, records: list[Record], delivery: Delivery | None = None) -> list[int]:
    """Hand events to Delivery as the agent does; the offsets that were acknowledged."""
    delivery = delivery or delivery_of(sink, Stats())
    acknowledged: list[int] = []
    for record in records:
        await delivery.start(record, lambda done: acknowledged.append(done.offset))
    assert await delivery.wait_idle(30)
    return acknowledged


REQUEST_ERRORS: list[tuple[Reply, type[StreamsError], str]] = [
    (error(400, "QueueDoesNotExist", query_error=f"{NAMES}NonExistentQueue"), SinkRefusedError, "queue_missing"),
    (error(403, "AccessDeniedException"), SinkRefusedError, "access_denied"),
    (error(403, "AccessDenied", "not authorized to perform: kms:GenerateDataKey"), SinkRefusedError, "kms"),
    (error(400, "KmsDisabled", query_error="KMS.DisabledException"), SinkRefusedError, "kms"),
    (error(403, "InvalidClientTokenId"), SinkRefusedError, "access_denied"),
    (error(400, "MissingParameter"), SinkRefusedError, "refused"),
    (error(400, "NobodyKnowsThis"), SinkRefusedError, "refused"),
    (Reply(403, "<html>a proxy</html>"), SinkRefusedError, "access_denied"),
    (error(400, "KmsThrottled", query_error="KMS.ThrottlingException"), SinkUnavailableError, "throttled"),
    (error(403, "RequestThrottled"), SinkUnavailableError, "throttled"),
    (error(400, "ThrottlingException"), SinkUnavailableError, "throttled"),
    (error(400, "OverLimit"), SinkUnavailableError, "throttled"),
    (error(503, "ServiceUnavailable"), SinkUnavailableError, "throttled"),
    (Reply(503, ""), SinkUnavailableError, "throttled"),
    (error(500, "InternalFailure"), SinkUnavailableError, "server_error"),
    (Reply(502, "bad gateway"), SinkUnavailableError, "server_error"),
    (error(403, "ExpiredToken"), SinkUnavailableError, "credentials_expired"),
    (Reply(200, "{}"), SinkUnavailableError, "server_error"),
    (Reply(200, "<html>a portal</html>"), SinkUnavailableError, "server_error"),
    (error(400, "InvalidMessageContents"), RecordRejectedError, "invalid_request"),
    (error(400, "InvalidParameterValue", "Message must be shorter than 5 bytes."), RecordRejectedError, "too_large"),
]


@pytest.mark.parametrize(("reply", "kind", "reason"), REQUEST_ERRORS, ids=lambda value: str(value)[:60])
async def test_answer_means(
    start_any_sink: StartAnySink, http_server: HttpServer, reply: Reply, kind: type[StreamsError], reason: str
) -> None:
    """Only what SQS says of this message alone is the event's fault."""
    http_server.answer = reply
    sink = await start_any_sink(**queue(http_server.url))
    with pytest.raises(kind) as caught:
        await sink.write(event())
    assert reason == getattr(caught.value, "reason", None)


@pytest.mark.parametrize(
    ("code", "sender_fault", "kind", "reason"),
    [
        ("InternalError", False, SinkUnavailableError, "server_error"),
        ("ServiceUnavailable", False, SinkUnavailableError, "throttled"),
        ("InvalidMessageContents", True, RecordRejectedError, "invalid_request"),
        ("InvalidParameterValue", True, RecordRejectedError, "invalid_request"),
        ("AccessDenied", True, SinkRefusedError, "access_denied"),
        ("NobodyKnowsThis", True, SinkRefusedError, "refused"),
        ("NobodyKnowsThis", False, SinkUnavailableError, "server_error"),
    ],
)
async def test_failed_entry_means(
    start_any_sink: StartAnySink,
    http_server: HttpServer,
    code: str,
    sender_fault: bool,
    kind: type[StreamsError],
    reason: str,
) -> None:
    """An entry's code, and whose fault SQS says it is, count for that entry alone."""
    failed = {"Code": code, "Message": "what SQS says", "SenderFault": sender_fault}
    http_server.answer = taking(lambda entry: failed if offset_of(entry) == 1 else None)
    sink = await start_any_sink(**queue(http_server.url))
    outcomes = await asyncio.gather(*(sink.write(event(offset)) for offset in range(3)), return_exceptions=True)
    assert [int, kind, int] == [type(outcome) for outcome in outcomes]
    assert reason == getattr(outcomes[1], "reason", None)


@pytest.mark.parametrize(("behaviour", "reason"), [("reset", "connection"), ("hang", "timeout"), ("nonsense", "")])
async def test_broken_connection_is_unavailable(start_any_sink: StartAnySink, behaviour: str, reason: str) -> None:
    """What a broken network does is retried."""
    async with BrokenServer(behaviour) as server:
        limits = {"sqs_request_timeout_seconds": 1, "sqs_connect_timeout_seconds": 1}
        sink = await start_any_sink(**queue(server.url, **limits))
        with pytest.raises(SinkUnavailableError) as caught:
            await sink.write(event())
    assert reason in caught.value.reason


async def test_expired_credentials_are_got_anew(
    start_any_sink: StartAnySink, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request after `ExpiredToken` is signed with what the chain has then."""
    http_server.answer = taking()
    sink = await start_any_sink(**queue(http_server.url))
    await sink.write(event())
    monkeypatch.setattr("streams.sinks.credentials.RENEW_AGAIN_SECONDS", 0.0)
    http_server.answer = error(403, "ExpiredToken")
    with pytest.raises(SinkUnavailableError):
        await sink.write(event())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
    http_server.answer = taking()
    await sink.write(event())
    assert [ACCESS_KEY, ACCESS_KEY, "renewed"] == [request.access_key for request in http_server.requests]


# -- events past the size limit ----------------------------------------------------------------------------------------


def with_bucket(sqs_server: SqsServer, s3_server: S3Server, bucket: str, **fields: Any) -> dict[str, Any]:
    place = {"sqs_queue_url": sqs_server.create_queue(fifo=True), "s3_bucket": bucket}
    return {**queue("unused"), **place, "s3_endpoint_url": s3_server.endpoint_url, **fields}


@pytest.mark.parametrize("body", ["raw", "envelope"])
@pytest.mark.parametrize("key_bytes", [5, 1500], ids=["small-key", "large-key"])
async def test_large_event_goes_to_s3_with_a_pointer(
    start_any_sink: StartAnySink, sqs_server: SqsServer, s3_server: S3Server, bucket: str, body: str, key_bytes: int
) -> None:
    """The object is what the S3 sink writes, the message is the extended client's, together they are the event."""
    settings = with_bucket(sqs_server, s3_server, bucket, sqs_max_message_bytes=4096, body=body)
    sink = await start_any_sink(**settings)
    record = event(value=bytes(range(256)) * 20, key=b"\xff" * key_bytes)
    assert await sink.write(record) > 5120
    (message,) = sqs_server.receive_all(settings["sqs_queue_url"])
    location = payload_location(message.body, message.attributes)
    assert location == (bucket, "orders/3/00000000000000000007.json")
    payload = s3_server.read(*location).body
    assert message.attributes["ExtendedPayloadSize"] == str(len(payload))
    assert record == read_message(message.body, message.attributes, payload)


async def test_event_past_the_queues_own_limit_goes_to_s3_too(
    start_any_sink: StartAnySink, sqs_server: SqsServer, s3_server: S3Server, bucket: str
) -> None:
    """A queue may take less than the settings say: queues that were made before AWS raised the limit do."""
    settings = with_bucket(sqs_server, s3_server, bucket)
    sink = await start_any_sink(**settings)
    record = event(value=b"x" * 400_000)
    await sink.write(record)
    (message,) = sqs_server.receive_all(settings["sqs_queue_url"])
    location = payload_location(message.body, message.attributes)
    assert location is not None
    assert record == read_message(message.body, message.attributes, s3_server.read(*location).body)


async def test_large_event_keeps_its_place_in_its_group(
    start_any_sink: StartAnySink, sqs_server: SqsServer, s3_server: S3Server, bucket: str
) -> None:
    """What follows it in a FIFO queue waits until its object is there."""
    settings = with_bucket(sqs_server, s3_server, bucket, sqs_max_message_bytes=4096)
    sink = await start_any_sink(**settings)
    large = {3, 11}
    records = [event(offset, b"x" * 5000 if offset in large else b"small") for offset in range(20)]
    await asyncio.gather(*(sink.write(record) for record in records))
    found = sqs_server.receive_all(settings["sqs_queue_url"])
    assert list(range(20)) == [message.position[2] for message in found]


async def test_event_past_the_queues_own_limit_keeps_its_place(
    start_any_sink: StartAnySink, sqs_server: SqsServer, s3_server: S3Server, bucket: str
) -> None:
    """The queue itself refuses it, whose limit is the lower one; what follows waits until its object is there."""
    settings = with_bucket(sqs_server, s3_server, bucket)
    sink = await start_any_sink(**settings)
    large = {0, 3, 11, 12}
    records = [event(offset, b"x" * 400_000 if offset in large else b"small") for offset in range(20)]
    await asyncio.gather(*(sink.write(record) for record in records))
    found = sqs_server.receive_all(settings["sqs_queue_url"])
    assert list(range(20)) == [message.position[2] for message in found]
    assert large == {
        message.position[2] for message in found if payload_location(message.body, message.attributes) is not None
    }


async def test_failed_entry_of_a_fifo_queue_is_not_passed(
    start_any_sink: StartAnySink, http_server: HttpServer
) -> None:
    """Whatever SQS does with each entry of a request: within a group messages are taken in the order of the offsets."""
    taken: list[int] = []
    failed: set[int] = set()

    def fault(entry: dict[str, Any]) -> dict[str, Any] | None:
        offset = offset_of(entry)
        if offset % 3 == 0 and offset not in failed:
            failed.add(offset)
            return {"Code": "InternalError", "Message": "try again", "SenderFault": False}
        taken.append(offset)
        return None

    http_server.answer = taking(fault)
    url = f"{http_server.url}/000000000000/orders.fifo"
    sink = await start_any_sink(**queue(http_server.url, sqs_queue_url=url))
    keys = [b"a", b"b"]
    acknowledged = await deliver(sink, [event(offset, key=keys[offset % 2]) for offset in range(30)])
    assert sorted(acknowledged) == list(range(30))
    for group in range(2):
        assert list(range(group, 30, 2)) == [offset for offset in taken if offset % 2 == group]


async def test_large_event_without_a_bucket_is_rejected(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """The message names the limit and the setting that would take such events."""
    sink = await start_any_sink(**queue(http_server.url, sqs_max_message_bytes=4096, s3_bucket=""))
    with pytest.raises(RecordRejectedError, match="STREAMS_S3_BUCKET") as caught:
        await sink.write(event(value=b"x" * 5000))
    assert caught.value.reason == "too_large"
    assert caught.value.detail.startswith("orders/3/7: ")
    assert http_server.requests == []


async def test_dead_letters_go_to_the_bucket_where_there_is_one(
    start_any_sink: StartAnySink, sqs_server: SqsServer, s3_server: S3Server, bucket: str
) -> None:
    """Under the dead-letter prefix, as the S3 sink keeps them."""
    sink = await start_any_sink(**with_bucket(sqs_server, s3_server, bucket))
    key = await sink.write_dead_letter(event(), RecordRejectedError("too_large", "no room"))
    assert key == "dead-letter/orders/3/00000000000000000007.json"
    assert event() == decode_dead_letter(s3_server.read(bucket, key).body).record


async def test_no_ledger_is_kept(start_any_sink: StartAnySink, http_server: HttpServer) -> None:
    """A ledger proves what lies in a bucket; a queue's messages are taken out."""
    assert not isinstance(await start_any_sink(**queue(http_server.url)), LedgerSink)
