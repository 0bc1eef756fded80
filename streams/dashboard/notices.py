"""What somebody who looks at the page should know first beside the conditions: sentences, the most serious first. Pure.

What lasts and ends by itself is a condition (`streams.stats.conditions`), with its time and remedy; the rest is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from streams.dashboard.figures import clock, count, duration

LOSS_IS_NEAR_SECONDS: Final = 86_400
"""What docs/operations.md alerts on."""


class Notice(NamedTuple):
    """A sentence, and how serious it is: `bad` (somebody must act), `warning`, `info`."""

    level: str
    text: str


def notices(document: Mapping[str, Any]) -> list[Notice]:
    """The notices of a `/stats` document."""
    found = [*_losses(document), *_troubles(document), *_states(document)]
    return sorted(found, key=lambda notice: ("bad", "warning", "info").index(notice.level))


def _losses(document: Mapping[str, Any]) -> Iterator[Notice]:
    lost = document["totals"]["lost_to_retention"]
    if lost:
        yield Notice("bad", f"Up to {count(lost)} events left Kafka's retention before they were written.")
    soon = [
        partition
        for partition in document["partitions"]
        if partition["time_to_loss_seconds"] is not None and partition["time_to_loss_seconds"] < LOSS_IS_NEAR_SECONDS
    ]
    if soon:
        first = min(soon, key=lambda partition: partition["time_to_loss_seconds"])
        yield Notice(
            "bad",
            f"Kafka will drop events that are not durable: {first['topic']}/{first['partition']} in "
            f"{duration(first['time_to_loss_seconds'])}, at the earliest. Mend what holds it up, or "
            "raise retention.ms.",
        )


def _troubles(document: Mapping[str, Any]) -> Iterator[Notice]:
    held = [f"{one['topic']}/{one['partition']}" for one in document["partitions"] if one["held"] is not None]
    if held:
        yield Notice(
            "bad",
            f"Held because of an event that can never be written as configured: {', '.join(held)}. Mend the cause and "
            "restart the worker.",
        )
    holes = document["ledger"]["holes"]
    if holes:
        yield Notice(
            "bad",
            f"The ledger has no record of {count(holes)} ranges of offsets, for it could not be written for too long. "
            "Events are not affected. Run `faust -A streams verify --report` while Kafka still has them.",
        )


def _states(document: Mapping[str, Any]) -> Iterator[Notice]:
    administration = document["administration"]
    for topic, since in (administration["paused_topics"] if administration else {}).items():
        yield Notice("warning", f"{topic}: paused on this worker by an administrator since {clock(since)}.")
    if document["state"] == "rebalancing":
        yield Notice("info", "The group is sharing out its partitions anew.")
    elif document["state"] == "starting":
        yield Notice("info", "Starting: waiting for the group to assign partitions.")
    elif document["state"] in ("running", "holding") and not document["partitions"]:
        yield Notice("info", "No partitions: a spare worker. It takes over when another one leaves.")
