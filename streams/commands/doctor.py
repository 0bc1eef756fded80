"""`faust -A streams doctor`: checks what the worker needs, and says how to mend what is missing."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from faust.cli import option
from rich.text import Text

from streams.commands.command import EXIT_OK, EXIT_WRONG, StreamsCommand, json_option
from streams.doctor.examination import examine
from streams.doctor.findings import MARKS, Finding, Status, Verdict
from streams.errors import ConfigurationError

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.WRONG: "bold red", Status.UNCHECKED: "dim"}
_INDENT = "    "


class Doctor(StreamsCommand):
    """Check what the worker needs, before the first deployment and any time after.

    Looks at this machine, at Kafka (brokers, TLS, login, topics, retention, the group's rights, lag and time to
    loss), at S3 (credentials, bucket, and a real PUT, GET, LIST and DELETE of canary objects, which are taken away
    again) or at SQS (credentials, queues and their attributes), and at what a day's events cost. Joins no group and
    commits nothing: it may run beside live workers. Ends within a minute.

    Sending to SQS is tried with --send only, for SQS has no dry run and no message can be taken back.

    \b
      ✓ works    ! works, but look at it    ✗ mend this    – could not be checked, and why

    Wrong settings end this command, as any other, before it begins, with a list of all of them.

    \b
    Examples:
      faust -A streams doctor
      faust -A streams doctor --send
      faust -A streams doctor --json | jq '.[] | select(.status == "wrong")'

    \b
    Exit codes: 0 nothing is wrong (warnings allowed), 1 something is, 2 it could not run.
    """  # noqa: RUF002 - the mark that the report shows

    options = [
        json_option,
        option("--send", is_flag=True, help="Send a message to each SQS queue, to prove the right; it stays there."),
    ]
    needs_bucket = False

    async def work(self, **options: Any) -> int:
        """Print each finding as it comes, and the verdict."""
        if options["send"] and self.settings.sink != "sqs":
            raise ConfigurationError("--send is about SQS, and events go to S3 (STREAMS_SINK=s3).")
        findings: list[Finding] = []
        async with aclosing(examine(self.settings, send=bool(options["send"]))) as found:
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
