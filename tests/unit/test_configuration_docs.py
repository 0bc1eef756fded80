"""docs/configuration.md says what the code does."""

from __future__ import annotations

from streams.configuration_docs import PAGE, render
from streams.setting_sources import variable
from streams.settings import Settings


def test_page_equals_the_settings() -> None:
    """Run `python -m streams.configuration_docs` after a change of the settings."""
    assert render() == PAGE.read_text(encoding="utf-8")


def test_page_has_one_row_for_each_setting() -> None:
    """No setting is left out or told twice."""
    rows = [line.split("`")[1] for line in render().splitlines() if line.startswith("| `STREAMS_")]
    assert [variable(field) for field in Settings.model_fields] == rows
