"""`make soak` in less than a minute: three faults, and the same proof at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.machine import this_machine
from bench.soak import report
from bench.soak.plan import FAULTS, Planned
from bench.soak.results import SoakResults
from bench.soak.run import soak
from bench.soak.site import STEADY
from tests.conftest import require
from tests.services.install import KAFKA, S3

pytestmark = [pytest.mark.kafka, pytest.mark.s3, pytest.mark.fault, pytest.mark.timeout(180)]


def test_a_short_soak_ends_proved(tmp_path: Path) -> None:
    """A worker is restarted, S3 goes away and a topic is recreated; every event is there, and recovery was seen."""
    require(KAFKA)
    require(S3)
    results = SoakResults(this_machine(), "now", minutes=0.4, rate=100, partitions=4, steady_workers=list(STEADY))
    kinds = {fault.name: fault for fault in FAULTS}
    planned = [
        Planned(1, kinds["term"]),
        Planned(9, replace(kinds["s3-away"], seconds=2)),
        Planned(15, kinds["topic-recreate"]),
    ]
    told: list[str] = []
    soak(results, planned, tmp_path, sample=500, tell=told.append)
    # How soon it recovers is the machine's matter, in a test; that it does is not.
    failures = [failure for failure in report.failures(results) if "before the next fault" not in failure]
    assert [] == failures, "\n".join(told)
    assert results.recovered(results.faults[-1]) is not None
    assert results.verdict is not None
    assert results.verdict.produced == results.verdict.verified_events >= 2_000
    assert 2 == results.verdict.lives
    assert ["term", "s3-away", "topic-recreate"] == [fault.name for fault in results.faults]
    assert any(sample.tasks for sample in results.workers)
