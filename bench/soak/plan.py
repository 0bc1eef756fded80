"""When which fault comes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST_SHARE = 0.6
"""Of the time to the next fault: the rest is for recovering."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; `seconds` is how long (0: at once)."""

    name: str
    words: str
    seconds: float


FAULTS = (
    Fault("kill", "a worker is killed (`kill -9`) and started again after 5 s", 5),
    Fault("term", "a worker is stopped (SIGTERM) and started again", 0),
    Fault("more", "one worker more", 0),
    Fault("broker-freeze", "the broker that coordinates the group is frozen", 20),
    Fault("s3-503", "S3 answers four of five PUTs with 503 SlowDown", 30),
    Fault("s3-hang", "S3 takes PUTs and never answers", 30),
    Fault("broker-stop", "a broker of three is stopped, so that some partitions have no leader", 45),
    Fault("topic-delete", "a topic is deleted under load, and made again after 20 s", 20),
    Fault("brokers-kill", "all brokers are killed (`kill -9`) and started again after 10 s", 10),
    Fault("s3-reset", "S3 resets every second PUT's connection, half of them after it has stored the object", 30),
    Fault("less", "one worker less (SIGTERM)", 0),
    Fault("coordinator-kill", "the broker that coordinates the group is killed, and started again after 20 s", 20),
    Fault("s3-away", "S3 refuses connections", 60),
    Fault("worker-freeze", "a worker is frozen for longer than its session, and comes back", 20),
    Fault("s3-slow", "each PUT takes 2 s", 30),
    Fault("topic-recreate", "a topic is deleted under load and made again at once", 0),
    Fault("s3-kill", "the S3 server is killed (`kill -9`) and started again after 10 s", 10),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, and when it begins, in seconds after the start of the load.

    A fault may last longer than planned, where a broker or a worker starts slowly: the next one waits until
    `recovery_seconds` after its end.
    """

    at: float
    fault: Fault
    recovery_seconds: float = 0.0


def schedule(
    total_seconds: float, first_seconds: float, every_seconds: float, faults: Sequence[Fault] = FAULTS
) -> list[Planned]:
    """Faults in rotation, each with time to recover from it before the next or the end."""
    planned: list[Planned] = []
    while (at := first_seconds + len(planned) * every_seconds) + every_seconds <= total_seconds:
        fault = faults[len(planned) % len(faults)]
        longest = every_seconds * _LONGEST_SHARE
        shortened = Fault(fault.name, fault.words, min(fault.seconds, longest))
        planned.append(Planned(at, shortened, every_seconds - longest))
    return planned
