"""Whether the bucket holds the topics that Kafka has now, or others of their names: `doctor` on what would be held.

As `verify` compares them; between Kafka and S3, so a section of its own, which says little where one of them is away:
their own sections say why.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import partial
from typing import Final

from confluent_kafka import KafkaException

from streams.archive.lives import NO_IDENTITY_NOTE, Placed, different_ids, place_in_bucket
from streams.doctor.findings import Finding, ok, unchecked, warning, wrong
from streams.doctor.kafka_findings import merged, some_of
from streams.errors import SinkRefusedError, StreamsError
from streams.kafka.admin import KafkaAdmin, Topic
from streams.kafka.identity import Identity
from streams.layout import Layout
from streams.parallel import run_in_parallel
from streams.preflight import matching_topics
from streams.record import name_in_bucket
from streams.settings import Settings
from streams.sinks.s3_reader import S3Reader

CHECK: Final = "kafka topics: identity"
RUNBOOK: Final = "docs/runbooks/topic-recreated.md"
BUCKET_PATIENCE_SECONDS: Final = 10.0
TOPICS_AT_ONCE: Final = 16
REFUSED_NOTE: Final = "topic.json may not be read, or is not there yet (the line s3 GET topic.json tells)"
_UNTOLD: Final = {
    NO_IDENTITY_NOTE: "the bucket does not say which topic its objects are of (no topic.json: nothing is archived yet, "
    "or by an earlier release); the worker takes them for this one's and writes that down"
}


async def examine_identities(settings: Settings) -> AsyncGenerator[Finding, None]:
    """One finding for each topic that Kafka has; those that are well share a line where there are many."""
    try:
        identities = await _identities(settings)
    except (KafkaException, StreamsError):
        yield unchecked(CHECK, "Kafka could not be asked which topics these are (see its lines)")
        return
    try:
        findings = await _findings(settings, identities)
    except StreamsError as error:
        yield unchecked(CHECK, f"the bucket could not be asked which topics it holds (see the lines of s3): {error}")
        return
    for finding in merged(CHECK, findings):
        yield finding


async def _identities(settings: Settings) -> dict[str, Identity]:
    """Of the topics that are there; what is the matter with others is said of them elsewhere."""
    admin, pattern = KafkaAdmin(settings), settings.topic_pattern
    names = list(settings.topic_names)
    if pattern is not None:
        names = matching_topics(pattern, (await admin.cluster()).topics)
    cluster_id = await admin.cluster_id(names)
    found = await admin.topics(names)
    return {name: Identity(cluster_id, one.identity) for name, one in found.items() if isinstance(one, Topic)}


async def _findings(settings: Settings, identities: dict[str, Identity]) -> list[Finding]:
    layout, found = Layout(settings), dict.fromkeys(identities, Placed())
    async with S3Reader(settings, patience_seconds=BUCKET_PATIENCE_SECONDS) as reader:

        async def place(topic: str) -> None:
            try:
                found[topic] = await place_in_bucket(reader, layout, topic, identities[topic])
            except SinkRefusedError as error:
                found[topic] = Placed(note=f"{REFUSED_NOTE}: {error.reason}")

        await run_in_parallel((partial(place, topic) for topic in identities), TOPICS_AT_ONCE)
    told = [identity_finding(topic, identities[topic], one, settings) for topic, one in found.items() if not one.note]
    return [*told, *_untold(found)]


def _untold(found: Mapping[str, Placed]) -> Iterator[Finding]:
    """One line for all topics of which the same is to be said."""
    topics: dict[str, list[str]] = {}
    for topic, placed in found.items():
        if placed.note is not None:
            topics.setdefault(placed.note, []).append(topic)
    for note, names in topics.items():
        yield unchecked(CHECK, f"{_UNTOLD.get(note, note)} ({some_of(names)})")


def identity_finding(topic: str, identity: Identity, placed: Placed, settings: Settings) -> Finding:
    """What a worker makes of a topic with this identity, by what the bucket says of its name."""
    check = f"kafka topic {topic}: identity"
    if placed.other is not None:
        facts = f"the bucket holds another topic of this name ({different_ids(placed.other, identity)})"
        if placed.is_held(settings.on_new_topic):
            facts += " and nothing of this one, so the worker holds it: none of its events is read"
            return wrong(check, facts, _held_remedy(identity))
        own = name_in_bucket(topic, identity.life(identity.tag))
        return warning(
            check,
            f"{facts}; the worker archives this one beside it, under {own} (STREAMS_ON_NEW_TOPIC=new-life)",
            f"Nothing to do if the topic was meant to be recreated; else see {RUNBOOK}.",
        )
    if placed.problem is not None:
        return warning(
            check,
            placed.problem.removeprefix("not verifiable: "),
            f"Events are archived all the same. {RUNBOOK} says what to do (topic_identity_unknown).",
        )
    if placed.life.tag:
        return ok(check, f"a later life (id {identity.topic_id}), under {name_in_bucket(topic, placed.life)}")
    return ok(check, f"the bucket holds this topic (id {identity.topic_id})")


def _held_remedy(identity: Identity) -> str:
    if identity.topic_id is None:
        return f"These brokers give topics no id that names could be made of: {RUNBOOK} says what to do."
    return (
        "To archive it beside the other one, under names with its id, set STREAMS_ON_NEW_TOPIC=new-life and restart; "
        f"{RUNBOOK} has the other ways."
    )
