"""`faust -A streams verify`: is every event in the bucket?"""

from __future__ import annotations

import getpass
import random
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from faust.cli import option
from rich.table import Table

from streams.archive.positions import UsageError, parse_time
from streams.commands.command import EXIT_OK, EXIT_WRONG, StreamsCommand, json_option
from streams.costs import Prices, describe_cost, describe_priced
from streams.errors import ConfigurationError
from streams.kafka.reader import KafkaReader
from streams.proof.content import Sample
from streams.proof.page import describe_ranges, render_page
from streams.proof.report import CHECKSUM, Signature, checksum, make_report
from streams.proof.result import PartitionResult, several
from streams.proof.scope import Asked
from streams.proof.verification import Verification
from streams.sinks.s3_reader import S3Reader

ROWS_SHOWN = 50
LINES_SHOWN = 20


def _since(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.fromtimestamp(parse_time(value, datetime.now(UTC)) / 1000, UTC)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def _content(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "all":
        return value
    if value.isdecimal() and int(value):
        return int(value)
    raise click.BadParameter(f"{value!r} is neither 'all' nor a number of events.")


range_options = [
    option("--topic", "topics", multiple=True, help="Only this topic of STREAMS_TOPICS; may be given again."),
    option("--partition", "partitions", multiple=True, type=click.IntRange(0), help="Only this partition; again, too."),
    option("--from", "from_offset", type=click.IntRange(0), help="First offset, instead of the lowest that is known."),
    option("--since", callback=_since, help="First time, instead: 2026-11-01, 2026-11-01T12:00Z, 24h, 7d."),
    option("--no-ledger", is_flag=True, help="Do not believe the ledger: ask Kafka alone."),
    option("--content", callback=_content, metavar="all|N", help="Compare the bytes, too: of all events, or of N."),
    option("--seed", type=int, help="Draw the same sample for --content N again."),
    option("--parallel", type=click.IntRange(1, 256), default=16, show_default=True, help="Listings at once."),
]


def asked_for(options: dict[str, Any]) -> tuple[Asked, Sample | None]:
    """What the options in common with repair mean; takes them out of `options`. Raises `ConfigurationError`."""
    if options["from_offset"] is not None and options["since"] is not None:
        raise ConfigurationError("give --from or --since, not both.")
    asked = Asked(
        tuple(options.pop("topics")),
        tuple(options.pop("partitions")),
        options.pop("from_offset"),
        options.pop("since"),
        not options.pop("no_ledger"),
    )
    content, seed = options.pop("content"), options.pop("seed")
    if content is None:
        return asked, None
    return asked, Sample(None if content == "all" else content, random.randrange(2**32) if seed is None else seed)


class Verify(StreamsCommand):
    """Prove that every event is in the bucket, offset by offset.

    Looks at each partition from the lowest offset that is known up to the group's committed one. Exit code: 0 when
    everything is proved, 1 when something is missing, wrong or lost, 2 when it could not be checked.

    \b
    Examples:
      faust -A streams verify
      faust -A streams verify --since 24h --json
      faust -A streams verify --topic orders --partition 3 --from 1000000
      faust -A streams verify --content 1000 --report evidence/
      faust -A streams verify --check-report evidence/verify-20261101T120000Z.json
    """

    options = [
        *range_options,
        option("--report", type=click.Path(path_type=Path), help="Keep the report: a directory, or a file (.json)."),
        option("--signed-off-by", help="Who vouches for the report, instead of user@host."),
        option("--check-report", type=click.Path(path_type=Path), help="Only check a report's own checksum."),
        json_option,
    ]

    async def work(self, **options: Any) -> int:
        """Verify, show, keep the report."""
        if (kept := options.pop("check_report")) is not None:
            return self._check_report(kept)
        place: Path | None = options.pop("report")
        _check_place(place)
        signed_off_by = options.pop("signed_off_by") or _who()
        report, verification = await self._verify(signed_off_by, options)
        if self.as_json:
            self.print_json(report)
        else:
            self._show(verification, report)
        if place is not None:
            self._keep(report, place)
        return verification.verdict.exit_code

    async def _verify(self, signed_off_by: str, options: dict[str, Any]) -> tuple[dict[str, Any], Verification]:
        started_at = datetime.now(UTC)
        asked, sample = asked_for(options)
        async with KafkaReader(self.settings) as kafka, S3Reader(self.settings) as reader:
            verification = Verification(self.settings, kafka, reader, asked, sample, options["parallel"])
            estimate = await run_verification(self, verification)
        signature = Signature(signed_off_by, started_at, datetime.now(UTC))
        return make_report(verification, signature, estimate, reader.requests), verification

    def _show(self, verification: Verification, report: dict[str, Any]) -> None:
        self.console.print(result_table(verification.parts))
        for line in remarks(verification.parts)[:LINES_SHOWN]:
            self.console.print(line, markup=False, soft_wrap=True)
        if report["other_objects"]:
            self.console.print(f"other objects among the events: {report['other_objects']:,}", markup=False)
        if verification.sample is not None and verification.sample.events is not None:
            self.console.print(f"the sample's seed: {verification.sample.seed}", markup=False)
        verdict = verification.verdict
        colour = {EXIT_OK: "green", EXIT_WRONG: "red"}.get(verdict.exit_code, "yellow")
        self.console.print(verdict.sentence, style=f"bold {colour}", markup=False, soft_wrap=True)
        self.note(f"It took {describe_priced(report['requests'], report['cost_usd'])}.")

    def _keep(self, report: dict[str, Any], place: Path) -> None:
        file = place
        if place.suffix != ".json":
            file = place / f"verify-{report['made_at'].replace('-', '').replace(':', '')}.json"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            page = file.with_suffix(".html")
            page.write_text(render_page(report), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--report {place}: the report cannot be kept: {error.strerror}.") from error
        self.note(f"The report is in {file} and {page}, SHA-256 {report[CHECKSUM]}.")

    def _check_report(self, file: Path) -> int:
        try:
            report = orjson.loads(file.read_bytes())
            claimed = report[CHECKSUM]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"--check-report {file}: not a report of verify ({error}).") from error
        genuine = claimed == checksum(report)
        if self.as_json:
            self.print_json({"file": str(file), "genuine": genuine, CHECKSUM: claimed})
        elif genuine:
            self.console.print(f"GENUINE: {file} is as it was made, SHA-256 {claimed}.", markup=False, soft_wrap=True)
        else:
            self.console.print(f"CHANGED: {file} is not as it was made.", markup=False, soft_wrap=True)
        return EXIT_OK if genuine else EXIT_WRONG


async def run_verification(command: StreamsCommand, verification: Verification) -> dict[str, int]:
    """Say what it will cost, and do it under a progress bar; the estimate."""
    estimate = await verification.plan()
    requests = {**estimate, "LIST": estimate["LIST"] + verification.reader.requests["LIST"]}
    command.note(
        f"{verification.offsets:,} offsets of {len(verification.parts):,} partitions to check: "
        f"about {describe_cost(requests, Prices.of(command.settings))}."
    )
    with command.progress(
        "offsets listed", verification.offsets if verification.inventory.ordered else None
    ) as advance:
        await verification.run(advance)
    return estimate


def result_table(parts: list[PartitionResult]) -> Table:
    """A row for each partition, those with faults first where there are too many."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("partition", no_wrap=True)
    for name in (
        "offsets",
        "events",
        "objects",
        "dead letters",
        "absent",
        "missing",
        "wrong",
        "lost",
        "not verifiable",
    ):
        table.add_column(name, justify="right")
    table.add_column("status", no_wrap=True)
    shown = parts if len(parts) <= ROWS_SHOWN else sorted(parts, key=lambda part: part.status == "proved")[:ROWS_SHOWN]
    for part in shown:
        colour = {"proved": "green", "nothing to check": "", "not verifiable": "yellow", "not checked": "yellow"}
        numbers = (part.events, part.objects, part.dead_letters)
        offsets = (part.absent, part.missing, part.wrong, part.lost, part.unverifiable)
        table.add_row(
            part.name,
            f"{part.start:,}-{part.stop - 1:,}" if part.start < part.stop else "",
            *(f"{number:,}" for number in numbers),
            *(f"{len(one):,}" for one in offsets),
            part.status,
            style=colour.get(part.status, "red"),
        )
    if len(parts) > len(shown):
        table.caption = f"and {len(parts) - len(shown):,} more partitions (all are in --json and --report)"
    return table


def remarks(parts: list[PartitionResult]) -> list[str]:
    """Which offsets, and what else there is to say, by partition."""
    lines = []
    for part in parts:
        for kind, name in (
            ("missing", "missing"),
            ("wrong", "wrong"),
            ("lost", "lost"),
            ("unverifiable", "not verifiable"),
        ):
            if offsets := getattr(part, kind):
                lines.append(f"{part.name}: {name}: {describe_ranges(offsets.ranges())}")
        lines += [f"{part.name}/{offset}: {what}" for offset, what in part.differences[:5]]
        if part.not_comparable:
            lines.append(f"{part.name}: {part.not_comparable:,} could not be compared: Kafka no longer has them")
    return lines + _notes(parts)


def _notes(parts: list[PartitionResult]) -> list[str]:
    """One line for all partitions of a topic of which the same is to be said."""
    names: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        for note in part.notes:
            names.setdefault((part.place.topic, note), []).append(part.name)
    return [f"{several(topic, found)}: {note}" for (topic, note), found in names.items()]


def _check_place(place: Path | None) -> None:
    """Before the work and not after it."""
    if place is not None and place.suffix not in ("", ".json"):
        raise ConfigurationError(f"--report {place}: give a directory, or a file that ends with .json.")


def _who() -> str:
    user = "unknown"
    with suppress(OSError, KeyError):  # a container's user need not have a name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"
