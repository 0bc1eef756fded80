"""The arithmetic of the comparison with rivals, and that its parts belong together: no server is needed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.load_server import REPOSITORY
from bench.machine import Machine
from bench.measure import Measurement
from bench.rivals import install, plan, report
from bench.rivals.kill import KillRun
from bench.rivals.results import RivalResults, load
from bench.rivals.systems import OURS, REFERENCE, systems
from bench.workload import Load
from tests.services.install import NotInstalledError, Part

_MACHINE = Machine(2, "a processor", 8.0, "6.1", "3.11.7", 6, {"obstore": "0.12.1"})


def _run(system: str, round_number: int, steady_per_second: float, event_bytes: int = 0) -> Measurement:
    return Measurement(
        contender=system,
        title=f"{system}: its configuration",
        events=20_000,
        latency_ms=73,
        partitions=4,
        event_bytes=event_bytes,
        round=round_number,
        first_to_last_seconds=4.0,
        start_to_last_seconds=5.0,
        steady_per_second=steady_per_second,
        cpu_us_per_event=600_000 / steady_per_second,
        peak_memory_mib=90.0,
        repeated_puts=0,
        connections=500,
        max_in_flight=500,
        server_cpu_us_per_event=20.0,
        others_cores=0.1,
    )


def _results() -> RivalResults:
    runs = [_run(OURS, 1, 6_000.0), _run(REFERENCE, 1, 4_000.0), _run(OURS, 2, 3_000.0), _run(REFERENCE, 2, 2_400.0)]
    kills = [KillRun(OURS, "Streams: as shipped", 20_000, 73, number, 10_003, 0, 400, 14.0) for number in (1, 2)]
    skipped = {"Quix Streams": "it could not be installed"}
    return RivalResults(_MACHINE, "2026-01-02 03:04:05", 2, runs, kills, skipped)


def test_ratio_compares_only_runs_of_the_same_round() -> None:
    """6,000/4,000 and 3,000/2,400 make 1.375 in the middle, whatever the medians of the rates are."""
    runs = _results().runs
    assert report.ratio([run for run in runs if run.contender == OURS], runs, report.rate) == pytest.approx(1.375)


def test_there_is_no_ratio_without_the_reference() -> None:
    """Without Benthos there is nothing to divide by, and the table says so instead of guessing."""
    alone = [_run(OURS, 1, 6_000.0)]
    assert report.ratio(alone, alone, report.rate) is None
    (row,) = report.rate_table(alone).rows
    assert row[3] == "-"


def test_loads_of_another_size_are_tables_of_their_own() -> None:
    """Events of 57 bytes and of 1 KiB are never compared with each other."""
    runs = [_run(OURS, 1, 6_000.0), _run(OURS, 1, 4_000.0, event_bytes=1_024)]
    assert [["Events of 57 bytes, 73 ms per PUT"], ["Events of 1,024 bytes, 73 ms per PUT"]] == [
        [report.load_name(of_load)] for of_load in report.by_load(runs)
    ]


def test_every_round_of_a_loss_is_shown() -> None:
    """One round that lost events must not disappear behind a median of none."""
    kills = _results().kills
    (row,) = report.kill_table([kills[0], replace(kills[1], lost=7)]).rows
    assert row[1] == "0, 7"


def test_page_has_a_place_for_every_table() -> None:
    """Whatever is measured, docs/rivals.md has the markers that it is written between."""
    page = (REPOSITORY / "docs" / "rivals.md").read_text()
    missing = [name for name in report.sections(_results()) if f"<!-- bench:{name} -->" not in page]
    assert missing == []


def test_what_was_skipped_is_written_down() -> None:
    """A rival that could not be had is named with the reason, so that its absence is not taken for a choice."""
    assert "Not measured: Quix Streams: it could not be installed." in report.sections(_results())["rivals"]


def test_pictures_are_drawn_with_ours_in_the_strong_colour(tmp_path: Path) -> None:
    """Both pictures show one bar for each system, and which of them is ours."""
    for path in report.draw(_results(), tmp_path):
        assert ["paper", "ours", "others"] == re.findall(r'<rect class="(\w+)"', path.read_text())


def test_saved_results_are_the_same_when_loaded(tmp_path: Path) -> None:
    """Tables and pictures can be drawn again from the file alone."""
    results = _results()
    assert load(results.save(tmp_path)) == results


def test_systems_that_write_one_event_at_a_time_do_a_share_of_small_events() -> None:
    """Nobody waits 24 minutes for a rate that 200 events show as well; large events they leave out."""
    sequence = next(system for system in systems() if system.name == "published-sequence")
    assert sequence.share(Load(20_000, 73)) == Load(200, 73)
    assert sequence.share(Load(20_000, 73, event_bytes=1_024)) is None


def test_quick_look_does_a_tenth() -> None:
    """`--quick` reads smaller topics, at the same latencies."""
    assert plan.Sizes(1, plan.QUICK_SHARE).of(Load(20_000, 73)) == Load(2_000, 73)


def test_everyone_is_started_from_files_that_are_there() -> None:
    """A renamed configuration must not show as a rival that fails."""
    commands = [system.contender(each).command for system in systems() for each in plan.LOADS]
    named = {word for command in commands for word in command if word.endswith(".yaml")}
    assert len(named) == 2
    assert [] == [name for name in named if not Path(name).exists()]


def test_missing_toolchain_is_a_reason_and_no_error(tmp_path: Path) -> None:
    """A machine without Go still compares the others, and says what it lacks."""
    part = Part("Benthos", tmp_path / "benthos" / "benthos", ("no-such-tool",), lambda partial: None, "no time")
    assert install.missing([part]) == {"Benthos": "it needs no-such-tool, which is not on the PATH"}


def test_failed_installation_is_a_reason_and_no_error(tmp_path: Path) -> None:
    """A registry that says no leaves out one rival, not the comparison; nothing half-made stays behind."""

    def refuse(partial: Path) -> None:
        raise NotInstalledError("the registry said no")

    part = Part("Benthos", tmp_path / "benthos" / "benthos", (), refuse, "no time")
    assert install.missing([part]) == {"Benthos": "it could not be installed. the registry said no"}
    assert [] == list(tmp_path.iterdir())


def test_system_that_fails_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rival that breaks does not cost the numbers of the others."""

    def fail(*arguments: object) -> Measurement:
        raise BenchError("it ended with exit code 1\nand a long log")

    monkeypatch.setattr(plan, "measure", fail)
    results = RivalResults(_MACHINE, "2026-01-02 03:04:05", 1)
    plan.rate(systems()[0], plan.LOADS[0], plan.Sizes(1), "topic", "127.0.0.1:1", 1, results)
    assert ([], {"Streams: as shipped, 20,000 at 73 ms": "it ended with exit code 1"}) == (
        results.runs,
        results.skipped,
    )
