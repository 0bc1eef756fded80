"""Charts and figures: axes that read well, lines that show gaps, numbers with their units."""

from __future__ import annotations

import pytest

from streams.dashboard import figures
from streams.dashboard.charts import WIDTH, Scale, charts, decades, nice_top, path
from streams.dashboard.history import Sample


def sample(at: float, **fields: float | None) -> Sample:
    """A sample of a quiet worker, but for these fields."""
    quiet = Sample(at, 0.0, 0.0, 0, 512, 1000, None, None, 0)
    return quiet._replace(**fields)  # type: ignore[arg-type] # the fields are the caller's


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (0.3, 0.4), (1, 1), (3, 4), (4.1, 5), (73, 100), (1000, 1000), (1001, 2000)]
)
def test_axis_ends_at_a_readable_number(highest: float, top: float) -> None:
    """The least 1, 2, 4, 5 times a power of ten that is not below the highest value."""
    assert pytest.approx(top) == nice_top(highest)


def test_line_is_interrupted_where_nothing_was_measured() -> None:
    """A gap is a gap, not a line across; a lone value is a dot."""
    assert "M0.0 50.0L1.0 0.0M3.0 100.0h0" == path([(0, 5), (1, 10), (2, None), (3, 0)], Scale(0, 10))


@pytest.mark.parametrize(
    ("values", "bottom", "middle", "top"),
    [
        ([], 0.01, 0.1, 1),
        ([0.08, 0.25], 0.01, 0.1, 1),
        ([0.08, 16], 0.01, 1, 100),
        ([0.1, 10], 0.1, 1, 10),
        ([0], 0.01, 0.1, 1),
    ],
)
def test_latency_has_an_axis_of_powers_of_ten(values: list[float], bottom: float, middle: float, top: float) -> None:
    """An outage of minutes does not press the milliseconds of the rest into one line."""
    scale = decades(values)
    assert pytest.approx((bottom, middle, top)) == (scale.bottom, scale.middle, scale.top)
    assert pytest.approx((0, 0.5, 1)) == tuple(scale.height(value) for value in (0, scale.middle, scale.top))


def test_charts_of_nothing_are_empty() -> None:
    """A worker that has just begun has axes and no lines."""
    found = charts([])
    assert ["rate", "in-flight", "latency", "lag"] == [chart.key for chart in found]
    assert {""} == {line.path for chart in found for line in chart.lines}
    assert all("nothing was measured yet" in chart.summary for chart in found)


def test_chart_places_samples_by_their_time() -> None:
    """The last sample is at the right edge, one of seven and a half minutes ago in the middle."""
    rate = charts([sample(1000.0, events_per_second=0.0), sample(1450.0, events_per_second=800.0)])[0]
    assert f"M{WIDTH / 2:.1f} 100.0L{WIDTH:.1f} 20.0" == rate.lines[0].path
    assert ("1,000/s", "500/s", "0/s") == rate.ticks
    assert "events now 800/s, lowest 0/s, highest 800/s" in rate.summary


def test_whole_things_have_no_half_on_the_axis() -> None:
    """Half an event of lag is no tick."""
    assert ("2", "1", "0") == charts([sample(0.0, lag=1)])[3].ticks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figures.count(1234567), "1,234,567"),
        (figures.per_second(4321.0), "4,321/s"),
        (figures.per_second(0.25), "0.2/s"),
        (figures.size(0), "0 B"),
        (figures.size(1536), "1.5 KiB"),
        (figures.size(300 * 2**20), "300 MiB"),
        (figures.bytes_per_second(2**30), "1.0 GiB/s"),
        (figures.milliseconds(0.073), "73 ms"),
        (figures.milliseconds(0.0016), "1.6 ms"),
        (figures.milliseconds(2.5), "2.5 s"),
        (figures.milliseconds(80.0), "80 s"),
        (figures.duration(4.26), "4.3 s"),
        (figures.duration(185), "3 min 5 s"),
        (figures.duration(8040), "2 h 14 min"),
        (figures.duration(6.5 * 86400), "6 d 12 h"),
        (figures.clock(0), "1970-01-01 00:00:00 UTC"),
        (figures.time_of_day(61), "00:01:01"),
    ],
)
def test_figures_carry_their_unit(text: str, expected: str) -> None:
    """People read numbers with thousands and units."""
    assert expected == text


def test_unknown_figures_are_a_dash() -> None:
    """Nothing was measured; that is not zero."""
    formats = (
        figures.count,
        figures.per_second,
        figures.size,
        figures.bytes_per_second,
        figures.milliseconds,
        figures.duration,
    )
    assert {figures.NOTHING} == {form(None) for form in formats}
