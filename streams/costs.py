"""What requests and storage cost: of the worker's present rate, and of a command before it begins.

Pure, and one mechanism for all who speak of money: `/stats`, `/metrics`, `doctor`, the commands' estimates, the demo.
`docs/costs.md` says what is counted, what is left out and where the prices are from. Nothing here runs for an event:
sinks say what they have used so far (`Usage`), the meter takes a sample once a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from streams.settings import Settings

PRICES_AS_OF: Final = "2026-11"
"""When the built-in prices were looked up: us-east-1, no free tier; other regions are up to a half dearer."""
SECONDS_PER_DAY: Final = 86_400
DAYS_PER_MONTH: Final = 30
GB: Final = 2**30
"""AWS's GB of storage is 2^30 bytes (S3 pricing page)."""
WINDOW_SECONDS: Final = 60.0
S3_LIST_USD_PER_1000: Final = 0.005
"""Of every storage class: a listing is of the bucket."""
SQS_STANDARD_USD_PER_MILLION: Final = 0.40
SQS_FIFO_USD_PER_MILLION: Final = 0.50
SQS_BILLED_BYTES: Final = 64 * 1024
"""SQS bills each so many bytes of a request's payload as a request."""

_KIB: Final = 1024


class StorageClass(NamedTuple):
    """What an S3 storage class costs in us-east-1, in US dollars, and what it bills for small objects."""

    put_usd_per_1000: float
    get_usd_per_1000: float
    storage_usd_per_gb_month: float
    least_bytes: int = 0
    """A smaller object is billed as one of this size."""
    added_bytes: int = 0
    """Billed on top of every object."""
    added_standard_bytes: int = 0
    """The same, at STANDARD's price."""
    least_days: int = 0
    """An object that is deleted or overwritten earlier is billed for so long."""


STORAGE_CLASSES: Final[Mapping[str, StorageClass]] = {
    "STANDARD": StorageClass(0.005, 0.0004, 0.023),
    "INTELLIGENT_TIERING": StorageClass(0.005, 0.0004, 0.023),
    "STANDARD_IA": StorageClass(0.01, 0.001, 0.0125, least_bytes=128 * _KIB, least_days=30),
    "ONEZONE_IA": StorageClass(0.01, 0.001, 0.01, least_bytes=128 * _KIB, least_days=30),
    "GLACIER_IR": StorageClass(0.02, 0.01, 0.004, least_bytes=128 * _KIB, least_days=90),
    "GLACIER": StorageClass(0.03, 0.0004, 0.0036, added_bytes=32 * _KIB, added_standard_bytes=8 * _KIB, least_days=90),
    "DEEP_ARCHIVE": StorageClass(
        0.05, 0.0004, 0.00099, added_bytes=32 * _KIB, added_standard_bytes=8 * _KIB, least_days=180
    ),
}
STANDARD: Final = STORAGE_CLASSES["STANDARD"]
NOT_BILLED: Final = frozenset(
    {"throttled", "server_error", "connection", "credentials_expired", "credentials_missing", "wrong_region"}
)
"""Reasons of failed writes that S3 does not bill: answers 5xx and 301, expired tokens (S3 user guide, "Billing for
Amazon S3 error responses"), and what never reached it."""


class Usage(NamedTuple):
    """What a sink has used since its start, as AWS bills it."""

    s3_puts: float = 0
    s3_objects: float = 0
    s3_bytes: float = 0
    """Bytes of the bodies of those objects."""
    sqs_requests: float = 0

    def rate(self, earlier: Usage, seconds: float) -> Usage:
        """How much of each per second since then."""
        return Usage(*((now - before) / seconds for now, before in zip(self, earlier, strict=True)))


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in US dollars; `as_of` is the date of the built-in ones, `None` where all that matter are the user's."""

    s3_put_usd_per_1000: float = STANDARD.put_usd_per_1000
    s3_list_usd_per_1000: float = S3_LIST_USD_PER_1000
    s3_get_usd_per_1000: float = STANDARD.get_usd_per_1000
    s3_storage_usd_per_gb_month: float = STANDARD.storage_usd_per_gb_month
    sqs_usd_per_million: float = SQS_STANDARD_USD_PER_MILLION
    storage_class: StorageClass = STANDARD
    as_of: str | None = PRICES_AS_OF

    @classmethod
    def of(cls, settings: Settings) -> Prices:
        """The user's prices (`STREAMS_PRICE_*`), else the built-in ones of the storage class and the kind of queue."""
        kind = STORAGE_CLASSES.get(settings.s3_storage_class or "STANDARD", STANDARD)
        fifo = (settings.sqs_queue_url or "").endswith(".fifo")
        return cls(
            _first(settings.price_s3_put_usd_per_1000, kind.put_usd_per_1000),
            _first(settings.price_s3_list_usd_per_1000, S3_LIST_USD_PER_1000),
            _first(settings.price_s3_get_usd_per_1000, kind.get_usd_per_1000),
            _first(settings.price_s3_storage_usd_per_gb_month, kind.storage_usd_per_gb_month),
            _first(
                settings.price_sqs_usd_per_million, SQS_FIFO_USD_PER_MILLION if fifo else SQS_STANDARD_USD_PER_MILLION
            ),
            kind,
            PRICES_AS_OF if _uses_built_in(settings) else None,
        )

    def requests_usd(self, usage: Usage) -> float:
        """What these requests cost."""
        return usage.s3_puts * self.s3_put_usd_per_1000 / 1000 + usage.sqs_requests * self.sqs_usd_per_million / 1e6

    def storage_usd_per_month(self, usage: Usage) -> float:
        """What keeping these objects costs a month, all of them being of their mean size."""
        if not usage.s3_objects:
            return 0.0
        kind = self.storage_class
        billed_bytes = max(usage.s3_bytes, usage.s3_objects * kind.least_bytes) + usage.s3_objects * kind.added_bytes
        at_standard = usage.s3_objects * kind.added_standard_bytes * STANDARD.storage_usd_per_gb_month
        return (billed_bytes * self.s3_storage_usd_per_gb_month + at_standard) / GB

    def usd_per_1000(self, kind: str) -> float:
        """The price of a thousand requests of a kind, by its HTTP method or `LIST`."""
        return {
            "PUT": self.s3_put_usd_per_1000,
            "LIST": self.s3_list_usd_per_1000,
            "GET": self.s3_get_usd_per_1000,
            "HEAD": self.s3_get_usd_per_1000,
            "DELETE": 0.0,
        }[kind]


