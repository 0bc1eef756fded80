"""The last errors of a worker, each kind once, with what to do: what the page and `/stats` show of them.

Bounded: one entry for each kind of trouble and reason (and topic, where it is the events' own), and no more than
`MAX_ERRORS`; the one that was seen least recently makes room. Messages are those of the log, which hold no secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import Any, Final

MAX_ERRORS: Final = 20

RETRIED: Final = "retried"
REFUSED: Final = "refused"
DEAD_LETTER: Final = "dead letter"
HELD: Final = "held"
LOST: Final = "lost to retention"
LEDGER_HOLE: Final = "ledger hole"

_REMEDIES: Final = {
    "throttled": "Nothing: it is retried, and the limit of writes in flight adapts. If it lasts, spread the keys over "
    "more prefixes (STREAMS_OBJECT_KEY_TEMPLATE) or ask AWS Support.",
    "server_error": "Nothing: it is retried. If it lasts, look at AWS's health page for the service and region.",
    "timeout": "Nothing: it is retried. If it lasts, check the network between this worker and the sink, and raise the "
    "request timeout where events are large.",
    "connection": "Check that this worker reaches the sink: endpoint, name resolution, security group, proxy. It is "
    "retried until then.",
    "credentials_expired": "Nothing: credentials are renewed and it is retried. If it lasts, check who issues them.",
    "conflict": "Nothing: it is retried.",
    "internal": "This is a fault of the product or of a library: the log has its traceback. The event is retried.",
    "key_template": "Change STREAMS_OBJECT_KEY_TEMPLATE or the events, restart, then run `faust -A streams redrive`.",
    "key_too_long": "Shorten what STREAMS_OBJECT_KEY_TEMPLATE makes of such events, restart, then run "
    "`faust -A streams redrive`.",
    "too_large": "The sink takes no event of this size: make the events smaller. Its dead letter holds all of it.",
    "invalid_request": "The sink will never take this event as configured: the message says why. Mend that, then run "
    "`faust -A streams redrive`.",
}
_HELD_REMEDY: Final = "Mend the cause (or set STREAMS_ON_REJECT=dead-letter) and restart the worker."
_LOST_REMEDY: Final = "Raise the topic's retention.ms or retention.bytes, and let the worker keep up."
_LEDGER_REMEDY: Final = (
    "Run `faust -A streams verify --report` while Kafka still has these events, and allow s3:PutObject under "
    "STREAMS_LEDGER_PREFIX. The events themselves are not affected."
)
_UNKNOWN_REMEDY: Final = "The message says what is wrong; docs/operations.md says what to look at."


@dataclass(slots=True)
class RecentError:
    """One kind of trouble: how often, and where it was seen last."""

    kind: str
    """`retried`, `refused`, `dead letter`, `held`, `lost to retention` or `ledger hole`."""
    reason: str
    topic: str
    partition: int | None
    offset: int | None
    message: str
    remedy: str
    count: int
    first_at: float
    last_at: float

    def document(self) -> dict[str, Any]:
        """As `/stats` shows it; times in seconds since the epoch."""
        return {
            "kind": self.kind,
            "reason": self.reason,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "message": self.message,
            "remedy": self.remedy,
            "count": self.count,
            "first_time": round(self.first_at, 3),
            "last_time": round(self.last_at, 3),
        }


class RecentErrors:
    """What went wrong of late; noting an error costs a look into a small dictionary.

    The consumer's thread notes errors, too, so nothing here goes over the dictionary itself, only over copies.
    """

    def __init__(self) -> None:
        self._errors: dict[tuple[str, str, str], RecentError] = {}

    def note(
        self,
        kind: str,
        reason: str,
        message: str,
        *,
        topic: str,
        partition: int | None = None,
        offset: int | None = None,
        remedy: str | None = None,
        count: int = 1,
    ) -> None:
        """Count an error and remember it as the last of its kind."""
        now = time()
        kinds = (kind, reason, "" if kind in (RETRIED, REFUSED) else topic)  # the sink's troubles are all topics'
        known = self._errors.pop(kinds, None)
        remedy = remedy or _remedy(kind, reason)
        self._errors[kinds] = RecentError(
            kind,
            reason,
            topic,
            partition,
            offset,
            _without_ends(message, reason, remedy),
            remedy,
            count + (known.count if known else 0),
            known.first_at if known else now,
            now,
        )
        if len(self._errors) > MAX_ERRORS:
            self._errors.pop(next(iter(list(self._errors))), None)

    def remedy(self, reason: str) -> str:
        """What to do about a sink's trouble that was noted."""
        known = self._errors.get((REFUSED, reason, "")) or self._errors.get((RETRIED, reason, ""))
        return known.remedy if known else _remedy(RETRIED, reason)

    def documents(self) -> list[dict[str, Any]]:
        """All of them, the latest first."""
        return [error.document() for error in reversed(list(self._errors.values()))]


def _remedy(kind: str, reason: str) -> str:
    if kind == HELD:
        return _HELD_REMEDY
    if kind == LEDGER_HOLE:
        return _LEDGER_REMEDY
    return _LOST_REMEDY if kind == LOST else _REMEDIES.get(reason, _UNKNOWN_REMEDY)


def _without_ends(message: str, reason: str, remedy: str) -> str:
    """What is shown beside the message anyway need not be in it."""
    return message.removeprefix(f"{reason}: ").removesuffix(remedy).strip()
