"""The benchmark's own arithmetic and drawing: numbers that people quote must be computed right."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import charts, report
from bench.errors import BenchError
from bench.handwritten import Partition
from bench.machine import Machine
from bench.measure import Measurement, MemoryRun, MemorySample
from bench.results import Results, load
from bench.workload import event

_MACHINE = Machine(2, "a processor", 8.0, "6.1", "3.11.7", 6, {"obstore": "0.12.1"})


def _run(contender: str, round_number: int, steady_per_second: float) -> Measurement:
    return Measurement(
        contender=contender,
        title=contender,
        events=20_000,
        latency_ms=73,
        partitions=4,
        event_bytes=0,
        round=round_number,
        first_to_last_seconds=4.0,
        start_to_last_seconds=5.0,
        steady_per_second=steady_per_second,
        cpu_us_per_event=130.0,
        peak_memory_mib=90.0,
        repeated_puts=0,
        connections=512,
        max_in_flight=512,
        server_cpu_us_per_event=20.0,
        others_cores=0.1,
    )


def _results() -> Results:
    samples = tuple(MemorySample(float(second), 100.0 + second / 60, second * 2_000) for second in range(600))
    return Results(
        machine=_MACHINE,
        started="2026-01-02 03:04:05",
        rounds=2,
        published=[_run("published-sequence", 1, 13.0), _run("worker-obstore", 1, 6_000.0)],
        sustained=[
            _run("worker-obstore", 1, 6_000.0),
            _run("handwritten-aiobotocore", 1, 1_000.0),
            _run("worker-obstore", 2, 3_000.0),
            _run("handwritten-aiobotocore", 2, 750.0),
        ],
        partitions=[_run("worker-obstore", 1, 6_000.0)],
        memory=[MemoryRun("worker-obstore", "Streams", 1024, 500, 600.0, 1_200_000, 1000, 111.0, samples)],
    )


def test_small_events_are_the_published_messages() -> None:
    """An event without a size is the published message, byte for byte as `json.dumps` writes it."""
    assert event(7) == b'{"message_id": 7, "message_content": "This is message 7"}'


@given(st.integers(0, 10**7), st.integers(120, 5_000))
def test_padded_events_are_json_of_the_size_that_was_asked_for(number: int, event_bytes: int) -> None:
    """A padded event has exactly the wanted number of bytes and still says which message it is."""
    body = event(number, event_bytes)
    assert event_bytes == len(body)
    assert number == json.loads(body)["message_id"]


@given(st.permutations(range(12)), st.integers(0, 12))
def test_handwritten_consumer_commits_the_lowest_offset_that_is_not_stored(order: list[int], stored: int) -> None:
    """The consumer that ours is compared with must not look quick by losing events."""
    partition = Partition()
    for offset in range(12):
        partition.started(offset)
    for offset in order[:stored]:
        partition.stored(offset)
    assert min(order[stored:], default=12) == partition.front


def test_ratio_compares_only_runs_of_the_same_round() -> None:
    """The machine's speed drifts between rounds: 6,000/1,000 and 3,000/750 make 5, whatever the medians are."""
    (table,) = report.tables(_results())["sustained"]
    column = table.columns.index("Rate by hand-written aiobotocore")
    assert [row[column] for row in table.rows] == ["5.00", "1.00"]


def test_section_is_replaced_and_the_rest_of_the_document_is_kept(tmp_path: Path) -> None:
    """Writing twice leaves the second text, and what people wrote around it stays."""
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- bench:memory -->\nold\n<!-- /bench:memory -->\nafter\n")
    report.write_section(document, "memory", "first")
    report.write_section(document, "memory", "second")
    assert document.read_text() == "before\n<!-- bench:memory -->\nsecond\n<!-- /bench:memory -->\nafter\n"


def test_missing_section_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Results must not vanish because a marker was edited away."""
    document = tmp_path / "performance.md"
    document.write_text("nothing here\n")
    with pytest.raises(BenchError, match="bench:memory"):
        report.write_section(document, "memory", "text")


def test_performance_page_has_a_section_for_every_part() -> None:
    """Whatever part is run, the page has a place for its tables."""
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    missing = [part for part in report.tables(_results()) if f"<!-- bench:{part} -->" not in page]
    assert missing == []


def test_saved_results_are_the_same_when_loaded(tmp_path: Path) -> None:
    """Tables and charts can be drawn again from the file alone."""
    results = _results()
    assert results == load(results.save(tmp_path))


def test_every_picture_is_well_formed(tmp_path: Path) -> None:
    """Pictures are written by hand, so they are parsed once."""
    drawn = charts.draw(_results(), tmp_path)
    assert sorted(path.stem for path in drawn) == ["bench-cpu", "bench-memory-small", "bench-published", "bench-rate"]
    for path in drawn:
        ElementTree.parse(path)  # noqa: S314 - our own picture


def test_memory_table_compares_the_second_minute_with_the_last() -> None:
    """Start-up is not growth: the first minute is left out."""
    (table,) = report.tables(_results())["memory"]
    assert tuple(table.rows[0][4:6]) == ("102", "109")
