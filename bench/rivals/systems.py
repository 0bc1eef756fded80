"""Who is measured: ours, and each rival in its best known configuration, which its title names.

All are told topic, bucket and endpoint by the same `STREAMS_*` and `AWS_*` variables as the worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.baselines import default_thread_count
from bench.contenders import HANDWRITTEN_IN_FLIGHT, Contender, handwritten, worker
from bench.rivals.connect_worker import IN_FLIGHT_PER_TASK, TASKS
from bench.rivals.install import (
    BENTHOS,
    BENTHOS_PART,
    BENTHOS_VERSION,
    CONNECT_PART,
    CONNECT_VERSION,
    QUIX_PART,
    QUIX_PYTHON,
    QUIX_VERSION,
)
from bench.workload import Load
from tests.services.install import Part

OURS = "streams"
REFERENCE = "benthos-tuned"
_CONFIGURATIONS = Path(__file__).resolve().parent / "benthos"


@dataclass(frozen=True, slots=True)
class System:
    """One row: how it is started for a load, and what it takes part in.

    `most_events` bounds a load, by its latency in ms, for those that write one event at a time or a few; they run with
    small events only, and their rate is as good as if they had done all of it.
    """

    name: str
    contender: Callable[[Load], Contender]
    part: Part | None = None
    most_events: Mapping[int, int] = field(default_factory=dict)
    rated: bool = True
    killed: bool = False

    def share(self, load: Load) -> Load | None:
        """What it does of a load, or nothing."""
        if not self.most_events:
            return load
        if load.event_bytes or load.latency_ms not in self.most_events:
            return None
        return replace(load, events=min(load.events, self.most_events[load.latency_ms]))


def systems() -> list[System]:
    """Every row, in the order in which they run and are shown."""
    one_at_a_time = {73: 200, 0: 5_000}
    return [
        System(OURS, _streams, killed=True),
        System("handwritten", _handwritten, killed=True),
        System("benthos", _benthos, BENTHOS_PART, killed=True),
        System(REFERENCE, _benthos_tuned, BENTHOS_PART),
        System("benthos-tuned-1s", _benthos_tuned_often, BENTHOS_PART, rated=False, killed=True),
        System("connect", _connect, CONNECT_PART, killed=True),
        System("quix", _quix, QUIX_PART, one_at_a_time),
        System("published-threads", _published_threads, None, {73: 1_000, 0: 5_000}),
        System("published-sequence", _published_sequence, None, one_at_a_time),
    ]


def _streams(load: Load) -> Contender:
    return replace(worker("obstore"), name=OURS, title="Streams: as shipped")


def _handwritten(load: Load) -> Contender:
    title = f"Hand-written consumer: aiokafka, obstore, uvloop, {HANDWRITTEN_IN_FLIGHT} in flight"
    return replace(handwritten("obstore"), name="handwritten", title=title)


def _benthos(load: Load) -> Contender:
    title = f"Benthos {BENTHOS_VERSION}, as it comes: 64 in flight, commits every 5 s"
    return Contender("benthos", title, _benthos_command("one_output"))


def _benthos_tuned(load: Load) -> Contender:
    """With a latency fifty outputs are best, without one a single output; the garbage collector runs seldom."""
    tuned = {"BENTHOS_IN_FLIGHT": "10", "BENTHOS_THREADS": "1"}
    title = f"Benthos {BENTHOS_VERSION}, tuned"
    if load.latency_ms == 0:
        settings = {**tuned, "GOGC": "800"}
        return Contender(REFERENCE, f"{title}: 10 in flight, GOGC 800", _benthos_command("one_output"), settings)
    settings = {**tuned, "BENTHOS_OUTPUTS": "50", "GOGC": "400"}
    words = f"{title}: 50 outputs of 10 in flight, GOGC 400"
    return Contender(REFERENCE, words, _benthos_command("many_outputs"), settings)


def _benthos_command(configuration: str) -> tuple[str, ...]:
    return str(BENTHOS), "-c", str(_CONFIGURATIONS / f"{configuration}.yaml")


def _benthos_tuned_often(load: Load) -> Contender:
    tuned = _benthos_tuned(load)
    return replace(
        tuned,
        name="benthos-tuned-1s",
        title=f"{tuned.title}, commits every 1 s",
        settings={**tuned.settings, "BENTHOS_COMMIT_PERIOD": "1s"},
    )


def _connect(load: Load) -> Contender:
    return Contender(
        "connect",
        f"Kafka Connect {CONNECT_VERSION}, stand-in sink: {TASKS} tasks of {IN_FLIGHT_PER_TASK} in flight",
        (sys.executable, "-m", "bench.rivals.connect_worker"),
    )


def _quix(load: Load) -> Contender:
    title = f"Quix Streams {QUIX_VERSION}: boto3 in its stream, one after the other"
    return Contender("quix", title, (str(QUIX_PYTHON), "-m", "bench.rivals.quix_worker"))


def _published_threads(load: Load) -> Contender:
    return _published("threads", f"Published design, thread pool: boto3, {default_thread_count()} threads", load)


def _published_sequence(load: Load) -> Contender:
    return _published("sequence", "Published design: boto3, one after the other", load)


def _published(mode: str, title: str, load: Load) -> Contender:
    command = (sys.executable, "-m", "bench.rivals.published_design", mode, "--events", str(load.events))
    return Contender(f"published-{mode}", title, command)
