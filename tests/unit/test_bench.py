"""The benchmark's own arithmetic and drawing: numbers that people quote must be computed right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import charts, contenders, report
from bench.errors import BenchError
from bench.handwritten import Partition
from bench.machine import Machine
from bench.measure import Measurement, MemoryRun, MemorySample
from bench.parts import QUICK, SQS_KEYS, Bench
from bench.results import Results, load
from bench.services import S3, SQS, Service
from bench.workload import Load, event

_FIRST_TO_LAST = "Events/s, first to last %s"
_MACHINE = Machine(2, "a processor", 8.0, "6.1", "3.11.7", 6, {"obstore": "0.12.1"})


def _run(contender: str, round_number: int, steady_per_second: float, service: Service = S3) -> Measurement:
    return Measurement(
        contender=contender,
        title=contender,
        events=20_000,
        latency_ms=73 if service is S3 else 34,
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
        service=service.name,
        requests=20_000 if service is S3 else 2_000,
        keys=0 if service is S3 else 1_000,
    )


def _results() -> Results:
    samples = tuple(MemorySample(float(second), 100.0 + second / 60, second * 2_000) for second in range(600))
    return Results(
        machine=_MACHINE,
        started="2026-01-02 03:04:05",
        rounds=2,
        published=[
            _run("published-s3-sequence", 1, 13.0),
            _run("worker-obstore", 1, 6_000.0),
            _run("published-sqs-threads", 1, 440.0, SQS),
            _run("worker-sqs", 1, 6_000.0, SQS),
        ],
        sustained=[
            _run("worker-obstore", 1, 6_000.0),
            _run("handwritten-aiobotocore", 1, 1_000.0),
            _run("worker-obstore", 2, 3_000.0),
            _run("handwritten-aiobotocore", 2, 750.0),
            _run("worker-sqs", 1, 7_000.0, SQS),
            _run("worker-sqs-fifo", 1, 4_000.0, SQS),
        ],
        partitions=[_run("worker-obstore", 1, 6_000.0)],
        memory=[MemoryRun("worker-obstore", "Streams", 1024, 500, 600.0, 1_200_000, 1000, 111.0, samples)],
    )


def _column(table: report.Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


def _environment(contender: contenders.Contender, data_dir: Path) -> dict[str, str]:
    return contenders.environment(
        contender, bootstrap_servers="", topic="t", group="g", endpoint_url="http://127.0.0.1:9", data_dir=data_dir
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
    table, _ = report.tables(_results())["sustained"]
    assert ["5.00", "1.00"] == _column(table, "Rate by hand-written aiobotocore")


def test_each_service_has_a_table_with_the_columns_that_mean_something_for_it() -> None:
    """Rates to S3 and SQS are not comparable; batches and the target are SQS's, the hand-written consumers S3's."""
    s3, sqs = report.tables(_results())["sustained"]
    assert "20,000 events to S3 at 73 ms per PUT, 4 partitions" == s3.title
    assert "20,000 events of 1,000 keys to SQS at 34 ms per send, 4 partitions" == sqs.title
    assert {"Rate by hand-written aiobotocore"} == set(s3.columns) - set(sqs.columns) - {_FIRST_TO_LAST % "PUT"}
    assert {"Events per request", "Target, events/s"} == set(sqs.columns) - set(s3.columns) - {_FIRST_TO_LAST % "send"}


def test_events_per_request_shows_how_full_the_batches_were() -> None:
    """20,000 events in 2,000 requests are batches of ten."""
    _, sqs = report.tables(_results())["sustained"]
    assert ["10.0", "10.0"] == _column(sqs, "Events per request")


def test_rate_target_is_judged_with_the_ramps() -> None:
    """20,000 events in the 4 s from the first send to the last are 5,000/s; only the row with a target says so."""
    _, sqs = report.tables(_results())["sustained"]
    assert ["≥ 5,000, met", "-"] == _column(sqs, "Target, events/s")


def test_published_table_has_what_was_published_beside_what_was_measured() -> None:
    """The published seconds stand in the rows of the published systems, the target in the row it is about."""
    (table,) = report.tables(_results())["published"]
    assert ["73.57", "-", "-", "2.26", "-", "-"] == _column(table, "Published, s (1,000 messages)")
    assert ["-", "-", "-", "-", "≤ 0.2, met", "-"] == _column(table, "Target, s")
    assert "worker-sqs, first send to last" == table.rows[4][0]


def test_all_four_published_rows_have_their_seconds() -> None:
    """The published table has S3 and SQS, one after the other and in a thread pool."""
    names = [
        contenders.published_design(service, mode, 1_000).name
        for service in (S3, SQS)
        for mode in ("sequence", "threads")
    ]
    assert [73.57, 4.93, 34.14, 2.26] == [report.PUBLISHED_SECONDS[name] for name in names]


def test_published_bars_do_not_claim_this_machines_threads() -> None:
    """The number of threads is that of the machine here, so the bar of the published seconds does not have it."""
    pool = contenders.published_design(SQS, "threads", 1_000)
    runs = [replace(_run(pool.name, 1, 440.0, SQS), title=pool.title)]
    (group,) = charts.published_groups(runs)
    published, here = group.bars
    assert ("SQS, thread pool, as published", 2.26) == (published.label, published.value)
    assert f"{pool.title}, here" == here.label


@pytest.mark.parametrize(("kind", "queue"), [("", "bench"), ("single", "bench"), ("fifo", "bench.fifo")])
def test_worker_with_sqs_is_given_its_queue(tmp_path: Path, kind: str, queue: str) -> None:
    """The queue's name says whether it is a FIFO queue, and the address of the load server is in its URL."""
    variables = _environment(contenders.sqs_worker(kind), tmp_path)
    assert f"http://127.0.0.1:9/000000000000/{queue}" == variables["STREAMS_SQS_QUEUE_URL"]
    assert "sqs" == variables["STREAMS_SINK"]


def test_worker_with_s3_hears_nothing_of_sqs(tmp_path: Path) -> None:
    """An older worker, which `--worker-command` may start, refuses settings that it does not know."""
    variables = _environment(contenders.worker("obstore"), tmp_path)
    assert [] == [name for name in variables if name.startswith(("STREAMS_SQS", "STREAMS_SINK"))]


def test_each_key_has_one_partition() -> None:
    """Events go to partitions in turn; a key in two of them would be no key of Kafka's, and no order could be kept."""
    assert 0 == SQS_KEYS % Load(1, 0).partitions


def test_only_chooses_by_name() -> None:
    """`--only` leaves out every row that it does not name; without it all are run."""
    both = [contenders.worker("obstore"), contenders.handwritten("obstore")]
    only = Bench("", QUICK, lambda _title, _total: lambda _done: None, only=["handwritten-obstore"])
    assert ["handwritten-obstore"] == [contender.name for contender in only.chosen(both)]
    assert both == replace(only, only=()).chosen(both)


def test_results_from_before_sqs_can_be_read(tmp_path: Path) -> None:
    """A run of an older file has no service and no number of requests: it was S3, an event to a request."""
    results = _results()
    path = results.save(tmp_path)
    saved = json.loads(path.read_text())
    for run in saved["sustained"]:
        del run["service"], run["requests"], run["keys"]
    path.write_text(json.dumps(saved))
    run = load(path).sustained[0]
    assert ("s3", 1.0) == (run.service, run.events_per_request)


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
