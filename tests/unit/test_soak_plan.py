"""Which fault comes when, and that each of them can be done."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.soak.faults import _ACTIONS
from bench.soak.plan import FAULTS, schedule


def test_an_hour_has_every_fault_twice() -> None:
    """The defaults of the command: each kind comes in both halves."""
    planned = schedule(3600, 120, 102)
    assert {fault.name: 2 for fault in FAULTS} == Counter(one.fault.name for one in planned)


def test_every_fault_has_time_to_be_recovered_from() -> None:
    """The last one, too: a fault's whole interval lies within the run."""
    planned = schedule(3600, 120, 102)
    assert all(one.at + 102 <= 3600 for one in planned)
    assert all(one.fault.seconds <= 0.6 * 102 for one in planned)
    assert all(one.recovery_seconds == pytest.approx(0.4 * 102) for one in planned)


def test_short_runs_have_short_faults() -> None:
    """A minute without S3 does not fit between faults that are 20 s apart."""
    away = next(one.fault for one in schedule(600, 10, 20) if one.fault.name == "s3-away")
    assert 12 == away.seconds


@pytest.mark.parametrize(("total", "expected"), [(100, 0), (250, 1), (379, 1), (380, 2)])
def test_a_run_that_is_too_short_has_fewer(total: float, expected: int) -> None:
    """None is begun that could not be recovered from."""
    assert expected == len(schedule(total, 120, 130))


def test_every_fault_can_be_done() -> None:
    """A name in the plan without an action would stop the soak in the middle of its hour."""
    assert {fault.name for fault in FAULTS} == _ACTIONS.keys()
