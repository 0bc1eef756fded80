"""What the S3 sink adds to the contract (`test_sink_contract`): keys, sidecars, tags, the ledger; on a real server."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from streams.envelope import decode_dead_letter, decode_envelope
from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError
from streams.ledger import Segment, decode_segment, segment_digest
from streams.metadata import record_fields_from_metadata
from streams.record import Record
from tests.conformance.conftest import StartClient, StartSink, event
from tests.services.ports import free_port
from tests.services.s3 import S3Server

pytestmark = pytest.mark.usefixtures("static_credentials")

KEY = "orders/3/00000000000000000007.json"
EVERY_BYTE = bytes(range(256))


def restored(server: S3Server, bucket: str, key: str) -> Record:
    """The event that an object was made of, from the object alone (and its sidecar, where it names one)."""
    stored = server.read(bucket, key)
    suffix = stored.metadata.get("kafka-sidecar")
    sidecar = None if suffix is None else server.read(bucket, key + suffix).body
    return record_fields_from_metadata(stored.metadata, sidecar).to_record(stored.body)


@pytest.mark.parametrize(
    "value",
    [b'{"id": 7}', b"", None, EVERY_BYTE, b"\r\n\x00", "żółć 😀".encode(), bytes(1024**2)],
    ids=["json", "empty", "tombstone", "every-byte", "control-bytes", "utf-8", "1-MiB"],
)
async def test_value_is_stored_byte_for_byte(
    start_sink: StartSink, s3_server: S3Server, bucket: str, value: bytes | None
) -> None:
    """Whatever the value, the object's body is the value; null and empty stay apart; the bytes sent are counted."""
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    record = event(value=value)
    assert await sink.write(record) == len(value or b"")
    assert s3_server.keys(bucket) == [KEY]
    assert s3_server.read(bucket, KEY).body == (value or b"")
    assert restored(s3_server, bucket, KEY) == record


async def test_metadata_past_two_kilobytes_goes_into_a_sidecar(
    start_sink: StartSink, s3_server: S3Server, bucket: str
) -> None:
    """Large headers cost a second object, nothing is cut off, and both objects count in the bytes sent."""
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    record = event(headers=(("large", b"x" * 3000),))
    sent_bytes = await sink.write(record)
    assert s3_server.keys(bucket) == [KEY, f"{KEY}.kafka.json"]
    assert sum(len(stored.body) for stored in s3_server.objects(bucket)) == sent_bytes
    assert restored(s3_server, bucket, KEY) == record
    assert s3_server.read(bucket, f"{KEY}.kafka.json").content_type == "application/json"


async def test_writing_again_changes_nothing(start_sink: StartSink, s3_server: S3Server, bucket: str) -> None:
    """A redelivered event overwrites its own object with the same bytes and metadata."""
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    await sink.write(event())
    first = list(s3_server.objects(bucket))
    await sink.write(event())
    assert list(s3_server.objects(bucket)) == first


async def test_ledger_segment_is_stored_under_its_position(
    start_sink: StartSink, s3_server: S3Server, bucket: str
) -> None:
    """One JSON object under the ledger's prefix; writing it again changes nothing."""
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url, ledger_prefix="proof/")
    segment = Segment("orders", 3, 7, 10_017, ((20, 30),), ((30, 31),))
    key = await sink.write_ledger(segment)
    first = list(s3_server.objects(bucket))
    assert key == await sink.write_ledger(segment)
    assert first == list(s3_server.objects(bucket))
    (stored,) = first
    assert (key, "application/json", {}) == (stored.key, stored.content_type, stored.metadata)
    assert segment == decode_segment(stored.body)
    assert f"proof/orders/3/{7:020d}-{10_017:020d}-{segment_digest(stored.body)}.json" == key


async def test_content_type_is_that_of_the_settings(start_sink: StartSink, s3_server: S3Server, bucket: str) -> None:
    """Objects say what the user says they are."""
    fields = {"s3_bucket": bucket, "s3_endpoint_url": s3_server.endpoint_url}
    sink = await start_sink(**fields, s3_content_type="application/avro")
    await sink.write(event())
    assert s3_server.read(bucket, KEY).content_type == "application/avro"


async def test_tags_are_stored(start_sink: StartSink, s3_server: S3Server, bucket: str) -> None:
    """Tags with any characters arrive as they were set."""
    sink = await start_sink(
        s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url, s3_tags="team=data%20platform&source=kafka%2B"
    )
    await sink.write(event())
    found = s3_server.client.get_object_tagging(Bucket=bucket, Key=KEY)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in found} == {"team": "data platform", "source": "kafka+"}


