"""The chart that soak and scale share."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.timeline import Line, Mark, Panel, ceiling, time_ticks, timeline


def _elements(picture: str, name: str, style: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(picture)  # noqa: S314 - a picture of ours
    found = [element for element in root.iter() if element.tag.endswith(name)]
    return [element for element in found if element.get("class") == style]


@pytest.mark.parametrize(("value", "expected"), [(0, 1), (0.3, 0.4), (1, 1), (7, 8), (101, 200), (4358, 6000)])
def test_an_axis_ends_at_a_round_number(value: float, expected: float) -> None:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    assert expected == pytest.approx(ceiling(value))


@given(st.floats(1e-6, 1e12))
def test_an_axis_is_never_too_short_nor_much_too_long(value: float) -> None:
    """Every value fits, and takes at least half of the height."""
    assert value * 0.999 <= ceiling(value) <= value * 2.001


@pytest.mark.parametrize(
    ("seconds", "last", "label"),
    [(9, 9.0, "9 s"), (360, 360.0, "6 min"), (3600, 3600.0, "60 min"), (86_400, 86_400.0, "24 h")],
)
def test_time_is_labelled_in_its_own_unit(seconds: float, last: float, label: str) -> None:
    """At most a dozen steps, seconds, minutes or hours."""
    ticks = time_ticks(seconds)
    assert len(ticks) <= 13
    assert (last, label) == ticks[-1]


def test_a_value_that_is_not_known_breaks_the_line() -> None:
    """While the broker is away there is no lag: two lines, not one through nothing."""
    line = Line("lag", [(0, 1), (1, 2), (2, None), (3, 4), (4, 5)])
    assert 2 == len(_elements(timeline("t", [Panel("p", [line])]), "polyline", "c0"))


def test_steps_jump() -> None:
    """A worker more is one more at once: the line has a corner before and after."""
    (line,) = _elements(timeline("t", [Panel("p", [Line("", [(0, 1), (10, 2)], steps=True)])]), "polyline", "c0")
    (_, before), (x1, y1), (x2, y2) = [tuple(dot.split(",")) for dot in (line.get("points") or "").split()]
    assert x1 == x2
    assert before == y1 != y2


def test_marks_are_drawn_and_crowded_labels_left_out() -> None:
    """Every fault has its band; a label that would cover its neighbour's is not written."""
    panel = Panel("p", [Line("", [(0, 1), (3600, 1)])])
    picture = timeline("t", [panel], [Mark("kill", 100, 110), Mark("term", 101, 120), Mark("more", 2000)])
    assert 2 == len(_elements(picture, "rect", "band"))
    assert ["kill", "more"] == [element.text for element in _elements(picture, "text", "mark")]


def test_lines_are_named_where_there_are_several() -> None:
    """One legend entry for each label; a panel of one line needs none."""
    points: list[tuple[float, float | None]] = [(0, 1), (1, 1)]
    several = timeline("t", [Panel("p", [Line("a", points), Line("b", points, 1), Line("b", points, 1)])])
    assert ["b", "a"] == [text.text for text in _elements(several, "text", "axis") if text.text in ("a", "b")]


def test_words_are_escaped() -> None:
    """Titles come from people."""
    assert "a &lt; b" in timeline("a < b", [Panel("p", [Line("", [(0, 1)])])])
