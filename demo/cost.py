"""What the measured rate would cost on AWS: the worker's own count of requests, at the product's built-in prices."""

from __future__ import annotations

from typing import Any

from demo.benchmark import MESSAGE_COUNT, Measurement, message
from streams.costs import SECONDS_PER_DAY, Prices, Usage, dollars

FULL_REQUEST_MESSAGES = 10


def describe_cost(measured: Measurement, stats: dict[str, Any]) -> str:
    """One sentence for below the table; `stats` is what the worker's `/stats` said after the measurement."""
    sent = stats["cost"]["requests_total"]
    rate = measured.per_second
    events = rate * SECONDS_PER_DAY
    puts = events * (sent["s3_put"] / measured.messages or 1)
    requests = events * (sent["sqs"] / measured.messages or 1 / FULL_REQUEST_MESSAGES)
    objects = Usage(s3_puts=puts, s3_objects=events, s3_bytes=events * _mean_bytes())
    prices = Prices()
    return (
        f"At {rate:,.0f} a second a day costs {dollars(prices.requests_usd(objects))} in PUTs to S3 (and its objects "
        f"{dollars(prices.storage_usd_per_month(objects))} a month to keep), or "
        f"{dollars(prices.requests_usd(Usage(sqs_requests=requests)))} in requests to SQS (us-east-1, {prices.as_of}; "
        "docs/costs.md)."
    )


def _mean_bytes() -> float:
    return sum(len(message(number)) for number in range(MESSAGE_COUNT)) / MESSAGE_COUNT