async def test_envelope_holds_the_whole_event(start_sink: StartSink, s3_server: S3Server, bucket: str) -> None:
    """With `STREAMS_BODY=envelope` the object alone is the event."""
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url, body="envelope")
    record = event(headers=(("h", EVERY_BYTE),), key=None)
    sent_bytes = await sink.write(record)
    stored = s3_server.read(bucket, KEY)
    assert decode_envelope(stored.body) == record
    assert (sent_bytes, {}) == (len(stored.body), stored.metadata)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "a b",
        "a%b",
        "a%20b",
        "a+b",
        "a#b",
        "a?b=c&d",
        "a.",
        "..a",
        ".",
        "..",
        "żółć 😀",
        "a/b",
        "a\\b",
        "'(*)!~",
    ],
)
async def test_object_key_is_the_same_with_every_client(
    start_sink: StartSink, s3_server: S3Server, bucket: str, text: str
) -> None:
    """Text of an event in the key, and a prefix with special characters, arrive in S3 as the template wrote them."""
    template = "{prefix}{topic}/{partition}/{offset}/{key}.json"
    sink = await start_sink(
        s3_bucket=bucket,
        s3_endpoint_url=s3_server.endpoint_url,
        s3_prefix="a b+c/é#1?/",
        object_key_template=template,
    )
    await sink.write(event(key=text.encode()))
    encoded = quote(text, safe="-_.~!*'()") if text.strip(".") else text.replace(".", "%2E")
    assert s3_server.keys(bucket) == [f"a b+c/é#1?/orders/3/00000000000000000007/{encoded}.json"]


async def test_dead_letter_holds_the_event_and_the_reason(
    start_sink: StartSink, s3_server: S3Server, bucket: str
) -> None:
    """A rejected event is kept whole, at a key that depends on its position alone."""
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url, dead_letter_prefix="rejected/")
    record = event(key=EVERY_BYTE, value=b"not json", headers=(("h", None),))
    key = await sink.write_dead_letter(record, RecordRejectedError("too_large", "no room"))
    assert key == "rejected/orders/3/00000000000000000007.json"
    assert await sink.write_dead_letter(record, RecordRejectedError("too_large", "no room")) == key
    stored = s3_server.read(bucket, key)
    letter = decode_dead_letter(stored.body)
    assert (letter.record, letter.reason, letter.detail, letter.original_object_key) == (
        record,
        "too_large",
        "no room",
        KEY,
    )
    assert stored.content_type == "application/json"


async def test_missing_template_field_is_rejected_and_can_be_dead_lettered(
    start_sink: StartSink, s3_server: S3Server, bucket: str
) -> None:
    """An event without the field never gets a key; it is rejected before anything is sent."""
    sink = await start_sink(
        s3_bucket=bucket,
        s3_endpoint_url=s3_server.endpoint_url,
        object_key_template="{topic}/{partition}/{offset}/{value.id}.json",
    )
    with pytest.raises(RecordRejectedError) as caught:
        await sink.write(event(value=b"{}"))
    assert caught.value.reason == "key_template"
    key = await sink.write_dead_letter(event(value=b"{}"), caught.value)
    assert decode_dead_letter(s3_server.read(bucket, key).body).original_object_key is None


async def test_missing_bucket_refuses(start_sink: StartSink, s3_server: S3Server) -> None:
    """The event waits until somebody makes the bucket; the message says which setting to look at."""
    sink = await start_sink(s3_bucket="nobody-made-this", s3_endpoint_url=s3_server.endpoint_url)
    with pytest.raises(SinkRefusedError) as caught:
        await sink.write(event())
    assert caught.value.reason == "bucket_missing"
    assert "STREAMS_S3_BUCKET" in caught.value.remedy


@pytest.mark.parametrize(("variable", "value"), [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "wrong")])
async def test_wrong_credentials_refuse(
    start_sink: StartSink,
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    """Wrong keys hold the events, point at the credentials and show none of them."""
    monkeypatch.setenv(variable, value)
    sink = await start_sink(s3_bucket=bucket, s3_endpoint_url=s3_server.endpoint_url)
    with pytest.raises(SinkRefusedError) as caught:
        await sink.write(event())
    assert caught.value.reason == "access_denied"
    assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
    assert "streams-tests-secret" not in str(caught.value)


async def test_unreachable_server_is_unavailable(start_sink: StartSink) -> None:
    """A server that is down is nobody's fault: retry."""
    sink = await start_sink(s3_endpoint_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SinkUnavailableError) as caught:
        await sink.write(event())
    assert caught.value.reason == "connection"


async def test_server_that_comes_back_is_written_to(start_sink: StartSink, own_s3_server: S3Server) -> None:
    """After an outage the same sink works again, on new connections."""
    own_s3_server.create_bucket("events")
    sink = await start_sink(s3_endpoint_url=own_s3_server.endpoint_url)
    await sink.write(event(offset=1))
    own_s3_server.kill()
    with pytest.raises(SinkUnavailableError):
        await sink.write(event(offset=2))
    own_s3_server.start()
    await sink.write(event(offset=2))
    assert len(own_s3_server.keys("events")) == 2


async def test_frozen_server_times_out(start_sink: StartSink, own_s3_server: S3Server) -> None:
    """A server that says nothing costs `STREAMS_S3_REQUEST_TIMEOUT_SECONDS`, no more."""
    own_s3_server.create_bucket("events")
    sink = await start_sink(s3_endpoint_url=own_s3_server.endpoint_url, s3_request_timeout_seconds=1)
    await sink.write(event(offset=1))
    own_s3_server.freeze()
    try:
        with pytest.raises(SinkUnavailableError) as caught:
            await sink.write(event(offset=2))
    finally:
        own_s3_server.thaw()
    assert caught.value.reason == "timeout"


async def test_closed_sink_can_be_closed_again(start_client: StartClient, s3_server: S3Server) -> None:
    """Shutdown may come twice."""
    client = await start_client(s3_endpoint_url=s3_server.endpoint_url)
    await client.close()
    await client.close()