class CostMeter:
    """What the present rate costs: the use of the last minute, in dollars per day and month."""

    def __init__(self, prices: Prices, usage: Callable[[], Usage], started: float | None = None) -> None:
        self._prices = prices
        self._usage = usage
        self._started = monotonic() if started is None else started
        self._samples: deque[tuple[float, Usage]] = deque()

    def tick(self, now: float) -> None:
        """Called once a second: keep what the window needs."""
        self._samples.append((now, self._usage()))
        while self._samples[0][0] < now - WINDOW_SECONDS:
            self._samples.popleft()

    def total(self) -> Usage:
        """All since the start."""
        return self._usage()

    def requests_usd_per_day(self, now: float) -> float:
        """What requests at the present rate cost a day."""
        return self._prices.requests_usd(self._rate(now)[1]) * SECONDS_PER_DAY

    def storage_usd_per_month_per_day(self, now: float) -> float:
        """What the objects of one day at the present rate cost a month to keep."""
        return self._prices.storage_usd_per_month(self._rate(now)[1]) * SECONDS_PER_DAY

    def document(self, now: float) -> dict[str, Any]:
        """The block of `/stats`."""
        seconds, rate = self._rate(now)
        total, per_day = self._usage(), self.requests_usd_per_day(now)
        return {
            "window_seconds": round(seconds, 1),
            "requests_per_second": {"s3_put": round(rate.s3_puts, 2), "sqs": round(rate.sqs_requests, 2)},
            "requests_total": {"s3_put": int(total.s3_puts), "sqs": int(total.sqs_requests)},
            "requests_usd_per_day": round(per_day, 4),
            "requests_usd_per_month": round(per_day * DAYS_PER_MONTH, 4),
            "storage_usd_per_month_per_day": round(self.storage_usd_per_month_per_day(now), 6),
            "prices": {
                "s3_put_usd_per_1000": self._prices.s3_put_usd_per_1000,
                "s3_storage_usd_per_gb_month": self._prices.s3_storage_usd_per_gb_month,
                "sqs_usd_per_million": self._prices.sqs_usd_per_million,
            },
            "prices_as_of": self._prices.as_of,
        }

    def _rate(self, now: float) -> tuple[float, Usage]:
        """Seconds that it was measured over, and the use per second; from the start where that is less long ago."""
        at, earlier = next(
            (sample for sample in self._samples if sample[0] >= now - WINDOW_SECONDS), (self._started, Usage())
        )
        if self._started >= now - WINDOW_SECONDS:
            at, earlier = self._started, Usage()
        seconds = max(now - at, 1e-3)
        return seconds, self._usage().rate(earlier, seconds)


def billed_failures(retries: Mapping[str, int]) -> int:
    """Of failed writes, by reason, those whose requests S3 bills, or may bill (a time-out)."""
    return sum(count for reason, count in retries.items() if reason not in NOT_BILLED)


def cost_usd(requests: Mapping[str, int], prices: Prices) -> float:
    """The price of so many requests of each kind."""
    return sum(prices.usd_per_1000(kind) * count / 1000 for kind, count in requests.items())


def describe_cost(requests: Mapping[str, int], prices: Prices) -> str:
    """For people: `1,234 LIST and 20 GET requests, about $0.0062`."""
    return describe_priced(requests, cost_usd(requests, prices))


def describe_priced(requests: Mapping[str, int], usd: float) -> str:
    """The same where the price is known already."""
    kinds = [f"{count:,} {kind}" for kind, count in requests.items() if count]
    if not kinds:
        return "no requests"
    named = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    only_one = sum(requests.values()) == 1
    return f"{named} {'request' if only_one else 'requests'}, about {dollars(usd)}"


def dollars(amount: float) -> str:
    """For people: `$1,512`, `$5.00`, `$0.0062`; small sums are not rounded to nothing."""
    if amount >= 1000:
        return f"${amount:,.0f}"
    return f"${amount:,.2f}" if amount >= 0.1 or not amount else f"${amount:.2g}" if amount >= 0.0001 else "$0.0001"


def _first(own: float | None, built_in: float) -> float:
    return built_in if own is None else own


def _uses_built_in(settings: Settings) -> bool:
    """Whether a price that matters to this worker is not the user's."""
    s3 = [settings.price_s3_put_usd_per_1000, settings.price_s3_storage_usd_per_gb_month]
    used = s3 if settings.sink == "s3" else [settings.price_sqs_usd_per_million, *(s3 if settings.s3_bucket else [])]
    return any(price is None for price in used)
