"""`doctor` without any server: verdict, sections, secrets, and the arithmetic about this machine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from streams.doctor.examination import side_by_side
from streams.doctor.findings import (
    HIDDEN,
    Finding,
    Status,
    Verdict,
    censored,
    ok,
    secrets_of,
    unchecked,
    warning,
    wrong,
)
from streams.doctor.machine import IDLE_BYTES, OTHER_OPEN_FILES, connection_pool, memory, memory_limit_bytes, open_files
from streams.settings import Settings

MIB = 1024**2


def make_settings(**fields: Any) -> Settings:
    """Valid settings; what a test does not say has its default."""
    required = {
        "kafka_bootstrap_servers": "broker:9092",
        "topics": "orders",
        "consumer_group": "orders-to-s3",
        "s3_bucket": "my-events",
    }
    return Settings(**{**required, **fields})


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)


# -- verdict -----------------------------------------------------------------------------------------------------------


def test_warnings_and_gaps_do_not_make_it_unhealthy() -> None:
    """Only what is wrong does; the verdict counts the rest."""
    verdict = Verdict([ok("a", ""), warning("b", "", ""), warning("c", "", ""), unchecked("d", "")])
    assert verdict.healthy
    assert "The worker can do its work: nothing is wrong, 2 warnings, 1 not checked." == str(verdict)


def test_one_wrong_thing_makes_it_unhealthy() -> None:
    """However much is well."""
    verdict = Verdict([ok("a", ""), wrong("b", "", ""), warning("c", "", "")])
    assert not verdict.healthy
    assert "1 thing to mend, 1 warning." == str(verdict)


def test_json_has_the_four_fields() -> None:
    """For machines; the status is a plain word."""
    expected = {"check": "s3 PUT", "status": "wrong", "finding": "denied", "remedy": "allow"}
    assert expected == wrong("s3 PUT", "denied", "allow").as_json()


def test_no_secret_survives_in_a_finding() -> None:
    """Every secret setting is hidden, even where a server's words repeat it."""
    settings = make_settings(
        kafka_sasl_password="canary-password",
        kafka_oauth_client_secret="canary-secret",
        kafka_ssl_key_password="canary-key",
        kafka_sasl_username="alice",
    )
    secrets = secrets_of(settings)
    assert {"canary-password", "canary-secret", "canary-key"} == set(secrets)
    text = "alice said canary-password canary-secret canary-key"
    shown = censored(Finding("check", Status.WRONG, text, text), secrets)
    assert f"alice said {HIDDEN} {HIDDEN} {HIDDEN}" == shown.finding == shown.remedy


# -- sections ----------------------------------------------------------------------------------------------------------


async def section(name: str, steps: int, pause_seconds: float = 0.0) -> AsyncGenerator[Finding, None]:
    for step in range(steps):
        await asyncio.sleep(pause_seconds)
        yield ok(f"{name} {step}", "")


async def failing() -> AsyncGenerator[Finding, None]:
    yield ok("before", "")
    raise ValueError("what a library may do")


async def test_sections_run_at_the_same_time_and_are_reported_in_order() -> None:
    """Three sections of 0.3 s take nowhere near 0.9 s."""
    began = time.monotonic()
    sections = {name: section(name, 3, 0.1) for name in ("a", "b", "c")}
    found = [one.check async for one in side_by_side(sections, 10)]
    assert [f"{name} {step}" for name in "abc" for step in range(3)] == found
    assert time.monotonic() - began < 0.8


async def test_section_that_hangs_is_cut_off_and_said_to_be() -> None:
    """What it had found stays; the other section is whole."""
    found = [one async for one in side_by_side({"slow": section("slow", 2, 60), "quick": section("quick", 1)}, 0.1)]
    assert ["slow", "quick 0"] == [one.check for one in found]
    assert Status.WRONG == found[0].status
    assert "not done after 0 s" in found[0].finding


async def test_unexpected_error_ends_its_own_section_only() -> None:
    """The report says so, and the message of the error, which might hold anything, is not in it."""
    found = [one async for one in side_by_side({"kafka": failing(), "s3": section("s3", 1)}, 10)]
    assert ["before", "kafka", "s3 0"] == [one.check for one in found]
    assert "unexpected ValueError" in found[1].finding
    assert "library" not in found[1].finding


async def test_leaving_early_ends_all_sections() -> None:
    """Ctrl-C: no section goes on in the background."""
    findings = side_by_side({"a": section("a", 5), "b": section("b", 5, 60)}, 100)
    assert "a 0" == (await anext(findings)).check
    await findings.aclose()
    assert [asyncio.current_task()] == [task for task in asyncio.all_tasks() if not task.done()]


# -- this machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, Status.OK), (1000 + OTHER_OPEN_FILES, Status.OK), (1024, Status.WRONG)],
)
def test_open_files_must_allow_a_connection_for_each_write(limit: int | None, expected: Status) -> None:
    """1,000 writes do not fit the usual limit of 1,024."""
    found = open_files(1000, limit)
    assert expected == found.status
    if expected is Status.WRONG:
        assert "ulimit -n 1100" in found.remedy
        assert "STREAMS_MAX_IN_FLIGHT=924" in found.remedy


@pytest.mark.parametrize(
    ("available_bytes", "expected"),
    [
        (IDLE_BYTES + 192 * MIB, Status.OK),
        (IDLE_BYTES + 191 * MIB, Status.WARNING),
        (IDLE_BYTES + 64 * MIB, Status.WARNING),
        (IDLE_BYTES + 63 * MIB, Status.WRONG),
    ],
)
def test_memory_must_hold_what_is_in_flight(available_bytes: int, expected: Status) -> None:
    """Three times the bytes in flight fit, only once (small events), or not even that."""
    assert expected == memory(64 * MIB, available_bytes, "cgroup limit").status


def test_memory_remedy_names_a_setting_that_fits() -> None:
    """Following it makes the check pass."""
    found = memory(64 * MIB, 160 * MIB, "cgroup limit")
    assert "STREAMS_MAX_IN_FLIGHT_BYTES=20MiB" in found.remedy
    assert Status.OK == memory(20 * MIB, 160 * MIB, "cgroup limit").status


def test_pool_is_as_large_as_the_bound() -> None:
    """For both clients."""
    assert Status.OK == connection_pool(make_settings(s3_client="aiobotocore")).status
    assert "no bound" in connection_pool(make_settings(s3_client="obstore")).finding


def make_cgroup(root: Path, line: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/", {"memory.max": str(128 * MIB)}),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": str(128 * MIB)}),
        ("4:memory:/docker/1", {"memory/memory.limit_in_bytes": str(128 * MIB)}),
    ],
    ids=["container", "slice-above", "version-1"],
)
def test_container_limit_is_found(line: str, files: dict[str, str], tmp_path: Path) -> None:
    """Wherever the kernel keeps it."""
    assert (128 * MIB, "cgroup limit") == memory_limit_bytes(make_cgroup(tmp_path, line, files))


@pytest.mark.parametrize(
    ("line", "files"),
    [("0::/", {"memory.max": "max"}), ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"})],
)
def test_no_container_limit_means_what_the_machine_has(line: str, files: dict[str, str], tmp_path: Path) -> None:
    """Both ways of the kernel to say "no limit"."""
    found = memory_limit_bytes(make_cgroup(tmp_path, line, files))
    assert found is not None
    assert "physical" == found[1]
