"""What requests to S3 cost, so that a command can say so before it sends them.

Pure. Prices: Amazon S3 Standard, us-east-1, from the S3 pricing page as of November 2026; other regions are up to a
half dearer. DELETE is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

USD_PER_1000_REQUESTS: Final[Mapping[str, float]] = {
    "PUT": 0.005,
    "LIST": 0.005,
    "GET": 0.0004,
    "HEAD": 0.0004,
    "DELETE": 0.0,
}


def cost_usd(requests: Mapping[str, int]) -> float:
    """The price in US dollars of so many requests of each kind."""
    return sum(USD_PER_1000_REQUESTS[kind] * count / 1000 for kind, count in requests.items())


def describe_cost(requests: Mapping[str, int]) -> str:
    """For people: `1,234 LIST and 20 GET requests, about $0.0062`."""
    kinds = [f"{count:,} {kind}" for kind, count in requests.items() if count]
    if not kinds:
        return "no requests"
    named = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    only_one = sum(requests.values()) == 1
    return f"{named} {'request' if only_one else 'requests'}, about {_dollars(cost_usd(requests))}"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.1 or not amount else f"${amount:.2g}" if amount >= 0.0001 else "$0.0001"
