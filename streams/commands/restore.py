"""`faust -A streams restore`: a range of the archive back into Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from confluent_kafka import KafkaException
from faust.cli import argument, option
from rich.table import Table

from streams.archive.events import is_archived
from streams.archive.lives import ArchivedLife, lives_in_bucket, place_in_bucket
from streams.archive.objects import Archive
from streams.archive.positions import UsageError, parse_selection, parse_time, show_time
from streams.archive.restore import FixedPlan, Outcome, Progress, Restoration, restore_id
from streams.archive.restore_errors import RestoreError, is_denied
from streams.archive.restore_plan import PartitionPlan, Selection, plan_restore, target_problems
from streams.archive.restore_target import RestoreTarget
from streams.archive.target_topic import TargetTopic
from streams.commands.command import EXIT_OK, EXIT_WRONG, StreamsCommand, json_option
from streams.costs import Prices, describe_cost
from streams.kafka.admin import KafkaAdmin, Topic
from streams.kafka.identity import Identity
from streams.layout import PLACES
from streams.record import parts_of_name
from streams.sinks.s3_reader import PAGE_OBJECTS, S3Reader

DAMAGED_SHOWN = 10


class Restore(StreamsCommand):
    """Publish archived events to Kafka again, byte for byte: key, value, headers, timestamp, nulls and order.

    Without --execute nothing is changed: it shows what would be published where, and what that costs. With --execute
    it publishes in transactions which also keep the progress, so that a run that was interrupted goes on where it was
    when the same command is given again: for a consumer that reads committed events, none is missing and none comes
    twice. When all is done, another run says so and publishes nothing.

    \b
    A whole topic, into the same topic of the cluster of the settings (it must exist):
      faust -A streams restore orders
      faust -A streams restore orders --execute
    A later life of the topic, one that was recreated (the plan of orders lists them), into another topic:
      faust -A streams restore orders@AbCdEfGh --to-topic orders-restored --execute
    Offsets 1000 up to (and without) 2000 of one partition into another topic:
      faust -A streams restore orders/0 --from 1000 --to 2000 --to-topic orders-restored --execute
    The events of a morning, at most 500 a second, partitions chosen by key:
      faust -A streams restore orders --since 2026-11-23T08:00 --until 2026-11-23T12:00 \\
        --to-topic replay --repartition --rate 500 --execute

    \b
    Kafka ACLs: WRITE, READ and DESCRIBE on the target topic (DESCRIBE_CONFIGS to check its settings), WRITE on
    transactional ids and READ on groups, both prefixed streams-restore-. S3: s3:ListBucket, s3:GetObject.
    Exit codes: 0 done (or a dry run that found nothing against it), 1 something stands against it or was left out,
    2 it could not be done or checked.
    """

    options = [
        argument("selection", nargs=-1, required=True, metavar="TOPIC[/PARTITION]..."),
        option("--from", "start", type=int, default=0, metavar="OFFSET", help="First offset, of every partition."),
        option("--to", "stop", type=int, default=None, metavar="OFFSET", help="Up to this offset, and without it."),
        option("--since", metavar="TIME", help="Events with this time or later: ISO 8601 (UTC), or 24h for that ago."),
        option("--until", metavar="TIME", help="Events before this time."),
        option("--to-topic", metavar="TOPIC", help="Topic to publish to; the same name unless given."),
        option("--repartition", is_flag=True, help="Let Kafka's partitioner choose by key, as its Java clients do."),
        option("--without-dead-letters", is_flag=True, help="Leave out events that were dead-lettered."),
        option("--execute", is_flag=True, help="Publish. Without it nothing is changed."),
        option("--rate", type=float, default=None, metavar="EVENTS", help="At most so many events a second."),
        option("--parallel", type=int, default=64, show_default=True, metavar="N", help="Objects read at once."),
        option("--id", "identity", metavar="NAME", help="Name of this restore, by which its progress is found."),
        option("--again", is_flag=True, help="Begin anew: everything is published once more."),
        option("--skip-damaged", is_flag=True, help="Leave out events that cannot be read back, and list them."),
        option("--read-all", is_flag=True, help="With --since: also read objects written more than a day before it."),
        option("--accept-append-time", is_flag=True, help="Restore although the topic replaces the timestamps."),
        option("--accept-retention", is_flag=True, help="Restore although the topic's retention deletes such events."),
        option(
            "--accept-time-shift",
            is_flag=True,
            help="Restore events of the time 0 (1970) a millisecond later.",
        ),
        json_option,
    ]

    async def work(self, **options: Any) -> int:
        """Plan, and publish with --execute."""
        selection = self._selection(options)
        topic = options["to_topic"] or parts_of_name(selection.topic)[0]
        identity = options["identity"] or self._identity(options, topic)
        async with S3Reader(self.settings) as reader, RestoreTarget(self.settings, topic) as target:
            restore = Restoration(
                Archive(self.settings, reader),
                target,
                selection,
                identity,
                repartition=options["repartition"],
                rate=options["rate"],
                parallel=options["parallel"],
                skip_damaged=options["skip_damaged"],
                accept_time_shift=options["accept_time_shift"],
            )
            await self._check_name(restore)
            found = await target.describe()
            fixed = None if options["again"] else await self._fixed_plan(restore, execute=options["execute"])
            self.note(f"restore {identity}: {selection.topic} to {topic}")
            if fixed is not None:
                return await self._go_on(restore, found, fixed, execute=options["execute"])
            return await self._begin(restore, found, options)

    def _selection(self, options: dict[str, Any]) -> Selection:
        topic, partitions = parse_selection(options["selection"])
        now = datetime.now(UTC)
        since, until = options["since"], options["until"]
        start, stop = options["start"], options["stop"]
        if start < 0 or (stop is not None and stop <= start):
            raise UsageError("--from and --to are offsets, 0 or above, and --to lies behind --from.")
        if options["parallel"] < 1 or (options["rate"] is not None and options["rate"] <= 0):
            raise UsageError("--parallel and --rate take a number above 0.")
        return Selection(
            topic=topic,
            partitions=partitions,
            start=start,
            stop=stop,
            since_ms=None if since is None else parse_time(since, now),
            until_ms=None if until is None else parse_time(until, now),
            dead_letters=not options["without_dead_letters"],
            read_all=options["read_all"],
        )

    async def _check_name(self, restore: Restoration) -> None:
        """Raises `UsageError` where nothing of that name was ever archived: before anything is said of a target."""
        topic = restore.selection.topic
        if not await is_archived(restore.archive, topic):
            raise UsageError(
                f"the archive holds no event of {topic}. Is the name right (STREAMS_TOPICS={self.settings.topics})? "
                f"Else check {PLACES}."
            )

    async def _fixed_plan(self, restore: Restoration, *, execute: bool) -> FixedPlan | None:
        """What an earlier run has fixed; a dry run goes on where this user may not see that."""
        try:
            return await restore.fixed_plan()
        except RestoreError as error:
            if execute or not is_denied(error):
                raise
            text = f"note: whether an earlier run of this restore has begun is not known: {error}"
            self.notes.print(text, markup=False, soft_wrap=True)
            return None

    def _identity(self, options: dict[str, Any], topic: str) -> str:
        names = ("start", "stop", "since", "until", "repartition", "without_dead_letters", "read_all")
        texts = [*sorted(options["selection"]), *(f"{name}={options[name]}" for name in names)]
        return restore_id(self.settings.s3_bucket, self.settings.s3_prefix, topic, texts)

    async def _begin(self, restore: Restoration, target: TargetTopic, options: dict[str, Any]) -> int:
        with self.progress("listing the archive") as advance:
            plans = await plan_restore(restore.archive, restore.selection, advance)
        problems = target_problems(
            target,
            plans,
            round(datetime.now(UTC).timestamp() * 1000),
            repartition=options["repartition"],
            accept_append_time=options["accept_append_time"],
            accept_retention=options["accept_retention"],
        )
        lives = await self._lives(restore)
        if self.as_json and not (options["execute"] and not problems):
            self.print_json(_plan_document(restore, target, plans, problems, options["repartition"], lives))
        elif not self.as_json:
            self._show_plan(plans, target, options["repartition"])
            await self._tell_lives(restore, lives)
            self._warn(plans, target)
            await self._tell_archived(restore, target)
        for problem in problems:
            self.notes.print(f"cannot be restored: {problem}", markup=False, soft_wrap=True)
        if problems or not any(plan.events for plan in plans):
            if not problems:
                self.notes.print(_nothing(restore), markup=False, soft_wrap=True)
            return EXIT_WRONG
        if not options["execute"]:
            self.note("dry run: nothing was published. Add --execute to publish.")
            return EXIT_OK
        return await self._publish(restore, target, plans, sum(plan.events for plan in plans))

    async def _go_on(self, restore: Restoration, target: TargetTopic, fixed: FixedPlan, *, execute: bool) -> int:
        progress = await restore.progress(fixed.partitions)
        if len(progress) == len(fixed.partitions) and all(known.done for known in progress.values()):
            published = sum(known.published for known in progress.values())
            self.note(f"all done already: {published:,} events are in {target.name}. --again publishes them once more.")
            if self.as_json:
                self.print_json(_result_document(restore, target, [], progress))
            return EXIT_OK
        for partition, known in sorted(progress.items()):
            self.note(
                f"  partition {partition}: {known.published:,} events published, "
                + ("done" if known.done else f"goes on at offset {known.next_offset:,} of {known.stop:,}")
            )
        if not execute:
            self.note("it was interrupted. Add --execute to go on, or --again to begin anew.")
            if self.as_json:
                self.print_json(_result_document(restore, target, [], progress))
            return EXIT_OK
        return await self._publish(restore, target, None, None)

    async def _publish(
        self, restore: Restoration, target: TargetTopic, plans: Sequence[PartitionPlan] | None, total: int | None
    ) -> int:
        began = monotonic()
        with self.progress("publishing", total) as advance:
            outcomes = await restore.run(target, plans, advance)
        seconds = monotonic() - began
        if self.as_json:
            progress = await restore.progress([outcome.partition for outcome in outcomes])
            self.print_json(_result_document(restore, target, outcomes, progress))
        published = sum(outcome.published for outcome in outcomes)
        self.note(
            f"published {published:,} events to {target.name} in {seconds:,.1f} s "
            f"({published / max(seconds, 0.001):,.0f} a second)"
        )
        before = sum(outcome.before for outcome in outcomes)
        if before:
            self.note(f"earlier runs had published {before:,}: {before + published:,} in all")
        if outside := sum(outcome.outside for outcome in outcomes):
            self.note(f"{outside:,} events were read and lie outside of the times")
        damaged = [text for outcome in outcomes for text in outcome.damaged]
        for text in damaged[:DAMAGED_SHOWN]:
            self.notes.print(f"left out: {text}", markup=False, soft_wrap=True)
        if damaged:
            self.notes.print(f"{len(damaged):,} events could not be read back and are not in {target.name}.")
        return EXIT_WRONG if damaged else EXIT_OK

    async def _lives(self, restore: Restoration) -> list[ArchivedLife]:
        """Which topics of this name the bucket holds."""
        archive = restore.archive
        return await lives_in_bucket(archive.reader, archive.layout, parts_of_name(restore.selection.topic)[0])

    async def _tell_lives(self, restore: Restoration, lives: Sequence[ArchivedLife]) -> None:
        """Which of them is restored, how to restore another, and whether Kafka's topic is a different one."""
        name = restore.selection.topic
        chosen = next((life for life in lives if life.name == name), None)
        if len(lives) > 1:
            others = [life.name for life in lives if life is not chosen]
            self.note(
                f"the bucket holds {len(lives)} topics of this name: {'; '.join(life.describe() for life in lives)}. "
                f"This restores {name}; for another: faust -A streams restore {others[0]}"
            )
        elif chosen is not None and chosen.identity is not None:
            self.note(f"this restores {chosen.describe()}")
        identity = await self._identity_of(parts_of_name(name)[0])
        topic_id = None if identity is None else identity.topic_id
        known = None if chosen is None or chosen.identity is None else chosen.identity.topic_id
        if None not in (topic_id, known) and topic_id != known:
            self.note(
                f"note: Kafka's topic {parts_of_name(name)[0]} is another one (id {topic_id}) than the archived one: "
                "it was recreated, or is on another cluster. That is as it should be where a lost topic is restored."
            )

    async def _identity_of(self, topic: str) -> Identity | None:
        """Which topic of this name Kafka has, where it has one and says so."""
        admin = KafkaAdmin(self.settings)
        try:
            cluster_id, found = await admin.cluster_id([topic]), (await admin.topics([topic]))[topic]
        except KafkaException:
            return None
        return Identity(cluster_id, found.identity) if isinstance(found, Topic) else None

    def _show_plan(self, plans: Sequence[PartitionPlan], target: TargetTopic, repartition: bool) -> None:
        table = Table(title=None, box=None, pad_edge=False)
        for column in ("partition", "to", "events", "dead letters", "bytes", "offsets", "without object", "first time"):
            table.add_column(column, justify="left" if column in ("to", "offsets", "first time") else "right")
        for plan in plans:
            table.add_row(
                str(plan.partition),
                f"{target.name}/{'by key' if repartition else plan.partition}",
                f"{plan.events:,}",
                f"{plan.dead_letters:,}",
                f"{plan.size_bytes:,}",
                "-" if plan.first_offset is None else f"{plan.first_offset}-{plan.last_offset}",
                f"{plan.without_object:,}",
                show_time(plan.first_time_ms),
            )
        self.console.print(table)
        events = sum(plan.events for plan in plans)
        listed = events + sum(plan.left_unread for plan in plans)
        requests = {"LIST": len(plans) + listed // PAGE_OBJECTS, "GET": events}
        cost = describe_cost(requests, Prices.of(self.settings))
        self.console.print(f"{events:,} events to read, {cost}", markup=False)

    def _warn(self, plans: Sequence[PartitionPlan], target: TargetTopic) -> None:
        absent = sum(plan.without_object for plan in plans)
        if absent:
            shown = [f"{plan.partition}/{first}-{last - 1}" for plan in plans for first, last in plan.gaps]
            self.note(
                f"note: {absent:,} offsets in between have no object ({', '.join(shown[:5])}"
                f"{', …' if len(shown) > 5 else ''}): `faust -A streams verify` tells whether events are lost."
            )
        if target.settings is None:
            self.note(
                f"note: this user may not see the settings of {target.name} (DESCRIBE_CONFIGS). Check that it has "
                "message.timestamp.type=CreateTime and a retention.ms that keeps the events."
            )
        if target.events:
            self.note(f"note: {target.name} holds up to {target.events:,} events already, which stay where they are.")

    async def _tell_archived(self, restore: Restoration, target: TargetTopic) -> None:
        """What the worker makes of the restored events, where the topic is one of its own."""
        name, pattern = target.name, self.settings.topic_pattern
        if not (pattern.match(name) if pattern else name in self.settings.topic_names):
            return
        identity, archive = await self._identity_of(name), restore.archive
        if identity is not None:
            placed = await place_in_bucket(archive.reader, archive.layout, name, identity)
            if placed.is_held(self.settings.on_new_topic):
                self.note(
                    f"note: STREAMS_TOPICS has {name}, but the worker holds it, for the bucket holds another topic of "
                    "this name: it archives nothing of it, the restored events neither, until you have decided "
                    "(docs/runbooks/topic-recreated.md)."
                )
                return
        self.note(
            f"note: STREAMS_TOPICS has {name}: the worker archives the restored events, too, under their new offsets."
        )


def _nothing(restore: Restoration) -> str:
    return (
        f"the archive holds no event of {restore.selection.topic} in that range. Check the partitions, --from and "
        f"--to, --since, {PLACES}."
    )


def _plan_document(
    restore: Restoration,
    target: TargetTopic,
    plans: Sequence[PartitionPlan],
    problems: Sequence[str],
    repartition: bool,
    lives: Sequence[ArchivedLife],
) -> dict[str, Any]:
    return {
        "restore": restore.name,
        "topic": restore.selection.topic,
        "to_topic": target.name,
        "repartition": repartition,
        "executed": False,
        "events": sum(plan.events for plan in plans),
        "problems": list(problems),
        "lives": [asdict(life) for life in lives],
        "partitions": [asdict(plan) for plan in plans],
    }


def _result_document(
    restore: Restoration, target: TargetTopic, outcomes: Sequence[Outcome], progress: dict[int, Progress]
) -> dict[str, Any]:
    return {
        "restore": restore.name,
        "topic": restore.selection.topic,
        "to_topic": target.name,
        "executed": bool(outcomes),
        "done": all(known.done for known in progress.values()),
        "published": sum(known.published for known in progress.values()),
        "published_now": sum(outcome.published for outcome in outcomes),
        "outside_times": sum(outcome.outside for outcome in outcomes),
        "damaged": [text for outcome in outcomes for text in outcome.damaged],
        "partitions": {str(partition): asdict(known) for partition, known in sorted(progress.items())},
    }
