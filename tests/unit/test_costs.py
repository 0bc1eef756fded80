"""Prices are the user's or the storage class's; what is used is added up and said so that a person can read it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from streams.costs import (
    PRICES_AS_OF,
    S3_LIST_USD_PER_1000,
    SQS_FIFO_USD_PER_MILLION,
    SQS_STANDARD_USD_PER_MILLION,
    STORAGE_CLASSES,
    CostMeter,
    Prices,
    Usage,
    billed_failures,
    cost_usd,
    describe_cost,
    dollars,
)
from streams.errors import RecordRejectedError
from streams.layout import Layout
from streams.metadata import object_metadata
from streams.record import CREATE_TIME, Record
from streams.settings import Settings
from streams.sinks import make_sink, usage_of
from streams.sinks.recording import RecordingSink
from streams.sinks.s3 import PutRequest, S3Sink
from streams.stats import Stats

DAY_SECONDS = 86_400
PAGE = Path(__file__).resolve().parents[2] / "docs" / "costs.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


def make_settings(**fields: Any) -> Settings:
    required = {"kafka_bootstrap_servers": "b:9092", "topics": "orders", "consumer_group": "g", "s3_bucket": "events"}
    return Settings(**{**required, **fields})


def sqs_settings(**fields: Any) -> Settings:
    queue = {"sink": "sqs", "sqs_queue_url": "https://sqs.us-east-1.amazonaws.com/111122223333/orders", "s3_bucket": ""}
    return make_settings(**{**queue, "on_reject": "hold", **fields})


# -- prices ------------------------------------------------------------------------------------------------------------


def test_prices_add_up() -> None:
    """A million PUTs and a million GETs: the design page's $5, and $0.40."""
    assert 5.4 == pytest.approx(cost_usd({"PUT": 1_000_000, "GET": 1_000_000, "DELETE": 1_000_000}, Prices()))


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ({}, "no requests"),
        ({"LIST": 0}, "no requests"),
        ({"LIST": 1}, "1 LIST request, about $0.0001"),
        ({"LIST": 12_000, "GET": 20}, "12,000 LIST and 20 GET requests, about $0.06"),
        ({"GET": 10_000_000}, "10,000,000 GET requests, about $4.00"),
        ({"DELETE": 5}, "5 DELETE requests, about $0.00"),
    ],
)
def test_words(requests: dict[str, int], text: str) -> None:
    """Kinds that are not needed are left out; small sums are not rounded to nothing."""
    assert text == describe_cost(requests, Prices())


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (0.000001, "$0.0001"), (0.0123, "$0.012"), (12.345, "$12.35"), (45360.4, "$45,360")],
)
def test_dollars(amount: float, text: str) -> None:
    """As many digits as anybody needs."""
    assert text == dollars(amount)


def test_settings_win_over_the_built_in_prices() -> None:
    """Each price by itself; their date is told for as long as one of those that matter is built in."""
    own = {"price_s3_put_usd_per_1000": 0.0054, "price_s3_list_usd_per_1000": 0.006, "price_s3_get_usd_per_1000": 0.0}
    prices = Prices.of(make_settings(**own))
    assert (0.0054, 0.006, 0.0, 0.023) == (
        prices.s3_put_usd_per_1000,
        prices.s3_list_usd_per_1000,
        prices.s3_get_usd_per_1000,
        prices.s3_storage_usd_per_gb_month,
    )
    assert PRICES_AS_OF == prices.as_of
    assert Prices.of(make_settings(**own, price_s3_storage_usd_per_gb_month=0.0245)).as_of is None


def test_a_queue_has_the_price_of_its_kind() -> None:
    """FIFO is dearer; the date is of the prices that matter for a queue."""
    standard, fifo = sqs_settings(), sqs_settings(sqs_queue_url="https://sqs.us-east-1.amazonaws.com/1/orders.fifo")
    assert [0.40, 0.50] == [Prices.of(settings).sqs_usd_per_million for settings in (standard, fifo)]
    own = sqs_settings(price_sqs_usd_per_million=0.3)
    assert (0.3, None) == (Prices.of(own).sqs_usd_per_million, Prices.of(own).as_of)
    assert PRICES_AS_OF == Prices.of(sqs_settings(price_sqs_usd_per_million=0.3, s3_bucket="overflow")).as_of


def test_storage_classes_have_their_own_prices() -> None:
    """A PUT into STANDARD_IA costs twice as much; a class that is not known costs what STANDARD does."""
    prices = {name: Prices.of(make_settings(s3_storage_class=name)) for name in (*STORAGE_CLASSES, "OUTPOSTS")}
    assert 0.01 == prices["STANDARD_IA"].s3_put_usd_per_1000
    assert 0.0125 == prices["STANDARD_IA"].s3_storage_usd_per_gb_month
    assert Prices() == prices["STANDARD"] == prices["OUTPOSTS"]


