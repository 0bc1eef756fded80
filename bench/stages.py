"""Where an event's time goes: `python -m bench.stages` runs the worker cut off after each stage, and subtracts.

Each run is the worker's own code over the same topic on a real broker, up to a stage: what it uses more than the run
before is what that stage costs. Rounds are interleaved, because the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.broker import kafka
from bench.contenders import Contender, environment
from bench.errors import BenchError
from bench.load_server import REPOSITORY, load_server
from bench.machine import this_machine
from bench.workload import Load, filled_topic

RUN_TIMEOUT_SECONDS = 300
THREADS = ("main", "kafka", "librdkafka", "native")
STAGES = {
    "fetch": "fetch and decode (librdkafka alone)",
    "stream": "handover, watermark, stream, agent, acknowledgement, commits",
    "deliver": "a task for each write, adaptive limit, statistics",
    "render": "object key, metadata, body",
    "put": "the PUT: obstore signs, sends, and wakes the task",
}
_DOCUMENT = REPOSITORY / "docs" / "performance.md"
_BEGIN, _END = "<!-- bench:stages -->", "<!-- /bench:stages -->"

Cost = dict[str, float]
"""CPU in µs of an event, by kind of thread."""


def main() -> int:
    """Measure, print the table, and write it into the documentation unless told not to."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--event-bytes", type=int, default=0, help="0: the published messages, 57 to 67 bytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    load = Load(arguments.events, latency_ms=0, event_bytes=arguments.event_bytes)
    costs: dict[str, list[Cost]] = {stage: [] for stage in STAGES}
    try:
        with kafka(None) as bootstrap_servers, filled_topic(bootstrap_servers, load) as topic:
            for round_number in range(arguments.rounds):
                for stage in STAGES:
                    print(f"round {round_number + 1} of {arguments.rounds}: {stage}", file=sys.stderr, flush=True)
                    costs[stage].append(run(stage, bootstrap_servers, topic, load))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    rows = table_rows({stage: middle(found) for stage, found in costs.items()})
    _show(rows)
    if arguments.docs:
        _document(rows, load, arguments.rounds)
    return 0


def run(stage: str, bootstrap_servers: str, topic: str, load: Load) -> Cost:
    """One run up to a stage; the CPU of an event by kind of thread. Raises `BenchError`."""
    command = ("-m", "bench.stages_fetch") if stage == "fetch" else ("-m", "faust", "-A", "bench.stage_app", "worker")
    with tempfile.TemporaryDirectory(prefix="bench-stage-") as folder, load_server(0) as server:
        contender = Contender("stage", stage, (sys.executable, *command))
        variables = environment(
            contender,
            bootstrap_servers=bootstrap_servers,
            topic=topic,
            group=f"stages-{Path(folder).name}",
            endpoint_url=server.url,
            data_dir=Path(folder),
        )
        variables |= {"BENCH_STAGE": stage, "BENCH_EVENTS": str(load.events), "PYTHONPATH": str(REPOSITORY)}
        finished = subprocess.run(
            contender.command,
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_SECONDS,
            check=False,
        )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    if finished.returncode != 0 or not lines:
        raise BenchError(f"the stage {stage} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    cost: Cost = json.loads(lines[-1])
    return cost


def middle(found: list[Cost]) -> Cost:
    """The median of the rounds, thread by thread."""
    return {thread: median(cost[thread] for cost in found) for thread in THREADS}


def table_rows(costs: dict[str, Cost]) -> list[tuple[str, Cost]]:
    """What each stage adds to the one before it, and the whole at the end."""
    rows: list[tuple[str, Cost]] = []
    before = dict.fromkeys(THREADS, 0.0)
    for stage, cost in costs.items():
        rows.append((STAGES[stage], {thread: cost[thread] - before[thread] for thread in THREADS}))
        before = cost
    return [*rows, ("all of it", before)]


def _show(rows: list[tuple[str, Cost]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stage", "µs", *THREADS):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, cost in rows:
        table.add_row(name, *_numbers(cost))
    Console(width=120).print(table)


def _numbers(cost: Cost) -> list[str]:
    return [f"{sum(cost.values()):.1f}", *(f"{cost[thread]:.1f}" for thread in THREADS)]


def _document(rows: list[tuple[str, Cost]], load: Load, rounds: int) -> None:
    lines = [
        "| stage | µs | main thread | Kafka's thread | librdkafka's threads | S3 client's threads |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join([name, *_numbers(cost)])} |" for name, cost in rows]
    size = f"{load.event_bytes or '57 to 67'} bytes"
    lines += [
        "",
        f"{load.events:,} events of {size}, {load.partitions} partitions, PUTs answered at once, median of {rounds} "
        f"interleaved rounds. {this_machine().describe()}",
    ]
    text = _DOCUMENT.read_text()
    head, tail = text.split(_BEGIN)[0], text.split(_END)[1]
    _DOCUMENT.write_text(f"{head}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{tail}")
    print(f"Written to {_DOCUMENT.relative_to(REPOSITORY)}.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
