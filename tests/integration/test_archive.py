"""`S3Reader` and `Archive` on the real S3 server: what the sink has written comes back exactly, whatever its form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from streams.archive.objects import Archive
from streams.errors import (
    DamagedObjectError,
    RecordRejectedError,
    SinkRefusedError,
    SinkUnavailableError,
)
from streams.record import Record
from streams.settings import Settings
from streams.sinks import make_sink
from streams.sinks.s3_reader import S3Reader
from tests.services.s3 import S3Server
from tests.services.s3_faults import ACCESS_DENIED, INTERNAL_ERROR, RESET, SLOW_DOWN, always
from tests.services.s3_proxy import S3FaultProxy

MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings_for(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Settings for the test's bucket, with changes."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)

    def make(**changes: object) -> Settings:
        values: Mapping[str, object] = {
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "topics": "orders",
            "consumer_group": "unused",
            "s3_bucket": bucket,
            "s3_endpoint_url": s3_server.endpoint_url,
            "s3_prefix": "events/",
            **changes,
        }
        return Settings(**values)  # type: ignore[arg-type] # a test's own values

    return make


def _record(offset: int, value: bytes | None = b"{}", **changes: object) -> Record:
    fields: dict[str, object] = {"timestamp_ms": 1_700_000_000_000, "timestamp_type": 0, "key": b"k", **changes}
    return Record("orders", 3, offset, value=value, **fields)  # type: ignore[arg-type] # a test's own values


@asynccontextmanager
async def _archive(settings: Settings, *records: Record) -> AsyncIterator[Archive]:
    """An archive in which these records have been written."""
    sink = make_sink(settings)
    await sink.start()
    try:
        for record in records:
            await sink.write(record)
    finally:
        await sink.close()
    async with S3Reader(settings, patience_seconds=1) as reader:
        yield Archive(settings, reader)


RECORDS: tuple[Record, ...] = (
    _record(0),
    _record(1, None, key=None),
    _record(2, b"", key=b""),
    _record(3, b"\x00\xff", headers=(("a", b"1"), ("a", None), ("", b"\xff"))),
    _record(4, b'{"a": 1}', headers=(("big", b"x" * 3000),)),
    _record(5, b"null", timestamp_ms=None, timestamp_type=None),
)


@pytest.mark.parametrize("body", ["raw", "envelope"])
@pytest.mark.parametrize(
    "template", ["{prefix}{topic}/{partition}/{offset}.json", "{prefix}{value.id}/{topic}-{partition}-{offset:d}"]
)
async def test_every_event_comes_back_exactly(settings_for: MakeSettings, body: str, template: str) -> None:
    """Nulls, empty values, binary, sidecars: found by position and equal to what was written."""
    records = RECORDS
    if "value" in template:
        records = tuple(_record(offset, b'{"id": "%d"}' % (99 - offset)) for offset in (0, 2, 10, 9))
    async with _archive(settings_for(body=body, object_key_template=template), *records) as archive:
        assert list(records) == [await archive.event("orders", 3, record.offset) for record in records]
        assert [None, None] == [await archive.event("orders", 3, 77), await archive.find_key("orders", 4, 0)]
        offsets = sorted(record.offset for record in records)
        assert offsets == [offset async for offset, _ in archive.keys("orders", 3)]
        assert offsets[1:3] == [offset async for offset, _ in archive.keys("orders", 3, offsets[1], offsets[3])]


async def test_a_body_setting_that_changed_does_not_matter(settings_for: MakeSettings) -> None:
    """Objects say themselves which form they have."""
    async with _archive(settings_for(body="envelope"), _record(1)):
        pass
    async with _archive(settings_for(body="raw"), _record(2)) as archive:
        assert [_record(1), _record(2)] == [await archive.event("orders", 3, offset) for offset in (1, 2)]


async def test_dead_letters_are_found(settings_for: MakeSettings) -> None:
    """An event that is only in the dead letters is read from there, with its reason."""
    settings = settings_for()
    sink = make_sink(settings)
    await sink.start()
    await sink.write_dead_letter(_record(7), RecordRejectedError("too_large", "9 GB"))
    await sink.close()
    async with _archive(settings) as archive:
        assert _record(7) == await archive.event("orders", 3, 7)
        letter = await archive.read_dead_letter(archive.layout.dead_letter_key("orders", 3, 7))
        assert letter is not None
        assert ("too_large", _record(7)) == (letter.reason, letter.record)
        assert None is await archive.read_dead_letter(archive.layout.dead_letter_key("orders", 3, 8))


async def test_damaged_objects_are_named(settings_for: MakeSettings, s3_server: S3Server, bucket: str) -> None:
    """An object without our metadata, and one whose sidecar is gone, are errors that name the key."""
    async with _archive(settings_for(), _record(4, b"v", headers=(("big", b"x" * 3000),))) as archive:
        key = archive.layout.template.key_at("orders", 3, 4) or ""
        s3_server.client.delete_object(Bucket=bucket, Key=key + ".kafka.json")
        with pytest.raises(DamagedObjectError, match=f"{key}: its sidecar"):
            await archive.read(key)
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"not an envelope")
        with pytest.raises(DamagedObjectError, match=key):
            await archive.read(key)


async def test_listings_page_cut_and_begin_where_told(
    settings_for: MakeSettings, s3_server: S3Server, bucket: str
) -> None:
    """More than a page, a prefix that ends inside a path segment, and keys behind another."""
    for number in range(1105):
        s3_server.client.put_object(Bucket=bucket, Key=f"a/k-1{number:04d}", Body=b"")
    for key in ("a/k-0", "a/k-2", "a/k-2b/x", "b", "a/j"):
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"")
    async with S3Reader(settings_for()) as reader:

        async def keys(prefix: str, after: str = "") -> list[str]:
            return [one.object_key async for page in reader.list(prefix, after=after) for one in page]

        assert [f"a/k-1{number:04d}" for number in range(1105)] == await keys("a/k-1")
        assert 2 == reader.requests["LIST"]
        assert ["a/k-11104", "a/k-2", "a/k-2b/x"] == await keys("a/", "a/k-11103")
        assert ["a/k-2", "a/k-2b/x"] == await keys("a/k-2", "a/k-0")
        assert [] == await keys("nothing/")
        assert 1110 == len(await keys(""))


async def test_delete_and_exists(settings_for: MakeSettings, s3_server: S3Server, bucket: str) -> None:
    """Deleting twice is fine; a missing object is no error."""
    s3_server.client.put_object(Bucket=bucket, Key="x", Body=b"")
    async with S3Reader(settings_for()) as reader:
        assert await reader.exists("x")
        await reader.delete("x")
        await reader.delete("x")
        assert not await reader.exists("x")
        assert None is await reader.get("x")


async def test_size_is_looked_at_before_the_body(settings_for: MakeSettings, s3_server: S3Server, bucket: str) -> None:
    """An object that nothing of ours can be is named, and not read into memory."""
    s3_server.client.put_object(Bucket=bucket, Key="large", Body=b"x" * 1001)
    async with S3Reader(settings_for()) as reader:
        with pytest.raises(DamagedObjectError, match=r"large has 1,001 bytes.*1,000"):
            await reader.get("large", 1000)
        assert 1 == reader.requests["GET"]
        found = await reader.get("large", 1001)
        assert found is not None
        assert 1001 == len(found.body)


async def test_trouble_is_waited_out_and_refusals_are_not(
    settings_for: MakeSettings, s3_proxy: S3FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    """What may pass is tried again; a refusal ends the request at once, with its remedy."""
    s3_server.client.put_object(Bucket=bucket, Key="x", Body=b"body")
    settings = settings_for(s3_endpoint_url=s3_proxy.endpoint_url, retry_base_seconds=0.01)
    async with S3Reader(settings, patience_seconds=2) as reader:
        for trouble in (SLOW_DOWN, INTERNAL_ERROR, RESET):
            s3_proxy.rule = lambda request, trouble=trouble: trouble if request.number % 3 else None
            found = await reader.get("x")
            assert found is not None
            assert b"body" == found.body
            assert ["x"] == [one.object_key async for page in reader.list("") for one in page]
        s3_proxy.rule = always(ACCESS_DENIED, "GET")
        sent = reader.requests.copy()
        with pytest.raises(SinkRefusedError, match=f"access_denied.*s3:GetObject on arn:aws:s3:::{bucket}/"):
            await reader.get("x")
        with pytest.raises(SinkRefusedError, match=f"access_denied.*s3:ListBucket on arn:aws:s3:::{bucket} "):
            _ = [page async for page in reader.list("")]
        assert {"GET": 1, "LIST": 1} == reader.requests - sent
        s3_proxy.rule = always(SLOW_DOWN, "GET")
        with pytest.raises(SinkUnavailableError, match="throttled"):
            await reader.get("x")


async def test_a_missing_bucket_is_not_a_missing_object(settings_for: MakeSettings) -> None:
    """Otherwise verify would call every event of a mistyped bucket lost."""
    async with S3Reader(settings_for(s3_bucket="no-such-bucket")) as reader:
        with pytest.raises(SinkRefusedError, match="bucket_missing"):
            await reader.get("x")
        with pytest.raises(SinkRefusedError, match="bucket_missing"):
            _ = [page async for page in reader.list("events/")]
