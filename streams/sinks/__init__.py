"""Where events go: the contract that every sink keeps, and the choice of the sink.

The contract, in words:

- **Who calls, and when.** `delivery` calls `start` once, before the first event; then `write` once per attempt at an
  event; `write_dead_letter` for an event whose `write` was rejected; `close` once, when nothing is in flight any more.
- **Overlap.** Hundreds to thousands of `write` calls wait at the same time on one event loop, in no order that means
  anything; for a FIFO queue (`Settings.keeps_order`) first attempts begin in the order of their partition. A call may
  be cancelled at any moment; the event is then written again, later or by another worker.
- **Returning means durable.** `write` returns the number of bytes it sent only when the event would survive the loss
  of this worker; its offset may be committed right away.
- **Idempotent.** Writing an event again has the effect of writing it once: same name, same bytes. A queue
  has no names: there it is the same message once more, which a FIFO queue drops within five minutes.
- **No retries inside.** One attempt, one answer. `delivery` retries, so that it sees throttling and can steer by it.
- **Errors.** `RecordRejectedError`: this event can never be written as configured; it goes to the dead letters.
  `SinkUnavailableError`: not now; it is retried with backoff. `SinkRefusedError`: not until somebody mends something;
  it is retried as well, with an alert that carries the error's remedy. When in doubt a sink refuses: a refused event
  waits, a rejected one is set aside. Any other exception is a fault of the sink; the event is retried.
- **Starting needs no network.** A sink whose service is down or whose permissions are wrong starts, and says so when
  it is written to. `start` raises `ConfigurationError` for what no retry can mend.

A sink may also keep the ledger (`streams.ledger`), by having `write_ledger`: the segment is durable when it returns,
under a name that depends on its topic, partition and first offset alone; a second call with the same segment has the
effect of one. `ledger_writer` calls it, one call at a time for each partition, with the same rules for cancelling and
for errors. For a sink without it no ledger is kept.

A sink that AWS sends a bill for says what it has used by having `usage`; nothing is asked of it for an event.

A new technology is one module here (or a few: the S3 and SQS sinks are split by stage), one branch in `make_sink`, and
one row in `tests/conformance`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from streams.costs import Usage
from streams.errors import RecordRejectedError
from streams.ledger import Segment
from streams.record import Record
from streams.settings import Settings
from streams.stats import Stats


class Sink(Protocol):
    """What `delivery` needs of a technology; the module's docstring says what each call promises."""

    async def start(self) -> None:
        """Get ready to write; no network needed. Raises `ConfigurationError`."""

    async def write(self, record: Record) -> int:
        """Make the event durable; returns the bytes that were sent.

        Raises `RecordRejectedError`, `SinkUnavailableError` or `SinkRefusedError`.
        """

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        """Make the rejected event durable with the reason, under a name that depends on its position alone; the name.

        Raises as `write` does.
        """

    async def close(self) -> None:
        """Let go of connections; nothing is in flight any more."""


@runtime_checkable
class LedgerSink(Protocol):
    """A sink that can also keep the ledger."""

    async def write_ledger(self, segment: Segment) -> str:
        """Make the segment durable; returns the name it is kept under. Raises as `Sink.write` does."""


@runtime_checkable
class BilledSink(Protocol):
    """A sink that AWS sends a bill for."""

    def usage(self, stats: Stats) -> Usage:
        """What it has used since its start; `stats` is what `delivery` and `ledger_writer` have counted of it."""


def usage_of(sink: Sink, stats: Stats) -> Usage:
    """What a sink has used, nothing where AWS sends no bill for it."""
    return sink.usage(stats) if isinstance(sink, BilledSink) else Usage()


def make_sink(settings: Settings) -> Sink:
    """The sink that `STREAMS_SINK` names, not started."""
    # Imported here: a sink's libraries are loaded only where it is used.
    if settings.sink == "sqs":
        from streams.sinks.sqs import SqsSink

        return SqsSink(settings)
    from streams.sinks.s3 import S3Sink

    return S3Sink.from_settings(settings)
