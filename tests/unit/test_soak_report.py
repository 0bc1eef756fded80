"""When a soak is passed, and when it is not: a soak that cannot fail proves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.machine import Machine
from bench.soak import report
from bench.soak.results import FaultRun, LagSample, SoakResults, Verdict, WorkerSample, load

PROVED = Verdict("proved", "PROVED: all 720,000 events.", 60, 720_000, 10_000, 720_000, 720_000, {"steady-1": 0})
KILL = FaultRun("kill", "a worker is killed", 600, 620)


def _soak(
    verdict: Verdict | None = PROVED, growth_mib: float = 0.0, tasks_an_hour: float = 0.0, descriptors_an_hour: int = 0
) -> SoakResults:
    """An hour with one fault that is recovered from after ten seconds."""
    workers = [
        WorkerSample(
            at,
            "steady-1",
            7,
            110 + growth_mib * at / 3600,
            40 + descriptors_an_hour * at // 3600,
            20,
            60 + int(tasks_an_hour * at / 3600),
        )
        for at in range(0, 3600, 5)
    ]
    workers += [WorkerSample(at, "restarted", 8 + at // 600, 90, 38, 20, None) for at in range(0, 3600, 5)]
    lags = [LagSample(at, 200 * at, 5000 if 600 <= at < 630 else 100) for at in range(0, 3600, 2)]
    return SoakResults(
        machine=Machine(2, "a processor", 8.0, "6.1", "3.11.7", 6, {"obstore": "0.12.1"}),
        started="2026-01-02 03:04:05",
        minutes=60,
        rate=200,
        partitions=12,
        steady_workers=["steady-1"],
        faults=[KILL],
        workers=workers,
        lags=lags,
        injected={"SlowDown": 3},
        puts=800_000,
        verdict=verdict,
    )


def test_a_good_hour_is_passed() -> None:
    """Everything there, nothing grows, the fault recovered from."""
    assert [] == report.failures(_soak())


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (None, "verify"),
        (replace(PROVED, verdict="missing", sentence="MISSING: 1 event"), "MISSING: 1 event"),
        (replace(PROVED, verified_events=719_999), "719,999"),
        (replace(PROVED, files=719_999), "719,999 files"),
        (replace(PROVED, produced=720_001), "720,001 events were published"),
        (replace(PROVED, exit_codes={"steady-2": 1}), "steady-2 ended with exit code 1"),
    ],
    ids=["not verified", "missing", "verify counts fewer", "fewer files", "more published", "exit code"],
)
def test_what_is_not_proved_fails(verdict: Verdict | None, words: str) -> None:
    """Each of the three counts, and each worker's end, can fail it alone."""
    (failure,) = report.failures(_soak(verdict))
    assert words in failure


def test_memory_that_grows_fails() -> None:
    """By more than the threshold an hour."""
    (failure,) = report.failures(_soak(growth_mib=15))
    assert "Memory while nothing happens" in failure


def test_memory_that_each_rotation_leaves_behind_fails() -> None:
    """Flat in every quiet time, and 15 MiB more after the same faults: a leak at the faults."""
    soak = _soak()
    soak.faults.append(replace(KILL, began=2400, ended=2420))
    soak.workers = [
        replace(one, resident_mib=one.resident_mib + (15 if one.seconds > 2400 else 0)) for one in soak.workers
    ]
    (failure,) = report.failures(soak)
    assert "Memory at the end of each rotation, MiB grows: 110 → 125" in failure


def test_tasks_that_grow_fail() -> None:
    """One that is forgotten every five minutes is seen."""
    (failure,) = report.failures(_soak(tasks_an_hour=12))
    assert "asyncio tasks" in failure


def test_descriptors_are_judged_by_their_floor_in_each_rotation() -> None:
    """Bursts of connections are no leak; a floor that is 30 higher half an hour later is one."""
    steady, leaking = _soak(), _soak(descriptors_an_hour=60)
    for soak in (steady, leaking):
        soak.faults.append(replace(KILL, began=2400, ended=2420))
        soak.workers.append(WorkerSample(2500, "steady-1", 7, 110, 900, 20, 60))
    assert [] == report.failures(steady)
    (failure,) = report.failures(leaking)
    assert "File descriptors, lowest in each rotation grows: 50 → 80" in failure


def test_of_one_rotation_nothing_is_said_about_descriptors() -> None:
    """There is nothing to compare its floor with."""
    verdicts = {(one.measure.name, one.flat) for one in report.findings(_soak(descriptors_an_hour=60))}
    assert ("File descriptors, lowest in each rotation", None) in verdicts


def test_of_a_short_run_nothing_is_said_about_growth() -> None:
    """A minute's samples would say anything."""
    short = _soak(growth_mib=500)
    short.minutes = 5
    assert [] == report.failures(short)
    assert {"too short to tell"} == {row[-1] for row in report.trend_table(short).rows}


def test_a_fault_that_is_not_recovered_from_fails() -> None:
    """The lag must be normal again before the next fault."""
    soak = _soak()
    soak.faults.append(FaultRun("term", "a worker is stopped", 625, 626))
    (failure,) = report.failures(soak)
    assert "a worker is killed at 600 s" in failure


def test_a_lag_that_comes_back_is_not_recovered_from() -> None:
    """Normal for a moment and high again before the next fault: the last word counts."""
    soak = _soak()
    soak.lags = [LagSample(at, 200 * at, 5000 if 600 <= at < 630 or 700 <= at < 760 else 100) for at in range(3600)]
    assert 760 == soak.recovered(KILL)


def test_fault_table_says_how_bad_and_how_long() -> None:
    """Highest lag, and seconds from the fault's end to a normal lag."""
    ((_, minute, lasted, lag, recovered),) = report.fault_table(_soak()).rows
    assert ("10.0", "20", "5,000", "10") == (minute, lasted, lag, recovered)


def test_picture_shows_every_life_and_fault() -> None:
    """Lag, memory, descriptors and tasks; each life of a worker is a line of its own, each fault a band."""
    root = ElementTree.fromstring(report.picture(_soak()))  # noqa: S314 - a picture of ours
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    titles = [element.text for element in root.iter() if element.get("class") == "panel"]
    assert 4 == len(titles)
    assert 1 == sum(element.get("class") == "band" for element in root.iter())
    assert names.count("polyline") >= 1 + 7 + 7 + 1


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    """So that the picture can be drawn again without another hour."""
    soak = _soak()
    assert soak == load(soak.save(tmp_path))
    unfinished = _soak(verdict=None)
    assert unfinished == load(unfinished.save(tmp_path))
