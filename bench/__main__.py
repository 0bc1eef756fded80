"""The command line: `python -m bench` measures the published table and sustained throughput, in about 15 minutes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import charts, measure, parts, report, verify_bench
from bench.broker import kafka
from bench.errors import BenchError
from bench.load_server import REPOSITORY
from bench.machine import this_machine
from bench.results import Results, load

_WIDTH_IN_FILES = 140
_RESULTS = REPOSITORY / "bench" / "results"
_DOCUMENT = REPOSITORY / "docs" / "performance.md"
_IMAGES = REPOSITORY / "docs" / "images"


def main() -> int:
    """Run what was asked for; tables go to standard output, and those of full runs to the documentation."""
    arguments = _parser().parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH_IN_FILES)
    exit_code = 0
    if arguments.verify:
        return _verify(arguments, console)
    if arguments.redraw:
        results = load(arguments.redraw)
    else:
        results = Results(this_machine(), time.strftime("%Y-%m-%d %H:%M:%S"), _sizes(arguments).rounds)
        exit_code = _measure(results, arguments, console)
    for tables in report.tables(results).values():
        for table in tables:
            console.print(table.for_console())
    real = not (arguments.quick or arguments.only or arguments.worker_command)
    wanted = real if arguments.docs is None else arguments.docs
    if wanted and exit_code == 0:
        _document(results)
        console.print(f"Written to {_DOCUMENT.relative_to(REPOSITORY)} and {_IMAGES.relative_to(REPOSITORY)}.")
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Without a part: --published and --sustained.")
    part = parser.add_argument_group("parts")
    part.add_argument("--published", action="store_true", help="the published table, beside the worker")
    part.add_argument("--sustained", action="store_true", help="throughput, beside hand-written consumers")
    part.add_argument("--memory", action="store_true", help="memory over ten minutes of 1 KB events, then of 1 MB")
    part.add_argument(
        "--partitions", type=_counts, metavar="4,64,256", help="cost per event over numbers of partitions"
    )
    part.add_argument("--verify", action="store_true", help="time and memory of verify (nothing else is measured then)")
    parser.add_argument("--events", type=int, default=1_000_000, help="objects for --verify (default 1,000,000)")
    parser.add_argument("--list-latency-ms", type=float, default=100.0, help="latency of a LIST for --verify")
    parser.add_argument("--quick", action="store_true", help="small loads, one round: shows that it runs, no more")
    parser.add_argument("--rounds", type=int, help="how often each run is made (default 3; --quick 1)")
    parser.add_argument(
        "--only",
        type=_names,
        default=[],
        metavar="worker-sqs,published-sqs-threads",
        help="only these rows of --published and --sustained",
    )
    parser.add_argument("--max-in-flight", type=int, help="for the worker; without it, its default")
    parser.add_argument("--worker-command", help="a command to run in the worker's place, as one string")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="use this broker instead of starting one")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="measure nothing: show a file of bench/results")
    parser.add_argument(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/performance.md and its pictures (default: unless --quick, --only or --worker-command)",
    )
    return parser


def _sizes(arguments: argparse.Namespace) -> parts.Sizes:
    sizes = parts.QUICK if arguments.quick else parts.Sizes()
    return sizes.with_rounds(arguments.rounds) if arguments.rounds else sizes


def _measure(results: Results, arguments: argparse.Namespace, console: Console) -> int:
    """Run the parts and keep their numbers, those of the parts before a failure too; returns the exit code."""
    try:
        _run_parts(results, arguments, console)
    except BenchError as error:
        console.print(f"[bold red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if report.tables(results):
            console.print(f"Raw numbers: {results.save(_RESULTS).relative_to(REPOSITORY)}")
    return 0


def _run_parts(results: Results, arguments: argparse.Namespace, console: Console) -> None:
    default = not (arguments.published or arguments.sustained or arguments.memory or arguments.partitions)
    with kafka(arguments.kafka) as bootstrap_servers, _progress(console) as progress:
        bench = parts.Bench(
            bootstrap_servers,
            _sizes(arguments),
            _announcer(progress),
            arguments.max_in_flight,
            arguments.worker_command,
            arguments.only,
        )
        if arguments.published or default:
            results.published = parts.published(bench)
        if arguments.sustained or default:
            results.sustained = parts.sustained(bench)
        if arguments.partitions:
            results.partitions = parts.partitions(bench, arguments.partitions)
        if arguments.memory:
            results.memory = parts.memory(bench)


def _verify(arguments: argparse.Namespace, console: Console) -> int:
    """Verify so many objects, with 16 listings at once; nothing is kept."""
    try:
        with kafka(arguments.kafka) as bootstrap_servers:
            events = 20_000 if arguments.quick else arguments.events
            run = verify_bench.measure_verify(bootstrap_servers, events, arguments.list_latency_ms, 16)
    except BenchError as error:
        console.print(f"[bold red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    console.print(verify_bench.table_of([run]))
    return 0


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=2,  # drawing shares the cores with what is measured
        transient=True,
    )


def _announcer(progress: Progress) -> parts.Announce:
    """One line that is used again for every run."""
    task = progress.add_task("starting", total=None)

    def announce(title: str, total: int) -> measure.Progress:
        progress.reset(task, description=title, total=total)
        return lambda done: progress.update(task, completed=done)

    return announce


def _document(results: Results) -> None:
    charts.draw(results, _IMAGES)
    how = f"Measured {results.started[:10]}, {results.rounds} interleaved rounds, medians. {results.machine.describe()}"
    for part, tables in report.tables(results).items():
        report.write_section(_DOCUMENT, part, "\n\n".join([*(table.for_markdown() for table in tables), how]))


def _counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
