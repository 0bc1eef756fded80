"""What a check of `doctor` says: a finding with its remedy, and the verdict over all of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Final

from pydantic import SecretStr

from streams.settings import Settings

HIDDEN: Final = "(hidden)"
_SHORTEST_SECRET: Final = 4
"""Hiding a secret of three letters would tear words apart, and tell it by that."""


class Status(StrEnum):
    """What a check has found."""

    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should look at it."""
    WRONG = "wrong"
    UNCHECKED = "unchecked"
    """It could not be checked; the finding says why."""


MARKS: Final = {Status.OK: "✓", Status.WARNING: "!", Status.WRONG: "✗", Status.UNCHECKED: "–"}  # noqa: RUF001 - a mark, no minus


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `remedy` is ready to paste, and empty where there is nothing to do."""

    check: str
    status: Status
    finding: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def ok(check: str, finding: str) -> Finding:
    """It works."""
    return Finding(check, Status.OK, finding)


def warning(check: str, finding: str, remedy: str) -> Finding:
    """It works, but somebody should look at it."""
    return Finding(check, Status.WARNING, finding, remedy)


def wrong(check: str, finding: str, remedy: str) -> Finding:
    """The worker cannot do its work like this, or will lose events."""
    return Finding(check, Status.WRONG, finding, remedy)


def unchecked(check: str, because: str, remedy: str = "") -> Finding:
    """It could not be checked; `remedy` is what would make it possible."""
    return Finding(check, Status.UNCHECKED, f"not checked, because {because}", remedy)


class Verdict:
    """What all findings come to."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self._counts = Counter(one.status for one in findings)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong; warnings and what could not be checked do not count."""
        return not self._counts[Status.WRONG]

    def __str__(self) -> str:
        mistakes, warnings, gaps = (self._counts[status] for status in (Status.WRONG, Status.WARNING, Status.UNCHECKED))
        extras = [_counted(warnings, "warning") if warnings else "", f"{gaps} not checked" if gaps else ""]
        rest = "".join(f", {extra}" for extra in extras if extra)
        if mistakes:
            return f"{_counted(mistakes, 'thing')} to mend{rest}."
        return f"The worker can do its work: nothing is wrong{rest}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every secret among the settings, longest first."""
    values = [getattr(settings, name) for name in Settings.model_fields]
    secrets = {one.get_secret_value() for one in values if isinstance(one, SecretStr)}
    return tuple(sorted((one for one in secrets if len(one) >= _SHORTEST_SECRET), key=len, reverse=True))


def censored(finding: Finding, secrets: Sequence[str]) -> Finding:
    """The finding without any of the secrets: a server's own words might repeat one."""
    said, remedy = finding.finding, finding.remedy
    for secret in secrets:
        said, remedy = said.replace(secret, HIDDEN), remedy.replace(secret, HIDDEN)
    return replace(finding, finding=said, remedy=remedy)
