"""docs/metrics.md says what `/metrics` serves."""

from __future__ import annotations

import re
import sys

import pytest

from streams import errors
from streams.metrics_docs import PAGE, families, render

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process's own metrics are read from /proc")


def documented() -> dict[str, list[str]]:
    """The cells of each metric's row, by name."""
    rows = [line.strip("| ").split(" | ") for line in render().splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 5}


def test_page_equals_the_collector() -> None:
    """Run `make docs` after a change of the metrics."""
    assert render() == PAGE.read_text(encoding="utf-8")


def test_page_has_one_row_for_each_family() -> None:
    """Ours and those of the process, each with a type, a unit and a meaning."""
    names = [f"{family.name}_total" if family.type == "counter" else family.name for family in families()]
    assert names == list(documented())
    assert {"streams_partition_lag_events", "streams_cost_usd_per_day", "process_resident_memory_bytes"} < set(names)
    for name, (kind, _, unit, meaning) in documented().items():
        assert kind in ("counter", "gauge", "histogram"), name
        assert unit, name
        assert meaning, name


def test_every_family_has_an_example() -> None:
    """Without one the page would not know its labels."""
    assert [] == [family.name for family in families() if not family.samples]
    assert "`topic`, `partition`" == documented()["streams_partition_lag_events"][1]
    assert "`kind` (requests, storage)" == documented()["streams_cost_usd_per_day"][1]


def test_page_names_every_reason() -> None:
    """The values of `error_type` are those that the errors promise to have."""
    reasons = set()
    for error in (errors.RecordRejectedError, errors.SinkUnavailableError, errors.SinkRefusedError):
        text = re.search(r"`reason` is one of (.+?)[.;]\s", f"{error.__doc__} ", re.DOTALL)
        assert text is not None, error
        reasons |= set(re.findall(r"`(\w+)`", text[1]))
    assert len(reasons) > 12
    label = next(line for line in render().splitlines() if line.startswith("| `error_type`"))
    assert set() == {reason for reason in reasons if f"`{reason}`" not in label}
