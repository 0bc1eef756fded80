"""`faust -A streams repair`: write again what verify finds missing."""

from __future__ import annotations

from typing import Any

import click
from faust.cli import option
from rich.table import Table

from streams.commands.command import EXIT_OK, EXIT_UNCHECKED, EXIT_WRONG, StreamsCommand, json_option
from streams.commands.verify import asked_for, range_options, run_verification
from streams.kafka.reader import KafkaReader
from streams.proof.page import describe_ranges
from streams.proof.repair import Pace, PartitionRepair, Repairer, plan_repair, reasons_of, repair_exit_code
from streams.proof.result import count_of, look_elsewhere, topics_without_objects
from streams.proof.verification import Verification
from streams.sinks import make_sink
from streams.sinks.s3_reader import S3Reader


class Repair(StreamsCommand):
    """Write missing events again, from Kafka, while it retains them.

    Verifies first, then writes exactly what is missing (with --content also what is wrong), without touching the
    group's offsets. It may be interrupted and run again. Exit code: 0 when nothing is left missing, 1 when something
    could not be repaired (with --dry-run: when there is something to repair), 2 when it could not be checked.

    \b
    Examples:
      faust -A streams repair --dry-run
      faust -A streams repair --rate 100
      faust -A streams repair --since 24h --content all
    """

    options = [
        *range_options,
        option("--rate", type=click.FloatRange(0.1, 100_000), default=500, show_default=True, help="Events a second."),
        option("--in-flight", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Writes at once."),
        option("--give-up", type=click.FloatRange(0), default=60, show_default=True, help="Seconds to try each event."),
        option("--dry-run", is_flag=True, help="Only show what would be written."),
        json_option,
    ]

    async def work(self, **options: Any) -> int:
        """Verify, write, show."""
        asked, sample = asked_for(options)
        dry_run = options["dry_run"]
        async with KafkaReader(self.settings) as kafka, S3Reader(self.settings) as reader:
            verification = Verification(self.settings, kafka, reader, asked, sample, options["parallel"])
            await run_verification(self, verification)
            repairs = [plan_repair(part) for part in verification.parts]
            wanted = sum(len(one.wanted) for one in repairs)
            if empty := topics_without_objects(verification.parts):
                self.notes.print(f"note: {look_elsewhere(empty)}", markup=False, soft_wrap=True)
            if wanted and not dry_run:
                pace = Pace(options["rate"], options["in_flight"], options["give_up"])
                writer = Repairer(self.settings, kafka, make_sink(self.settings), pace)
                with self.progress("events repaired", wanted) as advance:
                    await writer.run(repairs, advance)
        code = repair_exit_code(verification.verdict_beside_faults, repairs)
        sentence = _sentence(verification, repairs, wanted, dry_run)
        self._show(repairs, sentence, code, dry_run)
        return code

    def _show(self, repairs: list[PartitionRepair], sentence: str, code: int, dry_run: bool) -> None:
        if self.as_json:
            self.print_json(_document(repairs, sentence, code, dry_run))
            return
        if any(one.wanted or one.failures for one in repairs):
            self.console.print(_table(repairs, dry_run))
        colour = {EXIT_OK: "green", EXIT_WRONG: "red"}.get(code, "yellow")
        self.console.print(sentence, style=f"bold {colour}", markup=False, soft_wrap=True)


def _sentence(verification: Verification, repairs: list[PartitionRepair], wanted: int, dry_run: bool) -> str:
    rest, failed = verification.verdict_beside_faults, sum(one.failed for one in repairs)
    if not wanted and not failed:
        return f"NOTHING TO REPAIR. {rest.sentence}"
    unchecked = ""
    if rest.exit_code == EXIT_UNCHECKED:
        unchecked = f" The rest is {rest.status}: `faust -A streams verify` says why."
    could_not = f" {count_of(failed, 'event')} could not be repaired: {_reasons(repairs)}." if failed else ""
    if dry_run:
        return f"DRY RUN: {count_of(wanted, 'event')} would be written again.{could_not}{unchecked}"
    repaired = sum(len(one.repaired) for one in repairs)
    outcome = "REPAIRED" if repaired else "NOT REPAIRED"
    return f"{outcome}: {count_of(repaired, 'event')} written again.{could_not}{unchecked}"


def _reasons(repairs: list[PartitionRepair]) -> str:
    reasons = reasons_of(repairs).most_common()
    more = f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
    return "; ".join(f"{count:,}: {reason}" for reason, count in reasons[:3]) + more


def _table(repairs: list[PartitionRepair], dry_run: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("partition", "to repair" if dry_run else "repaired", "offsets", "could not be repaired"):
        table.add_column(name)
    for one in repairs:
        done = one.wanted if dry_run else one.repaired
        failures = [f"{describe_ranges(offsets.ranges())}: {why}" for why, offsets in one.failures.items()]
        if done or failures:
            offsets = describe_ranges(done.ranges())
            table.add_row(f"{one.topic}/{one.partition}", f"{len(done):,}", offsets, "\n".join(failures[:5]))
    return table


def _document(repairs: list[PartitionRepair], sentence: str, code: int, dry_run: bool) -> dict[str, Any]:
    return {
        "sentence": sentence,
        "exit_code": code,
        "dry_run": dry_run,
        "repaired": sum(len(one.repaired) for one in repairs),
        "failed": sum(one.failed for one in repairs),
        "partitions": [
            {
                "topic": one.topic,
                "partition": one.partition,
                "wanted": list(one.wanted.ranges()),
                "repaired": list(one.repaired.ranges()),
                "failed": [{"reason": why, "ranges": list(found.ranges())} for why, found in one.failures.items()],
            }
            for one in repairs
        ],
    }
