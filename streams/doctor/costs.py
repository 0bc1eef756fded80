"""What the topics' events cost at the rate of the last day, and settings that make them dearer than need be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from streams.costs import DAYS_PER_MONTH, STANDARD, STORAGE_CLASSES, Prices, Usage, dollars
from streams.doctor.findings import Finding, ok, unchecked, warning
from streams.doctor.offsets import counted
from streams.settings import Settings

DAY_MS: Final = 24 * 3600 * 1000
K = TypeVar("K")

_KIB: Final = 1024
_ADDED_NOTICED: Final = 0.1
"""An archive class's 40 KiB are worth a word where events are smaller than ten times that."""


@dataclass(frozen=True, slots=True)
class DayOfEvents:
    """What came into the topics within the last day."""

    events: int
    shortened: bool
    """Whether Kafka no longer has all of it, so that there were more."""
    mean_bytes: float | None
    """Of the events' values, by a sample; `None` where none could be read."""


def day_of_events(
    begins: Mapping[K, int], since: Mapping[K, int], ends: Mapping[K, int], mean_bytes: float | None
) -> DayOfEvents:
    """From offsets: the first that is left, the first of the last day (-1: there is none), and the end."""
    known = [tp for tp in ends if tp in begins and tp in since]
    events = sum(ends[tp] - max(since[tp], begins[tp]) for tp in known if since[tp] >= 0)
    shortened = any(since[tp] == begins[tp] > 0 for tp in known)
    return DayOfEvents(events, shortened, mean_bytes)


def cost_finding(day: DayOfEvents | None, settings: Settings) -> Finding:
    """What as many events cost in requests a day and a month, and a day's objects in storage a month."""
    check = "cost"
    if day is None:
        return unchecked(check, "the number of events of the last day could not be read")
    prices = Prices.of(settings)
    usage = _usage(day, settings)
    per_day = prices.requests_usd(usage)
    more = "at least " if day.shortened else ""
    facts = (
        f"{more}{counted(day.events, 'event')} came in the last 24 h: {_requests(usage)}, {dollars(per_day)} a day and "
        f"{dollars(per_day * DAYS_PER_MONTH)} a month{_storage(day, usage, prices)}"
    )
    built_in = "" if prices.as_of is None else f" (prices of us-east-1, {prices.as_of}; STREAMS_PRICE_*, docs/costs.md)"
    return ok(check, facts + built_in)


def _usage(day: DayOfEvents, settings: Settings) -> Usage:
    if settings.sink == "sqs":
        return Usage(sqs_requests=-(-day.events // settings.sqs_batch_events))
    return Usage(day.events, day.events, day.events * (day.mean_bytes or 0.0))


def _requests(usage: Usage) -> str:
    if usage.sqs_requests:
        return f"{counted(int(usage.sqs_requests), 'request')} if each is full"
    return f"{usage.s3_puts:,.0f} PUTs" if usage.s3_puts else "no requests"


def _storage(day: DayOfEvents, usage: Usage, prices: Prices) -> str:
    if not usage.s3_objects or day.mean_bytes is None:
        return ""
    return (
        f"; at {day.mean_bytes:,.0f} bytes each (a sample) every day's objects add "
        f"{dollars(prices.storage_usd_per_month(usage))} a month in storage"
    )


def storage_class_finding(settings: Settings, mean_bytes: float | None) -> Finding | None:
    """A storage class that bills small objects as larger ones; `None` where that does not matter."""
    name = settings.s3_storage_class or "STANDARD"
    kind = STORAGE_CLASSES.get(name, STANDARD)
    floor_bytes = kind.least_bytes or (kind.added_bytes + kind.added_standard_bytes)
    if not settings.s3_bucket or not floor_bytes:
        return None
    check = f"s3 storage class {name}"
    enough_bytes = kind.least_bytes or floor_bytes / _ADDED_NOTICED
    facts = f"{_floor(name)}; a PUT costs {kind.put_usd_per_1000 / STANDARD.put_usd_per_1000:g} times STANDARD's"
    if mean_bytes is not None and mean_bytes >= enough_bytes:
        return ok(check, f"{facts}; events have about {mean_bytes:,.0f} bytes")
    return warning(
        check,
        f"{facts}. {_comparison(name, mean_bytes)}",
        "Take STREAMS_S3_STORAGE_CLASS out: one object for each event belongs in STANDARD or INTELLIGENT_TIERING.",
    )


def _floor(name: str) -> str:
    kind = STORAGE_CLASSES[name]
    size = (
        f"at least {kind.least_bytes // _KIB} KiB"
        if kind.least_bytes
        else f"{(kind.added_bytes + kind.added_standard_bytes) // _KIB} KiB more than it has"
    )
    restored = "" if kind.least_bytes else ", and get, restore, redrive and verify --content cannot read it"
    return f"each object is billed as {size} and for at least {kind.least_days} days{restored}"


def _comparison(name: str, mean_bytes: float | None) -> str:
    if mean_bytes is None:
        return "How large the events are could not be read; small ones cost a multiple here"
    usage = Usage(s3_objects=1, s3_bytes=max(mean_bytes, 1.0))
    kind = STORAGE_CLASSES[name]
    here = Prices(s3_storage_usd_per_gb_month=kind.storage_usd_per_gb_month, storage_class=kind)
    times = here.storage_usd_per_month(usage) / Prices().storage_usd_per_month(usage)
    share = f"{times:,.0f} times" if times >= 2 else f"{times:.0%} of"
    return f"These events have about {mean_bytes:,.0f} bytes: storage here costs {share} STANDARD's"
