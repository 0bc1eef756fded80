"""Renders the page: the document of `/stats`, put into words, numbers and charts by a template.

Text from events, topics and errors reaches the page through jinja2's escaping only, and the script of the page reads
the page itself again, so there is one place where anything is put into HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from streams.costs import dollars
from streams.dashboard import figures
from streams.dashboard.charts import HEIGHT, WIDTH, charts
from streams.dashboard.history import History
from streams.dashboard.notices import notices
from streams.stats import KAFKA

PARTITIONS_SHOWN: Final = 100
"""Those of unknown lag and those that lag most come first where there are more."""
ASSETS: Final = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file that the page loads."""

    content: bytes
    content_type: str


def asset(name: str) -> Asset | None:
    """One of the page's own files, by name."""
    content_type = ASSETS.get(name)
    if content_type is None:
        return None
    return Asset(files("streams.dashboard").joinpath("assets", name).read_bytes(), content_type)


def render_page(document: Mapping[str, Any], history: History) -> str:
    """The page of a worker whose `/stats` is `document`."""
    partitions = document["partitions"]
    return (
        _environment()
        .get_template("dashboard.html")
        .render(
            stats=document,
            charts=charts(list(history.samples)),
            notices=notices(document),
            kafka_is_well=kafka_is_well(document),
            shown=most_important(partitions),
            oldest=oldest(partitions),
            soonest_loss=soonest_loss(partitions),
            width=WIDTH,
            height=HEIGHT,
        )
    )


def kafka_is_well(document: Mapping[str, Any]) -> bool:
    """Whether it can be said that the worker has caught up, or that nothing is at risk."""
    kinds = {condition["kind"] for condition in document["conditions"]}
    return document["lag"] is not None and not kinds & KAFKA


def most_important(partitions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All partitions in order, or of many those of unknown lag and those that lag most."""
    if len(partitions) <= PARTITIONS_SHOWN:
        return partitions
    return sorted(partitions, key=_by_lag)[:PARTITIONS_SHOWN]


def _by_lag(partition: Mapping[str, Any]) -> tuple[bool, int]:
    """Those first whose lag is unknown: it may be anything."""
    return partition["lag"] is not None, -(partition["lag"] or 0)


def oldest(partitions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The partition whose oldest unfinished event is the oldest of all."""
    waiting = [partition for partition in partitions if partition["oldest"] is not None]
    return max(waiting, key=lambda partition: partition["oldest"]["age_seconds"], default=None)


def soonest_loss(partitions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The partition whose oldest event that is not durable leaves Kafka first."""
    at_risk = [partition for partition in partitions if partition["time_to_loss_seconds"] is not None]
    return min(at_risk, key=lambda partition: partition["time_to_loss_seconds"], default=None)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("streams.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": figures.count,
        "per_second": figures.per_second,
        "bytes_per_second": figures.bytes_per_second,
        "size": figures.size,
        "ms": figures.milliseconds,
        "duration": figures.duration,
        "clock": figures.clock,
        "time_of_day": figures.time_of_day,
        "dollars": dollars,
    }
    return environment
