"""The report of a verification, as evidence: what was checked, how, by whom, with what result, its checksum. Pure.

The checksum is the SHA-256 of the canonical JSON (keys sorted, no spaces) of everything else in the report; whoever
keeps it elsewhere can tell later that the report was not changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from streams import __version__
from streams.costs import Prices, cost_usd
from streams.offset_set import OffsetSet
from streams.proof.result import PartitionResult
from streams.proof.verification import Verification
from streams.settings import Settings

FORMAT_VERSION: Final = 1
ABSENT_RANGES_SHOWN: Final = 1000
"""A topic with transactions has one for each of them; of all that needs somebody's attention every range is there."""
CHECKSUM: Final = "sha256"
OFFSET_KINDS: Final = ("absent", "missing", "repairable", "wrong", "lost", "unverifiable")
SETTINGS_SHOWN: Final = (
    "s3_bucket",
    "s3_prefix",
    "s3_endpoint_url",
    "object_key_template",
    "dead_letter_prefix",
    "ledger_prefix",
    "body",
    "topics",
    "consumer_group",
    "kafka_bootstrap_servers",
)


class Signature(NamedTuple):
    """Who vouches for the report, and when it was made."""

    signed_off_by: str
    started_at: datetime
    made_at: datetime


def make_report(
    verification: Verification, signature: Signature, estimate: Mapping[str, int], requests: Mapping[str, int]
) -> dict[str, Any]:
    """The whole report as JSON can hold it, with its checksum."""
    verdict = verification.verdict
    report: dict[str, Any] = {
        "report": "streams verify",
        "format": FORMAT_VERSION,
        "verdict": verdict.status,
        "exit_code": verdict.exit_code,
        "sentence": verdict.sentence,
        "signed_off_by": signature.signed_off_by,
        "started_at": _time(signature.started_at),
        "made_at": _time(signature.made_at),
        "product": f"streams {__version__}",
        "settings": _settings(verification.settings),
        "asked": _asked(verification),
        "method": describe_method(verification),
        "requests": dict(requests),
        "cost_usd": round(cost_usd(requests, Prices.of(verification.settings)), 6),
        "estimated_requests": dict(estimate),
        "totals": _totals(verification.parts),
        "other_objects": verification.inventory.other_objects,
        "partitions": [partition_document(part) for part in verification.parts],
    }
    return {**report, CHECKSUM: checksum(report)}


def checksum(report: Mapping[str, Any]) -> str:
    """What `sha256` of this report must be."""
    rest = {name: value for name, value in report.items() if name != CHECKSUM}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def describe_method(verification: Verification) -> list[str]:
    """What was done, in sentences."""
    settings, asked, sample = verification.settings, verification.asked, verification.sample
    steps = [
        f"The offsets that the group {settings.consumer_group} had committed were read first; every offset from a "
        "partition's beginning (see its range) up to the committed one was accounted for.",
        "Kafka's id of each topic was compared with the one that the bucket's objects were written for (topic.json).",
        "Objects and dead letters in the bucket were listed; topic, partition and offset are in their keys.",
        "Of offsets without an object the ledger says whether their event was made durable, was lost to retention, or "
        "never existed."
        if asked.ledger
        else "The ledger was not believed (--no-ledger).",
        "Of those that the ledger does not cover, the broker was asked (read_committed): what it delivers is missing, "
        "what it does not deliver never was an event. What Kafka no longer retains and no ledger covers is not "
        "verifiable.",
        "Whether Kafka still has a missing event was found by reading it.",
    ]
    if sample is None:
        return [*steps, "Contents were not compared: an object of the right name counts as its event."]
    which = "All events" if sample.events is None else f"A sample of {sample.events:,} events (seed {sample.seed})"
    return [
        *steps,
        f"{which} that Kafka still retains were read from Kafka and from the bucket, and compared whole: key, value, "
        "headers, timestamp and its type.",
    ]


def partition_document(part: PartitionResult) -> dict[str, Any]:
    """The result of one partition; ranges are [first offset, offset behind the last]."""
    return {
        "topic": part.topic,
        "partition": part.partition,
        "name_in_bucket": part.place.topic,
        "topic_id": part.life.topic_id,
        "cluster_id": part.life.cluster_id,
        "status": part.status,
        "from": part.start,
        "to": part.stop,
        "kafka_earliest": part.earliest,
        "kafka_end": part.end,
        "events": part.events,
        "objects": part.objects,
        "dead_letters": part.dead_letters,
        **{kind: _offsets(getattr(part, kind)) for kind in OFFSET_KINDS if kind != "absent"},
        "absent": _offsets(part.absent, ABSENT_RANGES_SHOWN),
        "differences": [{"offset": offset, "what": what} for offset, what in part.differences],
        "compared": part.compared,
        "not_comparable": part.not_comparable,
        "problem": part.problem,
        "notes": part.notes,
    }


def _totals(parts: Sequence[PartitionResult]) -> dict[str, int]:
    totals = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("events", "objects", "dead_letters", "compared", "not_comparable")
    }
    return totals | {kind: sum(len(getattr(part, kind)) for part in parts) for kind in OFFSET_KINDS}


def _offsets(offsets: OffsetSet, most: int | None = None) -> dict[str, Any]:
    ranges = [[start, stop] for start, stop in islice(offsets.ranges(), most)]
    shown = sum(stop - start for start, stop in ranges)
    left_out = {} if shown == len(offsets) else {"offsets_left_out": len(offsets) - shown}
    return {"count": len(offsets), "ranges": ranges, **left_out}


def _settings(settings: Settings) -> dict[str, Any]:
    """Those that decide what was looked at and where; none of them is a secret."""
    return {f"STREAMS_{name.upper()}": getattr(settings, name) for name in SETTINGS_SHOWN}


def _asked(verification: Verification) -> dict[str, Any]:
    asked, sample = verification.asked, verification.sample
    return {
        "topics": list(asked.topics),
        "partitions": list(asked.partitions),
        "from": asked.from_offset,
        "since": None if asked.since is None else _time(asked.since),
        "ledger": asked.ledger,
        "content": None if sample is None else "all" if sample.events is None else sample.events,
        "seed": None if sample is None or sample.events is None else sample.seed,
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
