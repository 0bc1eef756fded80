"""The installer of the tests' programs: system packages are for throw-away machines only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.services import install
from tests.services.install import NotInstalledError, Part


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Part:
    """A program of a package that is not installed, on a machine with apt-get."""
    monkeypatch.setattr(Part, "missing_tools", lambda self: [])
    return install._debian("no-such-program", "no-such-package", "1 s")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the installer would have run."""
    ran: list[list[str]] = []

    def run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        ran.append(list(command))

    monkeypatch.setattr(install, "_run", run)
    install._update_package_lists.cache_clear()
    return ran


@pytest.mark.parametrize(("ci", "user"), [("", 0), ("true", 1000)])
def test_system_is_left_alone_outside_ci_and_without_root(
    ci: str, user: int, part: Part, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a person's machine nothing is installed; the message is the command to run."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(NotInstalledError, match="sudo apt-get install --no-install-recommends no-such-package"):
        install.install(part)
    assert commands == []


def test_ci_installs_system_packages(part: Part, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A throw-away machine gets the package, after one update of the lists however many packages there are."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    install.install(part)
    install.install(part)
    added = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "no-such-package"]
    assert [["apt-get", "-qq", "update"], added, added] == commands


def test_missing_package_is_a_reason_to_skip(part: Part, tmp_path: Path) -> None:
    """A test that needs the program says how to get it."""
    assert (
        "no-such-program is not installed "
        "(Debian, Ubuntu: sudo apt-get install --no-install-recommends no-such-package)" == part.problem()
    )
