"""Writes docs/metrics.md from the collector itself: `python -m streams.metrics_docs`.

The families are those of a worker to which everything has happened once. A test keeps page and collector equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Final

from prometheus_client.core import Metric

from streams.costs import CostMeter, Prices, Usage
from streams.delivery import Delivery
from streams.kafka.retention import Retention
from streams.metrics import Metrics
from streams.retention_watch import RetentionWatch
from streams.sinks.recording import RecordingSink
from streams.stats import Kind, Stats
from streams.status import Identity, PartitionStatus, Status

PAGE: Final = Path(__file__).parent.parent / "docs" / "metrics.md"
OURS: Final = "streams_"

_INTRODUCTION: Final = """\
# Metrics

Generated from `streams/metrics.py` by `python -m streams.metrics_docs` (`make docs`); edit it there.

`/metrics` on `STREAMS_WEB_PORT` serves them in Prometheus' text format. They are this worker's own: add them up over the
workers of a group (`sum by (topic, partition) (streams_partition_lag_events)`); a partition has one worker at a time.
They are made when Prometheus asks, so an event pays nothing for them. Counters begin at 0 with each start of a worker,
which `rate()` and `increase()` allow for. A family without samples (nothing was retried yet, no partition assigned) has
its help text only.

| label | values |
|---|---|
| `topic`, `partition` | as in Kafka: as many as the group reads |
| `error_type` | of dead letters: `key_template`, `key_too_long`, `too_large`, `invalid_request`; of failed writes: `throttled`, `server_error`, `timeout`, `connection`, `credentials_expired`, `conflict`, `access_denied`, `bucket_missing`, `queue_missing`, `wrong_region`, `credentials_missing`, `kms`, `refused`, `internal` |
| `condition` | {conditions}: [what each means](operations.md#conditions) |
| `stage`, `kind` | those in the tables |
| `le` | upper bounds of the buckets, in seconds: ten a decade from 0.001 to 80, and `+Inf` |

What to alert on: [operations](operations.md#what-to-alert-on). What the dollars mean: [costs](costs.md).
"""  # noqa: E501 - a row of a table is one line
_CONDITIONS: Final = ", ".join(f"`{kind.value}`" for kind in Kind)
_TABLE_HEAD: Final = "| Metric | Type | Labels | Unit | Meaning |\n|---|---|---|---|---|\n"
_UNITS: Final[Mapping[str, str]] = {
    "_usd_per_day": "US dollars",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_offset": "offset",
    "_events": "events",
    "_letters": "events",
    "_errors": "writes",
    "_in_flight": "writes",
    "_limit": "writes",
    "_maximum": "writes",
    "_retry": "writes",
    "_requests": "requests",
    "_rebalances": "rebalances",
    "_segments": "objects",
    "_holes": "ranges",
    "_tasks": "tasks",
    "_partitions": "partitions",
    "_active": "conditions",
    "_begun": "times",
    "_held": "0 or 1",
    "_failing": "0 or 1",
    "_fds": "files",
    "_info": "always 1",
    "_collected": "objects",
    "_uncollectable": "objects",
    "_collections": "collections",
}
"""What a name ends with, and what is counted or measured then."""
_FEW_VALUES: Final = ("kind", "stage")
"""Labels whose values are the same in every worker."""


def render() -> str:
    """The page: our metrics in the order of the collector, then those of the process."""
    return "".join(_lines())


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def families() -> list[Metric]:
    """Every family that `/metrics` can have, with an example of each sample; those of the process only on Linux."""

    async def collect() -> list[Metric]:  # as the page does it: some are about the running event loop
        return Metrics(_ExampleStatus()).collect()

    return asyncio.run(collect())


def _lines() -> Iterator[str]:
    found = families()
    yield _INTRODUCTION.replace("{conditions}", _CONDITIONS)
    yield f"\n## Of the worker\n\n{_TABLE_HEAD}"
    yield from (_row(family) for family in found if family.name.startswith(OURS))
    yield (
        "\n## Of the process\n\nFrom the Python client of Prometheus; the first six are read from Linux' `/proc`.\n\n"
        f"{_TABLE_HEAD}"
    )
    yield from (_row(family) for family in found if not family.name.startswith(OURS))


def _row(family: Metric) -> str:
    kind = "gauge" if family.type == "unknown" else family.type
    cells = (f"`{_shown_name(family)}`", kind, _labels(family), _unit(family.name), family.documentation)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _shown_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _labels(family: Metric) -> str:
    names = dict.fromkeys(name for sample in family.samples for name in sample.labels)
    return ", ".join(f"`{name}`{_values(name, family)}" for name in names)


def _values(label: str, family: Metric) -> str:
    if label not in _FEW_VALUES:
        return ""
    values = dict.fromkeys(sample.labels[label] for sample in family.samples)
    return f" ({', '.join(values)})"


def _unit(name: str) -> str:
    return next(unit for ending, unit in _UNITS.items() if name.endswith(ending))


_NOBODY: Final[Identity] = {
    "host": "",
    "client_id": "",
    "group": "",
    "group_instance_id": None,
    "destination": "",
    "version": "",
}


class _ExampleStatus(Status):
    """A worker with one partition, to which everything that is counted has happened once."""

    def __init__(self) -> None:
        stats = _example_stats()
        delivery = Delivery(
            RecordingSink(), stats, max_in_flight=1, retry_base_seconds=1, retry_max_seconds=1, dead_letters=True
        )
        costs = CostMeter(Prices(), lambda: Usage(1, 1, 1, 1), monotonic())
        super().__init__(stats, delivery, RetentionWatch(_ask_nobody), costs, _NOBODY)

    def partitions(self, now: float) -> list[PartitionStatus]:
        """One, of which everything is known."""
        return [
            PartitionStatus(
                topic="orders",
                partition=0,
                position=1,
                watermark=1,
                committed=1,
                end=1,
                end_age_seconds=0.0,
                pending=0,
                oldest=None,
                held=None,
                ledger_start=None,
                time_to_loss_seconds=1.0,
            )
        ]


def _example_stats() -> Stats:
    stats = Stats()
    stats.written("orders", 0.1, 1)
    stats.dead_lettered("orders", "too_large")
    stats.retries["throttled"] += 1
    stats.lost_to_retention["orders"] += 1
    return stats


async def _ask_nobody(topics: Iterable[str]) -> Mapping[str, Retention | None]:
    return dict.fromkeys(topics)


if __name__ == "__main__":
    main()
