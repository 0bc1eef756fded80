"""Prices are added up by kind and said so that a person can read them."""

from __future__ import annotations

import pytest

from streams.costs import cost_usd, describe_cost


def test_prices_add_up() -> None:
    """A million PUTs and a million GETs: the design page's $5, and $0.40."""
    assert 5.4 == pytest.approx(cost_usd({"PUT": 1_000_000, "GET": 1_000_000, "DELETE": 1_000_000}))


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
    assert text == describe_cost(requests)
