"""`faust -A streams doctor`: checks what the worker needs, and says how to mend what is missing."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from rich.text import Text

from streams.commands.command import EXIT_OK, EXIT_WRONG, StreamsCommand, json_option
from streams.doctor.examination import examine
from streams.doctor.findings import MARKS, Finding, Status, Verdict

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.WRONG: "bold red", Status.UNCHECKED: "dim"}
_INDENT = "    "


class Doctor(StreamsCommand):
    """Check what the worker needs, before the first deployment and any time after.

    Looks at this machine, at Kafka (brokers, TLS, login, topics, retention, the group's rights, lag and time to loss)
    and at S3 (credentials, bucket, and a real PUT, GET, LIST and DELETE of canary objects, which are taken away
    again). Joins no group and commits nothing: it may run beside live workers. Ends within a minute.

    \b
      ✓ works    ! works, but look at it    ✗ mend this    – could not be checked, and why

    Wrong settings end this command, as any other, before it begins, with a list of all of them.

    \b
    Examples:
      faust -A streams doctor
      faust -A streams doctor --json | jq '.[] | select(.status == "wrong")'

    \b
    Exit codes: 0 nothing is wrong (warnings allowed), 1 something is, 2 it could not run.
    """  # noqa: RUF002 - the mark that the report shows

    options = [json_option]

    async def work(self, **_: Any) -> int:
        """Print each finding as it comes, and the verdict."""
        findings: list[Finding] = []
        async with aclosing(examine(self.settings)) as found:
            async for finding in found:
                findings.append(finding)
                if not self.as_json:
                    self._show(finding)
        verdict = Verdict(findings)
        if self.as_json:
            self.print_json([one.as_json() for one in findings])
        else:
            self.console.print(f"\n{verdict}", markup=False, soft_wrap=True)
        return EXIT_OK if verdict.healthy else EXIT_WRONG

    def _show(self, finding: Finding) -> None:
        line = Text.assemble(
            (MARKS[finding.status], _STYLES[finding.status]), " ", (finding.check, "bold"), f": {finding.finding}"
        )
        self.console.print(line, soft_wrap=True)
        if finding.remedy:
            remedy = "\n".join(_INDENT + line for line in finding.remedy.splitlines())
            self.console.print(Text(remedy), soft_wrap=True)
