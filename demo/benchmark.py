"""The published benchmark that this product answers: 1,000 small JSON messages, each to be an object of its own."""

from __future__ import annotations

from typing import NamedTuple

MESSAGE_COUNT = 1_000
PUBLISHED_PUT_SECONDS = 0.0736
"""What one `put_object` took in the publication: 73.57 s for 1,000, one after the other."""
PUBLISHED_SEND_SECONDS = 0.0341
"""What one message to SQS took there: 34.14 s for 1,000, one after the other."""


class Measurement(NamedTuple):
    """One row of the closing table."""

    system: str
    messages: int
    seconds: float
    verified: int | None = None

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds if self.seconds > 0 else float("inf")


PUBLISHED = (
    Measurement("published, one after another", MESSAGE_COUNT, 73.57),
    Measurement("published, thread pool", MESSAGE_COUNT, 4.93),
)

PUBLISHED_SQS = (
    Measurement("published, one after another", MESSAGE_COUNT, 34.14),
    Measurement("published, thread pool", MESSAGE_COUNT, 2.26),
)


def message(number: int) -> bytes:
    """The published message, byte for byte as `json.dumps` wrote it there."""
    return b'{"message_id": %d, "message_content": "This is message %d"}' % (number, number)