# -- storage -----------------------------------------------------------------------------------------------------------


def test_storage_is_bytes_times_price() -> None:
    """A GB is 2^30 bytes."""
    assert 0.023 == pytest.approx(Prices().storage_usd_per_month(Usage(s3_objects=1_000, s3_bytes=2**30)))
    assert 0.0 == Prices().storage_usd_per_month(Usage())


def test_small_objects_are_billed_as_128_kib_where_the_class_says_so() -> None:
    """8,192 objects of a byte are a GB to STANDARD_IA, more than a hundred thousand times what STANDARD asks."""
    tiny = Usage(s3_objects=8_192, s3_bytes=8_192)
    infrequent = Prices.of(make_settings(s3_storage_class="STANDARD_IA"))
    assert 0.0125 == pytest.approx(infrequent.storage_usd_per_month(tiny))
    assert infrequent.storage_usd_per_month(tiny) > 70_000 * Prices().storage_usd_per_month(tiny)
    large = Usage(s3_objects=1, s3_bytes=2**30)
    assert 0.0125 == pytest.approx(infrequent.storage_usd_per_month(large))


def test_archive_classes_add_40_kib_to_each_object() -> None:
    """32 KiB at their own price, 8 KiB at STANDARD's."""
    usage = Usage(s3_objects=2**20, s3_bytes=0)
    expected = 32 * 0.00099 + 8 * 0.023
    assert expected == pytest.approx(
        Prices.of(make_settings(s3_storage_class="DEEP_ARCHIVE")).storage_usd_per_month(usage)
    )


# -- the present rate --------------------------------------------------------------------------------------------------


class Used:
    """What a sink would say it has used."""

    def __init__(self) -> None:
        self.now = Usage()

    def __call__(self) -> Usage:
        return self.now


def test_rate_of_the_last_minute_makes_the_cost_of_a_day() -> None:
    """What was before the last minute does not count: 3,500 PUTs a second are $1,512 a day, whatever came before."""
    used = Used()
    meter = CostMeter(Prices(), used, started=0.0)
    for second in range(200):
        used.now = Usage(s3_puts=10.0 * second, s3_objects=10.0 * second)
        meter.tick(float(second))
    for second in range(200, 300):
        have = used.now
        used.now = Usage(have.s3_puts + 3_500, have.s3_objects + 3_500, have.s3_bytes + 3_500 * 100)
        meter.tick(float(second))
    document = meter.document(299.0)
    assert 60.0 == document["window_seconds"]
    assert {"s3_put": 3500.0, "sqs": 0.0} == document["requests_per_second"]
    assert 1512.0 == document["requests_usd_per_day"]
    assert 45360.0 == document["requests_usd_per_month"]
    per_day_gb = 350_000 * DAY_SECONDS / 2**30
    assert per_day_gb * 0.023 == pytest.approx(document["storage_usd_per_month_per_day"], rel=1e-4)
    assert {"s3_put": 351_990, "sqs": 0} == document["requests_total"]


def test_rate_of_a_new_worker_is_measured_from_its_start() -> None:
    """Ten requests within five seconds are two a second, not ten a minute."""
    used = Used()
    meter = CostMeter(Prices(), used, started=100.0)
    meter.tick(101.0)
    used.now = Usage(sqs_requests=10)
    document = meter.document(105.0)
    assert (5.0, 2.0) == (document["window_seconds"], document["requests_per_second"]["sqs"])
    assert 2 * DAY_SECONDS * 0.40 / 1e6 == pytest.approx(document["requests_usd_per_day"], abs=1e-4)


def test_nothing_costs_nothing() -> None:
    """A worker that has written nothing, at any moment."""
    document = CostMeter(Prices(), Usage, started=5.0).document(5.0)
    assert 0.0 == document["requests_usd_per_day"] == document["storage_usd_per_month_per_day"]


# -- what is counted ---------------------------------------------------------------------------------------------------


class Bucket:
    """An `S3Client` that takes everything and counts."""

    def __init__(self) -> None:
        self.puts = 0

    async def start(self) -> None:
        """Ready at once."""

    async def put(self, request: PutRequest) -> None:
        self.puts += 1

    async def create(self, request: PutRequest) -> bool:
        self.puts += 1
        return True

    async def get(self, object_key: str) -> bytes | None:
        return None

    async def close(self) -> None:
        """Holds nothing."""


