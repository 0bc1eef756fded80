"""`make audit`: known vulnerabilities in what the hash-pinned files here name, by pip-audit. Standard library only.

Exit code 0: every package was looked up and nothing is known of it. 1: something is. 2: it could not be told, in whole
or in part. pip-audit alone ends with 0 where a package index between here and PyPI has no vulnerability data, which
reads as "nothing found"; that is why its JSON is read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parent
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 2
_REMEDY = (
    "That is no pass. Run it where the vulnerability service can be reached: PyPI's JSON API, "
    'or OSV\'s with ARGS="--vulnerability-service osv".'
)


@dataclass
class Report:
    """What is known of one file's packages."""

    file: str
    packages: int = 0
    vulnerable: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problem: str = ""
    """Why nothing could be told at all."""

    @property
    def code(self) -> int:
        if self.vulnerable:
            return VULNERABLE
        return UNKNOWN if self.skipped or self.problem else CLEAN

    def lines(self) -> Iterator[str]:
        """For people."""
        yield from self.vulnerable
        if self.problem:
            yield f"{self.file}: NOT AUDITED: {self.problem}"
        elif self.skipped:
            names = ", ".join(self.skipped[:5]) + (", …" if len(self.skipped) > 5 else "")
            yield (
                f"{self.file}: {len(self.skipped)} of {self.packages} packages NOT AUDITED, the service does not know "
                f"them: {names}"
            )
        if self.code == CLEAN:
            yield f"{self.file}: nothing known against {self.packages} packages"


def report(file: str, output: str, errors: str) -> Report:
    """What pip-audit has said (JSON on stdout, or none and a traceback on stderr)."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return Report(file, problem=f"pip-audit says: {last[:300]}")
    found = Report(file, len(dependencies))
    for dependency in dependencies:
        if "skip_reason" in dependency:
            found.skipped.append(dependency["name"])
        for vulnerability in dependency.get("vulns", []):
            fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version"
            found.vulnerable.append(
                f"{file}: {dependency['name']} {dependency['version']}: {vulnerability['id']}, mended in {fixed}"
            )
    return found


def audit(path: Path, arguments: Sequence[str]) -> Report:
    """Ask about every package of a file; nothing is installed, nothing resolved."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(path), "--require-hashes", "--disable-pip"]
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "30", *arguments]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    return report(f"{path.parent.name}/{path.name}", done.stdout, done.stderr)


def summary(reports: Sequence[Report]) -> Iterator[str]:
    """All of it, and what to do where something could not be told."""
    for one in reports:
        yield from one.lines()
    if UNKNOWN in {one.code for one in reports}:
        yield _REMEDY


def main(arguments: Sequence[str]) -> int:
    files = sorted(DIRECTORY.glob("*.txt"))
    reports = [audit(path, arguments) for path in files]
    print(*summary(reports), sep="\n")
    codes = {one.code for one in reports}
    return VULNERABLE if VULNERABLE in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
