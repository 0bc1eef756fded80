"""`faust -A streams redrive`: what is in the dead letters, and another try for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from faust.cli import option
from rich.table import Table

from streams.archive.objects import Archive
from streams.archive.positions import UsageError
from streams.archive.redrive import FoundLetter, LetterSummary, Redriven, Redriver, find_letters, place_of
from streams.commands.command import EXIT_OK, EXIT_WRONG, StreamsCommand, json_option
from streams.record import parts_of_name
from streams.sinks import make_sink
from streams.sinks.s3_reader import S3Reader

SHOWN = 10
DETAIL_CHARACTERS = 200


class Redrive(StreamsCommand):
    """List dead letters with their reasons, and write their events again once the cause is mended.

    Without --execute nothing is changed. With it each event is written with the settings as they are now, by the
    worker's own sink, and its dead letter is deleted after that; what is rejected again stays in the dead letters as
    it is. It can be interrupted at any moment, and run again. Only the topics of STREAMS_TOPICS are looked at, unless
    --topic names another: a bucket may hold dead letters of other workers.

    \b
    What is there, and why:
      faust -A streams redrive
      faust -A streams redrive --list --topic orders
    After the template was mended:
      faust -A streams redrive --reason key_template --execute
    Try ten of them first, and keep their dead letters:
      faust -A streams redrive --limit 10 --keep --execute

    \b
    S3: s3:ListBucket, s3:GetObject; with --execute also s3:PutObject, and s3:DeleteObject on the dead letters.
    Exit codes: 0 no dead letters (or all were redriven), 1 there are some (or some are left), 2 could not check.
    """

    options = [
        option("--topic", metavar="TOPIC", help="Only this topic's (a later life's: orders@TAG), ours or not."),
        option("--reason", metavar="REASON", help="Only those with this reason, such as key_template."),
        option("--limit", type=int, default=None, metavar="N", help="At most so many."),
        option("--list", "each", is_flag=True, help="One line for each dead letter."),
        option("--execute", is_flag=True, help="Write the events, and delete the dead letters."),
        option("--keep", is_flag=True, help="With --execute: keep the dead letters."),
        option("--rate", type=float, default=None, metavar="EVENTS", help="At most so many events a second."),
        json_option,
    ]

    async def work(self, **options: Any) -> int:
        """List, and write with --execute."""
        if (options["limit"] or 1) < 1 or (options["rate"] is not None and options["rate"] <= 0):
            raise UsageError("--limit and --rate take a number above 0.")
        summary = LetterSummary()
        async with S3Reader(self.settings) as reader:
            archive = Archive(self.settings, reader)
            letters = self._letters(archive, summary, options)
            if options["execute"]:
                return await self._redrive(archive, letters, summary, options)
            with self.progress("reading dead letters") as advance:
                async for _ in letters:
                    advance(1)
        if self.as_json:
            self.print_json(_document(summary, None))
        else:
            self._show(summary, self._where(archive, options))
        return EXIT_WRONG if len(summary) else EXIT_OK

    async def _letters(
        self, archive: Archive, summary: LetterSummary, options: dict[str, Any]
    ) -> AsyncIterator[FoundLetter]:
        async for found in find_letters(
            archive,
            self._is_ours,
            topic=options["topic"],
            reason=options["reason"],
            limit=options["limit"],
        ):
            summary.add(found)
            if options["each"] and not self.as_json:
                self.console.print(_line(found), markup=False, soft_wrap=True)
            yield found

    def _is_ours(self, topic: str) -> bool:
        topic, pattern = parts_of_name(topic)[0], self.settings.topic_pattern
        return bool(pattern.match(topic)) if pattern else topic in self.settings.topic_names

    async def _redrive(
        self, archive: Archive, letters: AsyncIterator[FoundLetter], summary: LetterSummary, options: dict[str, Any]
    ) -> int:
        sink = make_sink(self.settings)
        async with Redriver(self.settings, archive, sink, keep=options["keep"], rate=options["rate"]) as redriver:
            with self.progress("redriving") as advance:
                result = await redriver.redrive(letters, advance)
        if self.as_json:
            self.print_json(_document(summary, result))
        else:
            if not len(summary):
                self.note(self._where(archive, options))
            self._show_result(summary, result, keep=options["keep"])
        return EXIT_OK if result.all_well and not summary.unreadable else EXIT_WRONG

    def _where(self, archive: Archive, options: dict[str, Any]) -> str:
        """That nothing was found, and where and for what it was looked."""
        prefix = archive.layout.dead_letter_prefix(options["topic"])
        topics = "" if options["topic"] else f" of the topics {self.settings.topics}"
        reason = f" with the reason {options['reason']}" if options["reason"] else ""
        return (
            f"no dead letters{topics}{reason} under s3://{self.settings.s3_bucket}/{prefix} (STREAMS_S3_BUCKET, "
            "STREAMS_DEAD_LETTER_PREFIX)"
        )

    def _show(self, summary: LetterSummary, nothing: str) -> None:
        if not len(summary):
            self.note(nothing)
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("topic", overflow="fold")
        table.add_column("reason", no_wrap=True)
        table.add_column("events", justify="right", no_wrap=True)
        for column in ("first", "last", "for example"):
            table.add_column(column, overflow="fold")
        for group in summary.groups:
            table.add_row(
                group.topic,
                group.reason,
                f"{group.count:,}",
                group.first.removeprefix(f"{group.topic}/"),
                group.last.removeprefix(f"{group.topic}/"),
                group.detail[:DETAIL_CHARACTERS],
            )
        self.console.print(table, markup=False)
        self._show_unreadable(summary)
        self.note("mend the cause, then write them again with --execute")

    def _show_result(self, summary: LetterSummary, result: Redriven, *, keep: bool) -> None:
        deleted = "kept" if keep else "deleted"
        self.console.print(f"{len(result.written):,} events written, their dead letters {deleted}", markup=False)
        for what, lines in (
            ("still rejected", result.still_rejected),
            ("could not be written", result.failed),
            ("written, but the dead letter could not be deleted", result.not_deleted),
        ):
            if lines:
                self.console.print(f"{len(lines):,} {what}:", markup=False)
            for name, problem in lines[:SHOWN]:
                self.console.print(f"  {name}: {problem}", markup=False, soft_wrap=True)
        self._show_unreadable(summary)
        if result.failed:
            self.note("stopped there: the rest was not tried. Run it again when that is mended.")

    def _show_unreadable(self, summary: LetterSummary) -> None:
        if summary.unreadable:
            self.console.print(f"{len(summary.unreadable):,} dead letters cannot be read, and stay:", markup=False)
        for found in summary.unreadable[:SHOWN]:
            self.console.print(f"  {found.problem}", markup=False, soft_wrap=True)


def _line(found: FoundLetter) -> str:
    if found.letter is None:
        return f"{found.object_key}  unreadable  {found.problem}"
    return f"{place_of(found.letter.record)}  {found.letter.reason}  {found.letter.detail}"


def _document(summary: LetterSummary, result: Redriven | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "dead_letters": len(summary),
        "groups": [asdict(group) for group in summary.groups],
        "unreadable": [{"object_key": found.object_key, "problem": found.problem} for found in summary.unreadable],
    }
    if result is not None:
        document["result"] = asdict(result)
    return document