def record(headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record("orders", 0, 7, 0, CREATE_TIME, b"k", b"value", headers)


async def test_s3_counts_the_puts_that_were_sent() -> None:
    """Events, their sidecars and dead letters: the sum is what the client has sent."""
    stats, bucket = Stats(), Bucket()
    sink = S3Sink(bucket, Layout(make_settings()))
    large = record((("h", b"x" * 4_000),))
    assert object_metadata(large)[1] is not None
    for one in (record(), large):
        stats.written("orders", 0.01, await sink.write(one))
    await sink.write_dead_letter(record(), RecordRejectedError("too_large", ""))
    stats.dead_lettered("orders", "too_large")
    used = usage_of(sink, stats)
    assert 4 == bucket.puts == used.s3_puts == used.s3_objects
    assert stats.sent_bytes.total() == used.s3_bytes


def test_failures_are_billed_as_s3_bills_them() -> None:
    """Answers 4xx and time-outs count; 5xx, expired tokens and what never arrived do not."""
    stats = Stats()
    stats.retries.update(throttled=100, connection=50, server_error=20, access_denied=3, timeout=2)
    stats.ledger_segments, stats.ledger_write_errors = 4, 1
    assert 5 == billed_failures(stats.retries)
    used = usage_of(make_sink(make_settings()), stats)
    assert (10, 4) == (used.s3_puts, used.s3_objects)


def test_a_sink_without_a_bill_costs_nothing() -> None:
    """Any other sink of the user's."""
    assert Usage() == usage_of(RecordingSink(), Stats())


def test_a_queue_does_not_count_events() -> None:
    """What was not sent to SQS is not billed, whatever `delivery` has counted."""
    stats = Stats()
    stats.written("orders", 0.01, 100)
    assert Usage() == usage_of(make_sink(sqs_settings()), stats)


# -- what the documentation says ---------------------------------------------------------------------------------------


def default_text(field: str) -> str:
    extra = Settings.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["default_text"])


def test_defaults_in_the_settings_are_the_built_in_prices() -> None:
    """Prices and their date, in the words of docs/configuration.md."""
    infrequent, instant = STORAGE_CLASSES["STANDARD_IA"], STORAGE_CLASSES["GLACIER_IR"]
    expected = {
        "s3_put_usd_per_1000": (0.005, infrequent.put_usd_per_1000, instant.put_usd_per_1000),
        "s3_list_usd_per_1000": (S3_LIST_USD_PER_1000,),
        "s3_get_usd_per_1000": (STORAGE_CLASSES["STANDARD"].get_usd_per_1000, infrequent.get_usd_per_1000),
        "s3_storage_usd_per_gb_month": (0.023, infrequent.storage_usd_per_gb_month),
        "sqs_usd_per_million": (SQS_STANDARD_USD_PER_MILLION, SQS_FIFO_USD_PER_MILLION),
    }
    for name, prices in expected.items():
        text = default_text(f"price_{name}")
        assert PRICES_AS_OF in text
        assert list(prices) == [float(number) for number in re.findall(r"(?<![\d-])\d\.\d+", text)], name


def test_page_has_the_built_in_prices() -> None:
    """Every storage class of docs/costs.md, with what it costs and what it bills for small objects."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {name: row[1:] for row in rows if len(row) == 5 for name in row[0].split(", ") if name in STORAGE_CLASSES}
    assert STORAGE_CLASSES.keys() == told.keys()
    for name, (put, storage, size, days) in told.items():
        kind = STORAGE_CLASSES[name]
        assert (f"${kind.put_usd_per_1000:g}", f"${kind.storage_usd_per_gb_month:g}") == (put, storage), name
        added = kind.added_bytes + kind.added_standard_bytes
        floor = (
            f"at least {kind.least_bytes // 1024} KiB"
            if kind.least_bytes
            else f"{added // 1024} KiB more than its size"
        )
        assert size == (floor if kind.least_bytes or added else "its size"), name
        assert (f"{kind.least_days} days" in days) == bool(kind.least_days), name


def test_page_has_the_right_sums() -> None:
    """The first table: events a second, PUTs, dollars a day and a month, SQS in full requests."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| [\d,]+ \|", line)]
    assert 3 == len(rows)
    for rate, _, day, month, queue in rows:
        puts = float(rate.replace(",", "")) * DAY_SECONDS
        per_day = Prices().requests_usd(Usage(s3_puts=puts))
        in_requests = Prices().requests_usd(Usage(sqs_requests=puts / 10))
        assert [dollars(per_day), dollars(30 * per_day), dollars(in_requests)] == [day, month, queue]
